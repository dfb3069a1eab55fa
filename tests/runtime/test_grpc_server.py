"""Requests that are no protobuf: a status that says so, and one line in the log."""

import logging
import socket
import threading
from collections.abc import Iterator

import grpc
import pytest

from misgiving.runtime.net import grpc_server
from misgiving.runtime.net.room import Limits
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1.detector_pb2_grpc import FailureDetectorStub
from shared.serving import BLACK, DEADLINE_S, Requests, Running, serving, wire_frame

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


def test_headers_beyond_16_kib_are_refused(running: Running) -> None:
    ask = FailureDetectorStub(running.channel).GetModel
    with pytest.raises(grpc.RpcError) as caught:
        ask(wire.GetModelRequest(), metadata=[("x", "a" * (1 << 15))])
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert ask(wire.GetModelRequest()).model.name


def test_a_flood_of_them_is_one_counted_line(caplog: pytest.LogCaptureFixture) -> None:
    with serving() as running, caplog.at_level(logging.INFO):
        for _ in range(20):
            refusal(running, f"{DETECTOR}/Infer", b"\xff")
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]
    assert len(said) == 1
    assert said[0].startswith("request no. 1 that is no message, from ipv4:127.0.0.1:")


def test_a_client_that_pings_every_ten_seconds_is_not_hung_up_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a tenth of the time. gRPC's default hangs up at the third ping of an idle stream within
    five minutes."""
    ours = dict(grpc_server.OPTIONS)
    ours["grpc.http2.min_ping_interval_without_data_ms"] //= 10
    monkeypatch.setattr(grpc_server, "OPTIONS", tuple(ours.items()))
    options = [("grpc.keepalive_time_ms", 1_000), ("grpc.http2.max_pings_without_data", 0)]
    with serving() as running, grpc.insecure_channel(running.address, options) as channel:
        requests = Requests(wire.STREAM_MODE_LIVE)
        requests.put(frame=wire_frame(BLACK))
        replies = FailureDetectorStub(channel).StreamInfer(iter(requests))
        closing = threading.Timer(4, requests.close)  # the third ping comes after 3
        closing.start()
        assert [reply.WhichOneof("message") for reply in replies] == ["result", "summary"]
        closing.join()


def connected(running: Running) -> socket.socket:
    host, _, port = running.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=DEADLINE_S)


def hung_up(connection: socket.socket) -> bool:
    """Whether the server ends a connection that says nothing; waits for it."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


def test_connections_are_bounded() -> None:
    with serving(limits=Limits(connections=3)) as running:
        FailureDetectorStub(running.channel).GetModel(wire.GetModelRequest())
        silent = [connected(running) for _ in range(5)]
        assert all(hung_up(one) for one in silent[2:])
        ask = FailureDetectorStub(running.channel).GetModel
        assert ask(wire.GetModelRequest()).model.name
        for one in silent:
            one.close()

        def another_is_answered() -> bool:
            with grpc.insecure_channel(running.address, [("another", 1)]) as channel:
                ask = FailureDetectorStub(channel).GetModel
                return bool(ask(wire.GetModelRequest(), wait_for_ready=True, timeout=DEADLINE_S))

        assert another_is_answered()


def test_a_connection_that_says_nothing_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a hundredth of the time."""
    ours = dict(grpc_server.OPTIONS)
    ours["grpc.server_handshake_timeout_ms"] //= 100
    monkeypatch.setattr(grpc_server, "OPTIONS", tuple(ours.items()))
    with serving() as running, connected(running) as silent:
        assert hung_up(silent)
