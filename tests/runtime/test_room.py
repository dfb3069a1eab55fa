"""Messages that are under way together are bounded before gRPC reads them."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray

from misgiving.runtime.errors import ResourceExhausted
from misgiving.runtime.net.room import Held, Limits, Room
from misgiving.v1 import detector_pb2 as wire
from shared.collecting import eventually
from shared.serving import DEADLINE_S, Gated, Requests, Running, infer, named, serving

SMALL = np.zeros((48, 64, 3), np.uint8)
MIB = 1 << 20


def http2_frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


HEADERS = {
    ":method": "POST",
    ":scheme": "http",
    ":path": "/misgiving.v1.FailureDetector/Infer",
    ":authority": "x",
    "content-type": "application/grpc",
    "te": "trailers",
}
BEGUN = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + http2_frame(4, 0, 0)
BEGUN += http2_frame(
    1,
    4,
    1,
    b"".join(
        b"\0" + bytes([len(key)]) + key.encode() + bytes([len(value)]) + value.encode()
        for key, value in HEADERS.items()
    ),
)
BEGUN += http2_frame(0, 0, 1, b"\0\0\0\0\x64" + bytes(10))
"""A call by HTTP/2 that has sent a tenth of its message, which has 100 bytes."""


def room(in_flight: int, message: int = 10, kept: int = 0, wait_s: float = DEADLINE_S) -> Room:
    limits = Limits(message_bytes=message, in_flight_bytes=in_flight, kept=kept, wait_s=wait_s)
    return Room(limits)


def test_what_never_fits_is_refused_at_once_and_holds_nobody_up() -> None:
    async def scene() -> None:
        one = room(30)
        await one.take(20)
        with pytest.raises(ResourceExhausted, match="take 31 bytes; at most 30 are taken of all"):
            await asyncio.wait_for(one.take(31), DEADLINE_S / 2)
        with pytest.raises(ResourceExhausted, match="take 31 bytes; at most 30 are taken of all"):
            await asyncio.wait_for(one.take(11, 20), DEADLINE_S / 2)
        await one.take(10)

    asyncio.run(scene())


def test_room_is_given_first_come_first_served() -> None:
    async def scene() -> list[str]:
        one, came = room(30), []

        async def ask(name: str, size: int) -> None:
            await one.take(size)
            came.append(name)

        await ask("first", 20)
        asking = [asyncio.create_task(ask(*it)) for it in (("large", 25), ("small", 5), ("x", 5))]
        await asyncio.sleep(0)
        assert (came, one.taken) == (["first"], 20)
        asking[0].cancel()  # whoever leaves lets the next ones pass
        await asyncio.wait(asking)
        assert (came, one.taken) == (["first", "small", "x"], 30)
        return came

    asyncio.run(scene())


def test_who_finds_no_room_in_time_is_told() -> None:
    async def scene() -> None:
        one = room(30, wait_s=0.0)
        await one.take(30)
        with pytest.raises(
            ResourceExhausted, match="messages take 30 bytes, .* at most 30"
        ) as told:
            await one.take(1)
        assert told.value.retry_after_ms
        one.free(30)
        await one.take(30)
        assert one.taken == 30

    asyncio.run(scene())


def test_who_leaves_while_it_is_refused_gives_nothing_back() -> None:
    async def scene() -> None:
        one = room(30)
        await one.take(30)
        asking = asyncio.create_task(one.take(1))
        await asyncio.sleep(0)
        ((_, turn),) = one._waiting
        one._refuse(turn)
        asking.cancel()
        await asyncio.wait([asking])
        assert (asking.cancelled(), one.taken) == (True, 30)

    asyncio.run(scene())


def test_a_call_keeps_what_came_and_a_stream_what_may_come_too() -> None:
    async def scene() -> None:
        one = room(100, kept=4)
        for _ in range(2):
            await one.take(10)
        call, stream = Held(one, streams=False), Held(one, streams=True)
        call.came(3)
        assert one.taken == 10 + 3
        for size, taken in ((2, 4 * 2), (1, 4 * 2), (5, 4 * 5)):  # as its largest message
            stream.came(size)
            await stream.keep()
            assert one.taken == 10 + 3 + taken
        call.leave()
        stream.leave()
        assert one.taken == 0

    asyncio.run(scene())


def test_room_for_who_has_left_meanwhile_is_given_back() -> None:
    async def scene() -> None:
        one = room(20, kept=1)
        await one.take(10)
        stream = Held(one, streams=True)
        await one.take(10)
        stream.came(10)
        keeping = asyncio.create_task(stream.keep())
        await asyncio.sleep(0)
        stream.leave()
        await keeping
        assert one.taken == 10

    asyncio.run(scene())


@contextmanager
def narrow(messages: int = 2, **named: Any) -> Iterator[tuple[Running, Gated]]:
    """A server with room for so many messages of 1 MiB, whose engine waits for permits."""
    limits = Limits(message_bytes=MIB, in_flight_bytes=messages * MIB, **{"wait_s": 0.0, **named})
    gate = Gated()
    with serving(gate, limits=limits) as running:
        try:
            yield running, gate
        finally:
            gate.permits.release(1000)


def asked(running: Running, image: NDArray[np.uint8]) -> Any:
    """The answer to come."""
    return running.stub.Infer.future(wire.InferRequest(frame=named("0", image)), timeout=DEADLINE_S)


def refusal(running: Running) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        infer(running, named("0"))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return caught.value


@contextmanager
def streaming(running: Running, count: int, *images: NDArray[np.uint8]) -> Iterator[list[Any]]:
    """So many streams that are open and have sent the same frames; gives their replies."""
    with ExitStack() as ends:
        replies = []
        for _ in range(count):
            requests = Requests(wire.STREAM_MODE_IN_ORDER)
            for image in images:
                requests.put(frame=named("0", image))
            replies.append(running.stub.StreamInfer(iter(requests)))
            ends.callback(replies[-1].cancel)
            ends.callback(requests.close)
        yield replies
    eventually(lambda: not running.server.servicer.calls)


def test_an_idle_stream_holds_the_room_of_a_message() -> None:
    with narrow(setting="more") as (running, gate):
        with streaming(running, 2):
            eventually(lambda: len(running.server.servicer._streams) == 2)
            error = refusal(running)
        assert error.details().startswith("messages take 2,097,1")
        assert error.details().endswith("or try again later, or raise more")
        assert dict(error.trailing_metadata())["grpc-retry-pushback-ms"] == "1000"
        gate.permits.release()
        assert infer(running, named("0")).frame_id == "0"


def test_a_full_server_says_how_it_does() -> None:
    with narrow(calls=2) as (running, _), streaming(running, 2):
        eventually(lambda: len(running.server.servicer._streams) == 2)
        refusal(running)
        health = health_pb2_grpc.HealthStub(running.channel)
        said = health.Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
        assert said.status == health_pb2.HealthCheckResponse.SERVING
        status = running.stub.GetStatus(wire.GetStatusRequest(), timeout=DEADLINE_S).status
        assert status.serving


def test_what_is_answered_holds_as_much_as_came() -> None:
    """300 kB each, and 1 MiB for whoever comes next: three, and not four."""
    with narrow() as (running, gate):
        asking = []
        for number in range(4):
            asking.append(asked(running, np.zeros((250, 400, 3), np.uint8)))
            eventually(lambda: running.server.servicer.calls == number + 1)  # noqa: B023
        refusal(running)
        gate.permits.release(4)
        assert [one.result().result.frame_id for one in asking] == ["0"] * 4


def test_a_stream_of_frames_that_never_find_room_is_refused() -> None:
    image = np.zeros((250, 400, 3), np.uint8)
    with narrow(kept=4) as (running, gate), streaming(running, 1, image) as (replies,):
        with pytest.raises(grpc.RpcError, match="its messages take"):
            next(replies)
        assert replies.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "grpc-retry-pushback-ms" not in dict(replies.trailing_metadata())  # time helps not
    with narrow(kept=3) as (running, gate), streaming(running, 1, image) as (replies,):
        gate.permits.release()
        assert next(replies).result.frame_id == "0"


def test_calls_wait_for_room_and_all_are_answered() -> None:
    with narrow(messages=1, wait_s=DEADLINE_S) as (running, gate):
        asking = [asked(running, SMALL) for _ in range(20)]
        gate.permits.release(20)
        assert [one.result().result.frame_id for one in asking] == ["0"] * 20


def test_calls_that_are_left_before_their_message_came_leave_room() -> None:
    with narrow(messages=1, wait_s=DEADLINE_S) as (running, gate):
        for _ in range(20):
            with socket.create_connection(running.address.split(":")) as connection:
                connection.sendall(BEGUN)
                assert connection.recv(1)
        gate.permits.release()
        assert infer(running, named("0")).frame_id == "0"


def test_calls_are_counted() -> None:
    with narrow(messages=9, calls=3) as (running, gate):
        asking = [asked(running, SMALL) for _ in range(3)]
        eventually(lambda: running.server.servicer.calls == 3)
        assert refusal(running).details().startswith("3 calls are under way; at most 3 are taken")
        gate.permits.release(4)
        assert [one.result().result.frame_id for one in asking] == ["0"] * 3
        assert infer(running, named("0")).frame_id == "0"


def test_a_raw_4k_frame_is_answered() -> None:
    with serving() as running:
        frame = named("0", np.zeros((2160, 4096, 3), np.uint8))
        assert infer(running, frame).frame_id == "0"
