"""The servers of ``serving.py``: how they are started, asked, and what they spend."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray

from misgiving.v1 import detector_pb2 as wire
from misgiving.v1 import pose_pb2 as pose
from misgiving.v1.detector_pb2_grpc import FailureDetectorStub

HERE = Path(__file__).parent
OURS, MINIMAL = "misgiving serve", "minimal"
FIRST, SECOND = 0, 1
"""Cores: of the servers, or of their engines alone; and of the client."""
STREAMS = 8

Payload = bytes | NDArray[np.uint8]
Server = tuple["subprocess.Popen[str]", str]
"""The process, and its address."""


def ours(bundle: Path, batches: Path | None = None) -> AbstractContextManager[Server]:
    listen = ["--listen", "127.0.0.1:0", "--threads", "1", "--audit-rate", "0"]
    return _server(["-m", "misgiving", "serve", "--bundle", str(bundle), *listen], batches)


def minimal(bundle: Path, batches: Path | None = None) -> AbstractContextManager[Server]:
    return _server([str(HERE / "peers" / "minimal.py"), str(bundle)], batches)


WAYS = {OURS: ours, MINIMAL: minimal}
"""Called with a bundle and, where the engine is to have the first core alone and the rest of the
server the second, a file for the sizes of its batches."""


@contextmanager
def _server(command: Sequence[str], batches: Path | None) -> Iterator[Server]:
    pinned = [str(HERE / "pinned.py"), str(FIRST), str(batches)] if batches else []
    core = SECOND if batches else FIRST
    process = subprocess.Popen(
        [sys.executable, *pinned, *command],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    match = re.search(r" on (\S+:\d+) ", line)
    assert match is not None, line
    try:
        yield process, match[1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def cpu_ms(pid: int) -> float:
    """What a process has spent, all its threads together, also those that ended."""
    clock = (~pid << 3) | 2  # as clock_getcpuclockid(3) makes it; /proc counts in hundredths
    return time.clock_gettime_ns(clock) / 1e6


def size_of(payload: Payload) -> tuple[int, int]:
    """Height and width; the encoded one is of 720p."""
    return (720, 1280) if isinstance(payload, bytes) else payload.shape[:2]


def fill(frame: pose.Frame, payload: Payload) -> None:
    """With one region, the whole of it."""
    height, width = size_of(payload)
    region = frame.regions.add()
    region.width_px, region.height_px = width, height
    if isinstance(payload, bytes):
        frame.image.encoded = payload
    else:
        frame.image.raw.height_px, frame.image.raw.width_px = height, width
        frame.image.raw.pixels = payload.tobytes()


def streamed(address: str, payload: Payload, frames: int, streams: int = STREAMS) -> float:
    """Frames a second of in-order streams at once, each with a few frames under way."""
    request = wire.StreamInferRequest()
    fill(request.frame, payload)
    opening = wire.StreamInferRequest(open=wire.StreamOpen(mode=wire.STREAM_MODE_IN_ORDER))

    def one(stub: FailureDetectorStub) -> None:
        replies = stub.StreamInfer(iter([opening, *[request] * frames]))
        answered = sum(reply.WhichOneof("message") == "result" for reply in replies)
        assert answered == frames, answered

    with grpc.insecure_channel(address) as channel:
        stub = FailureDetectorStub(channel)
        threads = [threading.Thread(target=one, args=(stub,)) for _ in range(streams)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return streams * frames / (time.perf_counter() - start)
