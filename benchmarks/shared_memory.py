"""What POSIX shared memory would save a camera's process on the same machine.

One raw 1080p frame after the other, through a near-zero network: sent whole by gRPC, as it is now,
beside a message that only names the frame, which the server then reads where the camera has put
it. A server of the latter kind is not part of misgiving: here the least one stands in its place,
asked in both ways. The camera writes each frame into its place in both.

Run: python benchmarks/shared_memory.py [--rounds N]
"""

import argparse
import asyncio
import mmap
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import grpc
import numpy as np
from numpy.typing import NDArray
from serving_ways import FIRST, SECOND, cpu_ms, fill

from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.engines.onnx import OnnxEngine
from misgiving.runtime.geometry import CropRule, cut, window_of
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1.detector_pb2_grpc import (
    FailureDetectorServicer,
    FailureDetectorStub,
    add_FailureDetectorServicer_to_server,
)

TINY = Path(__file__).parents[1] / "tests" / "shared" / "tiny_bundle"
HEIGHT, WIDTH, CALLS = 1080, 1920, 30
SENT, SHARED = "sent by gRPC", "in shared memory"


class Least(FailureDetectorServicer):
    """Cuts and infers a frame that came with the message, or that ``frame_id`` names."""

    def __init__(self) -> None:
        bundle = Bundle.load(TINY)
        self._rule: CropRule = bundle.manifest.crop
        self._engine = OnnxEngine(bundle.read(bundle.model.name))
        self._known: dict[str, mmap.mmap] = {}

    async def Infer(self, request: wire.InferRequest, context: Any) -> wire.InferResponse:
        name = request.frame.frame_id
        pixels = self._mapped(name) if name else request.frame.image.raw.pixels
        image = np.frombuffer(pixels, np.uint8, HEIGHT * WIDTH * 3).reshape(HEIGHT, WIDTH, 3)
        rule = self._rule
        crop = cut(image, window_of(None, HEIGHT, WIDTH, rule), rule.height, rule.width)
        response = wire.InferResponse()
        response.result.persons.add().predicted_loss = float(
            self._engine.infer(crop[None]).predicted_loss[0]
        )
        return response

    def _mapped(self, name: str) -> mmap.mmap:
        if name not in self._known:
            self._known[name] = _opened(name)
        return self._known[name]


def _opened(path: str) -> mmap.mmap:
    with open(path, "r+b") as file:
        return mmap.mmap(file.fileno(), 0)


async def serve() -> None:
    """Print the port, and run until killed."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    add_FailureDetectorServicer_to_server(Least(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


@contextmanager
def running() -> Iterator[tuple[int, str]]:
    """The server on the first core: its process, its address."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve"],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {FIRST}),
    )
    assert process.stdout is not None
    try:
        yield process.pid, f"127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Ask in both ways, in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.serve:
        asyncio.run(serve())
        return
    os.sched_setaffinity(0, {SECOND})
    frame = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    with running() as (pid, address), tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        file.truncate(frame.nbytes)
        print("\n".join(measured(options.rounds, pid, address, frame, file.name)))


def measured(
    rounds: int,
    pid: int,
    address: str,
    frame: NDArray[np.uint8],
    place: str,
) -> Iterator[str]:
    """The rows of a table, medians of the rounds'."""
    whole = [("grpc.max_send_message_length", -1)]
    memory = _opened(place)
    found: dict[str, list[tuple[float, float, float]]] = {SENT: [], SHARED: []}
    with grpc.insecure_channel(address, whole) as channel:
        stub = FailureDetectorStub(channel)

        def sent() -> None:
            request = wire.InferRequest()
            fill(request.frame, frame)
            stub.Infer(request)

        def shared() -> None:
            memory[:] = frame.data.cast("B")
            request = wire.InferRequest()
            request.frame.frame_id = place
            stub.Infer(request)

        for number in range(rounds + 1):
            for name, ask in ((SENT, sent), (SHARED, shared)):
                one = _round(ask, pid)
                found[name] += [one] if number else []
    yield "| 1920 × 1080 raw | p50 ms | server, CPU ms | client, CPU ms |"
    yield "|---|---:|---:|---:|"
    for name, each in found.items():
        p50, server, client = np.median(each, axis=0)
        yield f"| {name} | {p50:.2f} | {server:.2f} | {client:.2f} |"


def _round(ask: Callable[[], None], pid: int) -> tuple[float, float, float]:
    times, server, client = [], cpu_ms(pid), time.process_time()
    for _ in range(CALLS):
        start = time.perf_counter()
        ask()
        times.append(time.perf_counter() - start)
    server, client = cpu_ms(pid) - server, time.process_time() - client
    return float(np.median(times)) * 1e3, server / CALLS, client * 1e3 / CALLS


if __name__ == "__main__":
    main()
