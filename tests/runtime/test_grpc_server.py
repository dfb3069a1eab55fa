"""Requests that are no protobuf: a status that says so and one line in the log, of every service."""

import logging
from collections.abc import Iterator

import grpc
import pytest

from runtime.serving import Running, serving

NO_PROTOBUF = (b"\xff\xff", b"\x00", b'{"frame": 1}', b"\x0a\xff")
DETECTOR = "/misgiving.v1.FailureDetector"
METHODS = {
    f"{DETECTOR}/Infer": False,
    f"{DETECTOR}/GetModel": False,
    f"{DETECTOR}/StreamInfer": True,
    "/grpc.health.v1.Health/Check": False,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": True,
}


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with serving() as server:
        yield server


def refusal(running: Running, method: str, body: bytes) -> grpc.RpcError:
    def ask() -> None:
        if METHODS[method]:
            list(running.channel.stream_stream(method)(iter([body])))
        else:
            running.channel.unary_unary(method)(body)

    with pytest.raises(grpc.RpcError) as caught:
        ask()
    return caught.value


@pytest.mark.parametrize("method", METHODS)
def test_bytes_that_are_no_message(
    running: Running, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    for body in NO_PROTOBUF:
        error = refusal(running, method, body)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert error.details().startswith(f"{len(body)} bytes are no message of this call; expect")
    assert not [record for record in caplog.records if record.exc_info]


def test_a_flood_of_them_is_one_counted_line(caplog: pytest.LogCaptureFixture) -> None:
    with serving() as running, caplog.at_level(logging.INFO):
        for _ in range(20):
            refusal(running, f"{DETECTOR}/Infer", b"\xff")
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]
    assert len(said) == 1
    assert said[0].startswith("request no. 1 that is no message, from ipv4:127.0.0.1:")


def test_a_client_that_pings_every_ten_seconds_is_not_hung_up_on() -> None:
    """gRPC's own default answers GOAWAY to the third ping of an idle stream within 5 minutes."""
    from misgiving.runtime.grpc_server import OPTIONS

    assert dict(OPTIONS)["grpc.http2.min_recv_ping_interval_without_data_ms"] <= 10_000
