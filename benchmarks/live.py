"""How old are frames when the engine starts on them: eight live cameras at three times what it can
take, and a modest camera beside one that floods.

The engine answers as tests/shared/tiny_bundle does and sleeps for a known time, so that capacity is
known too. Its server is a process of its own. Ages are the replies' queue_nano: from receipt, by
the server's clock, to the start of inference.

Run: python benchmarks/live.py > benchmarks/live_cpu_<yyyymm>.md
"""

import argparse
import asyncio
import itertools
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import grpc
import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.answer.answerer import Model, cut_out
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.engines.base import Prediction
from misgiving.runtime.engines.onnx import OnnxEngine
from misgiving.runtime.flags.policy import FlagPolicy
from misgiving.runtime.geometry import Region
from misgiving.runtime.images import encode_jpeg
from misgiving.runtime.nouns import make_frame
from misgiving.runtime.serving.batching import MAX_BATCH
from misgiving.runtime.serving.pipeline import Pipeline
from misgiving.runtime.serving.server import Server
from misgiving.runtime.wire.frames import fill_frame
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1.detector_pb2_grpc import FailureDetectorStub

TINY = Path(__file__).parent.parent / "tests" / "shared" / "tiny_bundle"
BATCH_S = 0.1
CAMERAS, BEYOND = 8, 3
INTERVAL_S = CAMERAS * BATCH_S / (MAX_BATCH * BEYOND)
"""Of each camera: 30 frames a second."""
MODEST_S = 2 * BATCH_S
WHOLE = [Region(0, 0, 640, 480)]
CROWD = [Region(80 * x, 60 * y, 80, 60) for x in range(8) for y in range(8)]
LIVE, IN_ORDER = wire.STREAM_MODE_LIVE, wire.STREAM_MODE_IN_ORDER


def main() -> None:
    """Measure each against a server of its own, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each of the three runs")
    seconds = parser.parse_args().seconds
    cv2.setNumThreads(1)
    runs = {
        f"{CAMERAS} cameras of {1 / INTERVAL_S:.0f} frames/s": _beyond_capacity(seconds),
        "one modest camera, alone": _modest(seconds, flood=False),
        "one modest camera, beside a flood": _modest(seconds, flood=True),
    }
    print(_page(runs, seconds))


class Slow:
    """The tiny engine, whose batches take BATCH_S."""

    def __init__(self) -> None:
        self._engine = OnnxEngine(TINY / "model.onnx", threads=1)
        self.provider, self.max_batch = self._engine.provider, self._engine.max_batch

    def infer(self, images: NDArray[np.uint8]) -> Prediction:
        end = time.perf_counter() + BATCH_S
        said = self._engine.infer(images)
        time.sleep(max(0.0, end - time.perf_counter()))
        return said


def _serve(there: Connection) -> None:
    """In a process of its own, until it is told to stop."""

    async def serve() -> None:
        server = Server()
        policy = FlagPolicy(threshold=2.0, audit_rate=0.0)
        pipeline = Pipeline(Model(Bundle.load(TINY), Slow()), policy)
        address = await server.start("127.0.0.1:0")
        await server.ready(pipeline)
        there.send(address)
        await asyncio.to_thread(there.recv)
        await server.stop(5)
        await pipeline.close()

    cv2.setNumThreads(1)
    asyncio.run(serve())


@contextmanager
def _server() -> Iterator[str]:
    spawned = multiprocessing.get_context("spawn")
    here, there = spawned.Pipe()
    process = spawned.Process(target=_serve, args=(there,))
    process.start()
    try:
        yield here.recv()
    finally:
        here.send(None)
        process.join(30)


Said = tuple[list[float], wire.StreamSummary]
"""Ages at engine start in s, but for that of the last frame, which no newer one could replace."""


def _beyond_capacity(seconds: float) -> list[Said]:
    count = round(seconds / INTERVAL_S)
    phases = np.random.default_rng(0).uniform(0, INTERVAL_S, CAMERAS).tolist()
    with _server() as address, ThreadPoolExecutor(CAMERAS) as pool:
        return list(pool.map(lambda phase: _camera(address, count, INTERVAL_S, phase), phases))


def _modest(seconds: float, flood: bool) -> list[Said]:
    with _server() as address, ThreadPoolExecutor(1) as pool:
        over: list[bool] = []
        flooding = pool.submit(_flood, address, lambda: bool(over)) if flood else None
        said = _camera(address, round(seconds / MODEST_S), MODEST_S, MODEST_S)
        over.append(True)
        if flooding:
            assert flooding.result() > 0
        return [said]


def _camera(address: str, count: int, interval_s: float, phase_s: float) -> Said:
    """Live frames at a pace that does not wait for the answers."""
    start = time.perf_counter() + phase_s

    def requests() -> Iterator[wire.StreamInferRequest]:
        yield _opening(LIVE)
        for number in range(count):
            time.sleep(max(0.0, start + number * interval_s - time.perf_counter()))
            yield _request(str(number), WHOLE)

    with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        *replies, last = FailureDetectorStub(channel).StreamInfer(requests())
    results = [reply.result for reply in replies]
    ages = [one.queue_nano / 1e9 for one in results if one.frame_id != str(count - 1)]
    return ages, last.summary


def _flood(address: str, is_over: Callable[[], bool]) -> int:
    """Frames with a crowd in them, as fast as they are taken, until it is over; how many."""

    def requests() -> Iterator[wire.StreamInferRequest]:
        yield _opening(IN_ORDER)
        for number in itertools.takewhile(lambda _: not is_over(), itertools.count()):
            yield _request(str(number), CROWD)

    with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        calls, answered = FailureDetectorStub(channel).StreamInfer(requests()), 0
        while not is_over():
            answered += next(calls).WhichOneof("message") == "result"
        calls.cancel()
    return answered


def _opening(mode: int) -> wire.StreamInferRequest:
    return wire.StreamInferRequest(open=wire.StreamOpen(mode=mode))  # type: ignore[arg-type]


def _jpeg() -> bytes:
    coarse = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    return encode_jpeg(np.asarray(cv2.resize(coarse, (640, 480)), np.uint8))


JPEG = _jpeg()


def _request(name: str, regions: list[Region]) -> wire.StreamInferRequest:
    request = wire.StreamInferRequest()
    fill_frame(request.frame, make_frame(JPEG, regions, name))
    return request


def _decode_s(regions: list[Region]) -> float:
    """Of a frame, decoded and cut with nothing beside it; the median."""
    frame, rule = make_frame(JPEG, regions), Bundle.load(TINY).manifest.crop
    taken = []
    for _ in range(50):
        start = time.perf_counter()
        cut_out(frame, frame.regions, rule)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def _page(runs: dict[str, list[Said]], seconds: float) -> str:
    decode_s = _decode_s(WHOLE)
    batch_decoded_s = MAX_BATCH / 2 * decode_s
    bound = INTERVAL_S + batch_decoded_s + BATCH_S
    lines = [
        "# Live cameras",
        "",
        f"`python benchmarks/live.py`, {time.strftime('%Y-%m-%d')}, {platform.machine()}, "
        f"{os.cpu_count()} cores; CPython {platform.python_version()}, grpcio "
        f"{metadata.version('grpcio')}. A batch takes {1e3 * BATCH_S:g} ms and holds {MAX_BATCH} "
        f"crops, so that the engine takes {MAX_BATCH / BATCH_S:g} a second; JPEGs of 640 × 480 px, "
        f"one person each, {1e3 * decode_s:.1f} ms to decode and cut. {seconds:g} s a run.",
        "",
        "Age at engine start, in ms:",
        "",
        "| | sent | answered | dropped | p50 | p99 | most |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, said in runs.items():
        ages = 1e3 * np.array([age for found, _ in said for age in found])
        summaries = [summary for _, summary in said]
        sent, answered, dropped = (
            sum(getattr(one, what) for one in summaries)
            for what in ("received", "answered", "dropped")
        )
        p50, p99 = np.percentile(ages, [50, 99])
        lines.append(
            f"| {name} | {sent:,} | {answered:,} | {dropped:,} | {p50:.0f} | {p99:.0f} | "
            f"{ages.max():.0f} |"
        )
    lines += [
        "",
        f"Bound of the cameras at {BEYOND} × capacity: one frame interval "
        f"({1e3 * INTERVAL_S:.0f} ms), decoding of a batch by two threads "
        f"({1e3 * batch_decoded_s:.0f} ms) and the batch before ({1e3 * BATCH_S:.0f} ms): "
        f"{1e3 * bound:.0f} ms. It is exact under the simulated clock of "
        "`tests/runtime/test_fairness.py`.",
        "",
        f"The modest camera sends a frame each {1e3 * MODEST_S:.0f} ms; the flood, frames of "
        f"{len(CROWD)} persons, in order, as fast as they are taken. Such a frame takes "
        f"{1e3 * _decode_s(CROWD):.0f} ms to decode and cut.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
