"""The client's side of shared memory: used by itself where it is lent, and never missed."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from misgiving.runtime.client import IN_FLIGHT, Client
from misgiving.runtime.errors import InvalidInput, MisgivingError
from misgiving.runtime.geometry import Region
from misgiving.runtime.images import encode_png
from misgiving.runtime.net.sending import Outbox
from misgiving.runtime.net.slots import LEAST_BYTES, SLOTS, Slots
from misgiving.runtime.nouns import Answer, Frame, FrameFailure, StreamSummary, make_frame
from misgiving.v1 import detector_pb2 as wire
from runtime.commands import server as command
from shared import tiny
from shared.certificates import LOOPBACK, Authority
from shared.collecting import eventually
from shared.memory import held, pieces
from shared.ports import unused_port
from shared.posing import passed, posing
from shared.serving import DEADLINE_S, Gated, Running, serving

SCALE = 8
SPOTS = tiny.spots([7] * 14, scale=SCALE)
"""Large enough for shared memory."""
POINT = 7.5 * SCALE
OTHERS = [tiny.spots([column] * 14, scale=SCALE) for column in range(24)]
LIMIT = 32 << 20


@pytest.fixture
def server() -> Iterator[Running]:
    with serving(shared_bytes=LIMIT) as running:
        yield running
    assert not held(os.getpid())


@contextmanager
def traffic(server: Running) -> Iterator[list[str]]:
    """How each frame came that the server takes meanwhile: raw, shared or encoded."""
    servicer, came = server.server.servicer, []
    read = servicer.shared.read

    def noted(*arguments: object) -> NDArray[np.uint8]:
        came.append("shared")
        return read(*arguments)

    servicer.shared.read = noted
    yield came
    servicer.shared.read = read


def x_of(answer: Answer) -> float:
    return float(answer.persons[0].keypoints[0, 0])


def test_its_size_is_worth_it() -> None:
    assert SPOTS.nbytes >= LEAST_BYTES > tiny.spots([7] * 14).nbytes
    assert SLOTS >= IN_FLIGHT


def test_a_call_takes_a_slot_by_itself(server: Running) -> None:
    with Client(server.address) as client, traffic(server) as came:
        for image in OTHERS[: SLOTS + 3]:
            assert client.infer(image).persons == sent(server, image).persons
        assert (pieces(server), len(came)) == (1, SLOTS + 3)
    eventually(lambda: not pieces(server))


def sent(server: Running, image: NDArray[np.uint8], **named: bool) -> Answer:
    with Client(server.address, shared_memory=False) as client:
        return client.infer(image, **named)


def test_bgr_and_other_layouts(server: Running) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (601, 402, 3), np.uint8)
    with Client(server.address) as client, traffic(server) as came:
        for image in (noise, noise[1::2], noise[:, ::-1], np.asfortranarray(noise)):
            for bgr in (False, True):
                there = client.infer(image, bgr=bgr)
                assert there.persons == sent(server, image, bgr=bgr).persons
        assert len(came) == 8


@pytest.mark.parametrize(
    "image", [tiny.spots([7] * 14), encode_png(SPOTS)], ids=["small", "encoded"]
)
def test_what_travels_asks_for_no_memory(server: Running, image: bytes) -> None:
    with Client(server.address) as client, traffic(server) as came:
        assert client.infer(image).persons
        assert (pieces(server), came) == (0, [])


@pytest.mark.parametrize("live", [False, True])
def test_a_stream_takes_slots(server: Running, live: bool) -> None:
    frames = (make_frame(one, frame_id=str(i)) for i, one in enumerate(OTHERS))
    with Client(server.address) as client, traffic(server) as came:
        *replies, last = client.stream(frames, live=live)
        assert isinstance(last, StreamSummary)
        assert last.received == len(OTHERS)
        assert last.answered == len(replies) == len(OTHERS) - last.dropped
        for reply in replies:
            assert x_of(reply) == (int(reply.frame_id) + 0.5) * SCALE
        if not live:
            assert len(came) == len(OTHERS)
        assert client._slots._memory.unused


def test_a_live_camera_that_outruns_its_server(server: Running) -> None:
    """Without a slot left its frames travel; each reply is of its own frame's pixels."""
    engine = Gated()
    with serving(engine, shared_bytes=LIMIT) as slow, Client(slow.address) as client:

        def frames() -> Iterator[Frame]:
            yield make_frame(OTHERS[0], frame_id="0")
            assert engine.entered.acquire(timeout=DEADLINE_S)
            for number, one in enumerate(OTHERS[1:], 1):
                yield make_frame(one, frame_id=str(number))
            # Sent, with no slot left: the others wait for a reply.
            eventually(lambda: not client._slots._memory.free)
            engine.permits.release(99)

        *replies, last = client.stream(frames(), live=True)
        assert last.received == len(OTHERS)
        assert last.dropped > 0
        for reply in replies:
            assert x_of(reply) == (int(reply.frame_id) + 0.5) * SCALE
        assert client._slots._memory.unused


def test_more_calls_at_once_than_slots() -> None:
    engine = Gated()
    with serving(engine, shared_bytes=LIMIT) as server, Client(server.address) as client:
        with ThreadPoolExecutor(SLOTS + 4) as pool:
            asked = [pool.submit(client.infer, one) for one in OTHERS[: SLOTS + 4]]
            eventually(lambda: server.server.servicer.calls == SLOTS + 4)
            assert client._slots._memory.free == []
            engine.permits.release(99)
            found = [x_of(one.result(DEADLINE_S)) for one in asked]
        assert found == [(number + 0.5) * SCALE for number in range(SLOTS + 4)]
        assert client._slots._memory.unused


def test_larger_frames_get_larger_slots(server: Running) -> None:
    larger = tiny.spots([7] * 14, scale=SCALE + 4)
    with Client(server.address) as client, traffic(server) as came:
        first = client.infer(SPOTS), client._slots._memory.lent.token
        assert x_of(client.infer(larger)) == 7.5 * (SCALE + 4)
        assert client._slots._memory.lent.token != first[1]
        assert client.infer(SPOTS).persons == first[0].persons
        assert len(came) == 3
        eventually(lambda: pieces(server) == 1)


def test_a_larger_frame_takes_no_slot_of_another(server: Running) -> None:
    """While one is not settled its memory stays, and the larger frame is sent."""
    larger = tiny.spots([7] * 14, scale=SCALE + 4)
    with Client(server.address) as client, traffic(server) as came:
        slot = client._slots.place(SPOTS)
        assert x_of(client.infer(larger)) == 7.5 * (SCALE + 4)
        assert client._slots._memory.lent.token == slot.token
        assert came == []


def test_errors_are_those_of_sent_frames(server: Running) -> None:
    """And cost no memory."""
    outside = [Region(9999, 0, 5, 5)]
    with Client(server.address) as client:
        client.infer(SPOTS)
        token = client._slots._memory.lent.token
        for _ in range(SLOTS + 1):
            with pytest.raises(InvalidInput, match="outside the image"):
                client.infer(SPOTS, outside)
        assert client._slots._memory.lent.token == token
        assert client._slots._memory.unused
        frames = [make_frame(SPOTS, outside, "bad"), make_frame(SPOTS, (), "good")]
        bad, good, _ = client.stream(frames)
        assert isinstance(bad, FrameFailure)
        assert x_of(good) == POINT


def test_with_certificates(tmp_path: Path) -> None:
    authority = Authority.new()
    own = authority.issue(tmp_path / "own", *LOOPBACK)
    car = authority.issue(tmp_path / "car", "spiffe://fleet.example/car/7")
    with serving(tls=own, shared_bytes=LIMIT) as server, traffic(server) as came:
        with Client(server.address, tls=car) as client:
            assert x_of(client.infer(SPOTS)) == POINT
            assert len(list(client.stream([make_frame(SPOTS)]))) == 2
        assert came == ["shared"] * 2


def test_another_server_stands_there_meanwhile(server: Running) -> None:
    """It knows nothing of the memory; the frame is sent, and its own memory is asked for."""
    with serving(shared_bytes=LIMIT) as former:
        lends = [former, server]

        def lend(request: wire.ShareMemoryRequest, context: grpc.ServicerContext) -> object:
            call = lends.pop(0).stub.ShareMemory(request)
            context.add_callback(call.cancel)
            return call

        relay = posing(**passed(server), ShareMemory=lend)
        with relay as address, Client(address) as client, traffic(server) as came:
            for number in range(3):
                assert x_of(client.infer(OTHERS[number])) == (number + 0.5) * SCALE
            assert came == ["shared"] * 3  # of these the first in vain
            assert lends == []


def test_a_server_that_is_killed_and_comes_again() -> None:
    listen = "--listen", f"127.0.0.1:{unused_port()}"
    with command(*listen) as (process, address), Client(address) as client:
        first = client.infer(SPOTS)
        process.kill()
        process.wait()
        with command(*listen):
            second, summary = client.stream([make_frame(SPOTS)])
            assert second.persons == first.persons
            assert summary.answered == 1
            assert client.infer(SPOTS).persons == first.persons
            assert client._slots._memory.unused


def test_a_slot_that_was_not_settled_is_not_written_to_again(server: Running) -> None:
    """The memory is given back; what is sent again goes through another piece."""
    with Client(server.address) as client:
        memory = client._slots
        outbox = Outbox((make_frame(one) for one in OTHERS), IN_FLIGHT, memory)
        first = outbox.requests()
        tokens = {next(first).frame.image.shared.token for _ in range(4)} - {b""}
        outbox.leave()
        eventually(lambda: not pieces(server))
        again = outbox.requests()
        requests = [next(again) for _ in range(4)]
        assert {one.frame.image.shared.token for one in requests[1:]}.isdisjoint(tokens)
        assert len(tokens) == pieces(server) == 1
        outbox.close()


def test_a_stream_that_is_left_spares_the_frames_of_another() -> None:
    """Of the same client: the memory stays until those are settled, and then another is lent."""
    engine = Gated()
    with serving(engine, shared_bytes=LIMIT) as server, Client(server.address) as client:
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(client.infer, SPOTS)
            assert engine.entered.acquire(timeout=DEADLINE_S)
            token = client._slots._memory.lent.token
            outbox = Outbox((make_frame(one) for one in OTHERS), IN_FLIGHT, client._slots)
            requests = outbox.requests()
            sent = [next(requests) for _ in range(3)][1:]
            assert {one.frame.image.shared.token for one in sent} == {token}
            outbox.leave()
            assert client._slots.place(SPOTS) is None
            assert pieces(server) == 1
            engine.permits.release(99)
            assert x_of(asked.result(DEADLINE_S)) == POINT
        eventually(lambda: not pieces(server))
        outbox.close()
        assert x_of(client.infer(SPOTS)) == POINT
        assert client._slots._memory.lent.token != token


def test_a_call_without_an_answer_gives_the_memory_back() -> None:
    """The server may still be about to read the slot."""
    engine = Gated()
    with serving(engine, shared_bytes=LIMIT) as server, ThreadPoolExecutor(1) as pool:
        with Client(server.address, wait_s=0) as client:
            asked = pool.submit(client.infer, SPOTS)
            assert engine.entered.acquire(timeout=DEADLINE_S)
            stopping = server.begin(server.server.stop(0))
            with pytest.raises(MisgivingError):
                asked.result(DEADLINE_S)
            assert client._slots._memory is None
        engine.permits.release(9)
        stopping.result(DEADLINE_S)


def test_whom_it_asks() -> None:
    for address, asks in {"127.0.0.1:1": True, "[::1]:1": True, "10.0.0.7:1": False}.items():
        with Client(address) as client:
            assert (client._slots._ask is not None) == asks
    with Client("127.0.0.1:1", shared_memory=False) as client:
        assert client._slots._ask is None
    assert Slots("", None, 0.0).place(SPOTS) is None
