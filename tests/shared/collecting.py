"""Frames as a vehicle collects them, and a real collector on a port of its own."""

import asyncio
import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from misgiving.collector.declining import Declining
from misgiving.collector.frames.arrivals import Arrivals
from misgiving.collector.frames.devices import Devices
from misgiving.collector.service import start_server
from misgiving.collector.store import Store
from misgiving.runtime.images import encode_png
from misgiving.runtime.keypoints import LSP
from misgiving.runtime.outbox.spool import Spool
from misgiving.runtime.wire.collected import KeptFrame, to_kept
from misgiving.v1.fleet_pb2 import CollectedFrame, Embedding
from misgiving.v1.pose_pb2 import (
    Flag,
    FlagReason,
    Frame,
    Image,
    KeepReason,
    Keypoint,
    Person,
    Region,
)

DEADLINE_S = 60.0

AUDIT_RATE = 0.01


def person(seed: int, *, loss: float = 2.0, threshold: float = 1.0) -> Person:
    """A person of random joints; flagged where its loss reaches the threshold."""
    points = np.random.default_rng(seed).uniform(5, 40, (len(LSP), 2))
    raised = loss >= threshold
    kept = KeepReason.KEEP_REASON_PREDICTED_LOSS if raised else KeepReason.KEEP_REASON_NONE
    return Person(
        region=Region(x_px=50.0 * seed, y_px=1.25, width_px=45, height_px=46.5),
        keypoints=[Keypoint(x_px=x + 50 * seed, y_px=y, confidence=0.5) for x, y in points],
        predicted_loss=loss,
        flag=Flag(
            raised=raised,
            reason=FlagReason.FLAG_REASON_PREDICTED_LOSS if raised else 0,
            kept=kept,
            threshold=threshold,
            sampling_probability=1.0 if raised else AUDIT_RATE,
        ),
    )


def collected(
    frame_id: str, *, persons: Sequence[Person] | None = None, image: bytes = b""
) -> CollectedFrame:
    """A frame of 120 × 60 px noise, another one for each id."""
    noise = np.random.default_rng(list(frame_id.encode())).integers(0, 255, (60, 120, 3), np.uint8)
    persons = [person(0)] if persons is None else persons
    return CollectedFrame(
        frame=Frame(
            frame_id=frame_id,
            stream_id="front",
            capture_time_unix_nano=1,
            image=Image(encoded=image or encode_png(noise)),
        ),
        persons=persons,
        embeddings=[Embedding(values=[1.0, 2.0]) for _ in persons],
        bundle_digest="b" * 64,
        keypoint_names=LSP.names,
        skeleton=[index for bone in LSP.skeleton for index in bone],
        device_id="car-7",
    )


def kept(frame_id: str) -> KeptFrame:
    """The same, as a store reads it."""
    return to_kept(collected(frame_id))


def serialise(frame: CollectedFrame) -> bytes:
    """As the spool does."""
    return frame.SerializeToString(deterministic=True)


def body_of(frame_id: str) -> tuple[str, bytes]:
    """A serialised frame of that id, behind its digest."""
    body = serialise(collected(frame_id))
    return hashlib.sha256(body).hexdigest(), body


def offer(spool: Spool, frame: CollectedFrame | KeptFrame) -> bool:
    """Hand a frame over, as a pipeline does."""
    return spool.offer(to_kept(frame) if isinstance(frame, CollectedFrame) else frame)


def noisy_frame(frame_id: str, size_bytes: int) -> CollectedFrame:
    """A frame whose body has a little more than ``size_bytes``."""
    noise = np.random.default_rng(list(frame_id.encode())).bytes(size_bytes)
    return collected(frame_id, persons=[], image=noise)


def until_pending(spool: Spool, count: int) -> None:
    """Wait until so many frames are stored, before there is an uploader that waits for them too."""
    while spool.counts().pending < count:
        assert spool.arrived.wait(DEADLINE_S), "no frame was stored in time"
        spool.arrived.clear()


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds that nothing tells of: another process's doing, a line in a log.

    Fails where it does not in time. How often it looks decides nothing.
    """
    end = time.monotonic() + DEADLINE_S
    tick = threading.Event()
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        tick.wait(0.01)


@contextmanager
def collecting(
    store: Store,
    listen: str = "127.0.0.1:0",
    tls: Path | None = None,
    declining: Declining = Declining(),
    devices: Devices = Devices(),
    arrivals: Arrivals | None = None,
) -> Iterator[str]:
    """Serve a store from a thread; yields HOST:PORT."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    starting = asyncio.run_coroutine_threadsafe(
        start_server(listen, store, tls, declining, devices, arrivals), loop
    )
    server, address = starting.result()
    try:
        yield address
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(None), loop).result()
        asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def child(code: str, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """A Python process that runs ``code``; killed at the end, should it still live."""
    paths = f"import sys; sys.path[:0] = {[p for p in sys.path if p]!r}\n"
    process = subprocess.Popen(
        [sys.executable, "-c", paths + code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: "subprocess.Popen[str]") -> str:
    """The next line that a child prints; fails with its errors where it ends instead."""
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline().strip()
    assert line, process.stderr.read()
    return line


def files_below(folder: Path) -> list[str]:
    """Names of all files below a folder, sorted."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
