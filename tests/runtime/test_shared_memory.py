"""Memory that a server lends: its pixels are answered like sent ones, and nothing is believed."""

import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from misgiving.runtime.client import Client
from misgiving.runtime.geometry import Region
from misgiving.runtime.images import decode
from misgiving.runtime.outbox.spool import Spool
from misgiving.runtime.serving.shared_memory import sweep
from misgiving.runtime.wire.collected import read_kept
from misgiving.runtime.wire.frames import fill_region
from misgiving.runtime.wire.sharing import FOLDER, memory_request, to_lent
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1 import pose_pb2 as pose
from misgiving.v1.detector_pb2_grpc import FailureDetectorStub
from runtime.commands import server as command
from shared import tiny
from shared.collecting import child, eventually, line_of, until_pending
from shared.memory import Held, held, lent, named, nothing_left, pieces
from shared.serving import DEADLINE_S, Gated, Requests, Running, infer, serving, wire_frame

SPOTS = tiny.spots([7] * 14, scale=3)
HEIGHT, WIDTH = SPOTS.shape[:2]
LIMIT = 1 << 20
NOISE = np.random.default_rng(0).integers(0, 256, SPOTS.shape, np.uint8)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving(shared_bytes=LIMIT) as running:
        yield running


@pytest.fixture
def memory(server: Running) -> Iterator[Held]:
    with lent(server.stub, 3, SPOTS.nbytes) as memory:
        yield memory


@pytest.fixture(autouse=True)
def _given_back(server: Running) -> Iterator[None]:
    """Before the next test counts: a server hears a little later that a call was left."""
    yield
    eventually(lambda: nothing_left(server))


def said(result: wire.FrameResult) -> list[bytes]:
    return [person.SerializeToString(deterministic=True) for person in result.persons]


@pytest.mark.parametrize(
    "image",
    [SPOTS, NOISE, NOISE[:1, :1], NOISE[:57, :43], tiny.spots([9] * 14)],
    ids=["whole slot", "noise", "a pixel", "odd", "small"],
)
@pytest.mark.parametrize("regions", [(), (Region(0, 0, 30, 40), Region(0, 0, 1, 1))])
def test_an_answer_is_that_of_the_same_pixels_sent(
    server: Running, memory: Held, image: np.ndarray, regions: tuple[Region, ...]
) -> None:
    for slot in range(3):
        frame = memory.put(image, slot, "x")
        for region in regions:
            fill_region(frame.regions.add(), region)
        result = infer(server, frame)
        assert result.frame_id == "x"
        assert said(result) == said(infer(server, wire_frame(image, regions, "x")))


def test_a_stream_may_have_both(server: Running, memory: Held) -> None:
    requests = Requests(wire.STREAM_MODE_IN_ORDER)
    replies = server.stub.StreamInfer(iter(requests))
    for name, frame in {
        "0": memory.put(SPOTS, 0, "0"),
        "1": wire_frame(SPOTS, frame_id="1"),
        "2": memory.put(SPOTS, 2, "2"),
        "3": memory.frame(9, 4, 4, name="3"),
        "4": memory.put(SPOTS, 0, "4"),
    }.items():
        requests.put(frame=frame)
        reply = next(replies)
        if name == "3":
            assert (reply.error.frame_id, reply.error.code) == (name, 3)
        else:
            assert reply.result.frame_id == name
            assert reply.result.persons[0].keypoints[0].x_px == 22.5
    requests.close()
    assert next(replies).summary.failed == 1


def changed(frame: pose.Frame, **shared: object) -> pose.Frame:
    for name, value in shared.items():
        setattr(frame.image.shared, name, value)
    return frame


BAD: dict[str, tuple[Callable[[pose.Frame], pose.Frame], str]] = {
    "no token": (lambda one: changed(one, token=b""), "not lent, or no longer; expected the token"),
    "a guess": (lambda one: changed(one, token=bytes(16)), "not lent, or no longer"),
    "the token cut": (
        lambda one: changed(one, token=one.image.shared.token[:-1]),
        "not lent, or no longer",
    ),
    "a slot behind the last": (
        lambda one: changed(one, slot=3),
        "slot 3; expected one from 0 to 2",
    ),
    "the largest slot": (lambda one: changed(one, slot=2**32 - 1), "expected one from 0 to 2"),
    "a row too many": (
        lambda one: changed(one, height_px=HEIGHT + 1),
        f"{WIDTH} × {HEIGHT + 1} px, .* expected 1 to {SPOTS.nbytes}",
    ),
    "no height": (lambda one: changed(one, height_px=0), f"{WIDTH} × 0 px, 0 bytes; expected 1 to"),
    "no width": (lambda one: changed(one, width_px=0), "0 × .* px, 0 bytes; expected 1 to"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_a_frame_says_is_looked_at(server: Running, memory: Held, name: str) -> None:
    change, message = BAD[name]
    frame = change(memory.put(SPOTS, 0, "bad"))
    with pytest.raises(grpc.RpcError, match=message) as caught:
        infer(server, frame)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "frame 'bad'" in caught.value.details()
    assert "\n" not in caught.value.details()
    assert infer(server, memory.put(SPOTS)).persons


def test_more_pixels_than_any_frame_has(server: Running, memory: Held) -> None:
    with pytest.raises(grpc.RpcError, match="at most 51,000,000") as caught:
        infer(server, memory.frame(0, 2**32 - 1, 2**32 - 1))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_memory_that_its_client_truncates(server: Running, memory: Held) -> None:
    """It would end a server that maps it."""
    frame = memory.put(SPOTS)
    os.ftruncate(memory.handle, SPOTS.nbytes // 2)
    with pytest.raises(grpc.RpcError, match="was cut short") as caught:
        infer(server, frame)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert infer(server, memory.put(SPOTS)).persons


def test_a_token_ends_with_its_call(server: Running) -> None:
    with lent(server.stub, 1, SPOTS.nbytes) as memory:
        frame = memory.put(SPOTS)
        assert infer(server, frame).persons
    eventually(lambda: not pieces(server))
    with pytest.raises(grpc.RpcError, match="not lent, or no longer"):
        infer(server, frame)


def test_a_client_that_writes_too_early_spoils_its_own_picture_alone(tmp_path: Path) -> None:
    """What is kept is what was answered, in whichever state the memory is by then."""
    engine, spool = Gated(), Spool(tmp_path)
    with serving(engine, tiny.policy(0.0), spool, shared_bytes=LIMIT) as server:
        with lent(server.stub, 1, SPOTS.nbytes) as memory:
            reply = server.stub.Infer.future(wire.InferRequest(frame=memory.put(SPOTS)))
            assert engine.entered.acquire(timeout=DEADLINE_S)
            memory.put(NOISE)
            engine.permits.release(9)
            result = reply.result(DEADLINE_S).result
        until_pending(spool, 1)
        assert said(result) == said(infer(server, wire_frame(SPOTS)))
    kept = read_kept(spool.read(spool.pending()[0]))
    np.testing.assert_array_equal(decode(kept.frame.image), SPOTS)
    spool.close()


def test_many_frames_in_one_slot_take_no_more_memory_than_two() -> None:
    """The messages alone are small; another client's memory is its own."""
    engine, done = Gated(), threading.Semaphore(0)
    with (
        serving(engine, shared_bytes=LIMIT) as server,
        lent(server.stub, 1, 12) as other,
        lent(server.stub, 1, SPOTS.nbytes) as memory,
    ):
        frame = wire.InferRequest(frame=memory.put(SPOTS, 0, "again"))
        calls = [server.stub.Infer.future(frame) for _ in range(9)]
        for call in calls:
            call.add_done_callback(lambda _: done.release())
        assert all(done.acquire(timeout=DEADLINE_S) for _ in range(7))
        refused = [call for call in calls if call.done()]
        assert {call.code() for call in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert "again" in refused[0].details()
        assert "Write to a slot again when its frame is answered" in refused[0].details()
        engine.permits.release(99)
        assert infer(server, other.put(NOISE[:2, :2])).persons
        answered = [call for call in calls if call not in refused]
        assert all(call.result(DEADLINE_S).result.persons for call in answered)
        for _ in range(9):
            assert infer(server, memory.put(SPOTS)).persons


def test_a_client_that_writes_all_the_while(tmp_path: Path) -> None:
    """Each frame is answered, and what is kept of it has that very answer."""
    spool, stop = Spool(tmp_path), threading.Event()
    with serving(None, tiny.policy(0.0), spool, shared_bytes=LIMIT) as server:
        with lent(server.stub, 1, SPOTS.nbytes) as memory, ThreadPoolExecutor(1) as writer:

            def write() -> None:
                while not stop.is_set():
                    for image in (SPOTS, NOISE):
                        memory.put(image)

            done = writer.submit(write)
            try:
                frames = [memory.frame(0, HEIGHT, WIDTH, name=str(i)) for i in range(50)]
                answers = {frame.frame_id: said(infer(server, frame)) for frame in frames}
            finally:
                stop.set()
            done.result(DEADLINE_S)
        until_pending(spool, 50)
        kept = [read_kept(spool.read(one)).frame for one in spool.pending()]
        for frame in kept:
            again = wire_frame(decode(frame.image), frame_id=frame.frame_id)
            assert said(infer(server, again)) == answers[frame.frame_id]
    assert len(kept) == 50
    spool.close()


def test_its_file_is_the_users_alone_and_loses_its_name_with_the_first_frame(
    server: Running,
) -> None:
    with lent(server.stub, 1, SPOTS.nbytes) as memory:
        assert named(os.getpid()) == [memory.lent.name]
        assert stat.S_IMODE(os.fstat(memory.handle).st_mode) == 0o600
        assert memory.lent.token.hex() not in memory.lent.name
        infer(server, memory.put(SPOTS))
        assert named(os.getpid()) == []
        assert infer(server, memory.put(SPOTS)).persons


CLIENT = """
import sys, grpc
from misgiving.v1.detector_pb2_grpc import FailureDetectorStub
from shared.memory import lent
with lent(FailureDetectorStub(grpc.insecure_channel(sys.argv[1])), 1, 9):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_client_that_is_killed_leaves_nothing(server: Running) -> None:
    with child(CLIENT, server.address) as client:
        line_of(client)
        assert (pieces(server), held(os.getpid()), len(named(os.getpid()))) == (1, 1, 1)
        client.kill()
        eventually(lambda: nothing_left(server))


SERVER = """
import sys
from shared.serving import serving
with serving(shared_bytes=1 << 20) as server:
    print(server.address, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("frames", [0, 1])
def test_a_server_that_is_killed(server: Running, frames: int) -> None:
    """After the first frame nothing is left; before it a name, until a server starts."""
    with child(SERVER) as killed, lent(server.stub, 1, 9) as living:
        with grpc.insecure_channel(line_of(killed)) as channel:
            stub = FailureDetectorStub(channel)
            with lent(stub, 1, SPOTS.nbytes) as memory:
                for _ in range(frames):
                    stub.Infer(wire.InferRequest(frame=memory.put(SPOTS)))
                assert len(named(killed.pid)) == (frames == 0)
                killed.kill()
                killed.wait()
                # A server of another test that starts right now may have taken the name away.
                assert len(named(killed.pid)) <= (frames == 0)
        sweep()
        assert named(killed.pid) == []
        assert named(os.getpid()) == [living.lent.name]


def test_a_drain_ends_it_and_waits_for_the_frames() -> None:
    """The memory stays until the last frame in it is answered."""
    engine = Gated()
    with serving(engine, shared_bytes=LIMIT) as server:
        call = server.stub.ShareMemory(memory_request(1, SPOTS.nbytes))
        memory = to_lent(next(call))
        handle = os.open(FOLDER / memory.name, os.O_RDWR)
        frame = Held(memory, handle).put(SPOTS, 0, "last")
        os.close(handle)
        reply = server.stub.Infer.future(wire.InferRequest(frame=frame))
        assert engine.entered.acquire(timeout=DEADLINE_S)
        stopping = server.begin(server.server.stop(60))
        assert call.is_active()
        engine.permits.release(9)
        assert reply.result(DEADLINE_S).result.frame_id == "last"
        stopping.result(DEADLINE_S)
        assert list(call) == []  # it ends well, and brings nothing more
        assert not pieces(server)


def test_the_setting_is_the_servers(tmp_path: Path) -> None:
    config = tmp_path / "misgiving.toml"
    config.write_text('[server]\nshared_memory = "1KiB"\n')
    with command("--config", config) as (process, address), Client(address) as client:
        stub = client._stub
        with pytest.raises(grpc.RpcError, match="1024 of 1024 bytes"):
            next(stub.ShareMemory(memory_request(1, 1025)))
        with lent(stub, 1, 1024):
            assert held(process.pid) == 1
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE_S) == 0
        assert named(process.pid) == []
