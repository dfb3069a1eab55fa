"""Every error has a gRPC status."""

import grpc
import pytest

from misgiving.runtime import errors
from misgiving.runtime.net.status import status_of

CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, Exception)
]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_has_a_status_and_a_place_in_the_tree(kind: type[Exception]) -> None:
    assert issubclass(kind, errors.MisgivingError)
    assert kind.__name__ in (errors.__doc__ or "")
    assert status_of(kind("said"))[0] is not grpc.StatusCode.OK
    assert status_of(kind("said"))[1] == "said"


def test_an_unexpected_error_is_internal_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    code, message = status_of(ZeroDivisionError("secret\npath"))
    assert code is grpc.StatusCode.INTERNAL
    assert "ZeroDivisionError" in message
    assert "secret" not in message
    assert "secret" in caplog.text
