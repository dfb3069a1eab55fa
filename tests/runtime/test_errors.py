"""Every error has its gRPC status, in its class and over the wire."""

from collections.abc import Iterator

import grpc
import pytest

from misgiving.runtime import errors
from misgiving.v1 import detector_pb2 as wire
from shared.serving import Requests, Running, infer, named, serving
from shared.tiny import policy

STATUS = {
    "MisgivingError": "INTERNAL",
    "InvalidInput": "INVALID_ARGUMENT",
    "ImageError": "INVALID_ARGUMENT",
    "RegionError": "INVALID_ARGUMENT",
    "NotFound": "NOT_FOUND",
    "DataError": "INVALID_ARGUMENT",
    "InUse": "INVALID_ARGUMENT",
    "ResourceExhausted": "RESOURCE_EXHAUSTED",
    "FailedPrecondition": "FAILED_PRECONDITION",
    "BundleError": "FAILED_PRECONDITION",
    "EngineError": "FAILED_PRECONDITION",
    "ParityError": "FAILED_PRECONDITION",
}
CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, Exception)
}


class Failing:
    """Draws for the audit sample, none of which comes."""

    error: Exception

    def __call__(self) -> float:
        raise self.error


@pytest.fixture(scope="module")
def failing() -> Failing:
    return Failing()


@pytest.fixture(scope="module")
def server(failing: Failing) -> Iterator[Running]:
    with serving(policy=policy(threshold=2.0, audit_rate=0.5), draw=failing) as running:
        yield running


def test_the_table_has_every_class() -> None:
    assert CLASSES.keys() == STATUS.keys()
    assert all(issubclass(kind, errors.MisgivingError) for kind in CLASSES.values())
    assert all(name in (errors.__doc__ or "") for name in CLASSES)


@pytest.mark.parametrize(("name", "status"), STATUS.items())
def test_every_error_has_its_status(
    name: str, status: str, server: Running, failing: Failing
) -> None:
    failing.error = CLASSES[name]("said")
    with pytest.raises(grpc.RpcError) as caught:
        infer(server, named("a"))
    assert (caught.value.code().name, caught.value.details()) == (status, "said")
    requests = Requests(wire.STREAM_MODE_IN_ORDER)
    requests.put(frame=named("b"))
    requests.close()
    answer, _ = server.stub.StreamInfer(iter(requests))
    number, _ = grpc.StatusCode[status].value
    assert answer.error == wire.FrameError(frame_id="b", code=number, message="said")


def test_an_unexpected_error_is_internal_and_logged(
    server: Running, failing: Failing, caplog: pytest.LogCaptureFixture
) -> None:
    failing.error = ZeroDivisionError("secret\npath")
    with pytest.raises(grpc.RpcError) as caught:
        infer(server, named("a"))
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "ZeroDivisionError" in caught.value.details()
    assert "secret" not in caught.value.details()
    assert "secret" in caplog.text
