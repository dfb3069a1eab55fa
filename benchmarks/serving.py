"""What serving costs, beside the least that a server can do with the same protos and work.

The server runs on the first core, the client on the second. Round trips of one frame at a time
through a near-zero network (tests/shared/tiny_bundle): small raw frames, 720p JPEGs and raw 1080p;
and one in-order stream of small ones.
Throughput of eight streams of raw crops through the bundle that ships, beside the bare engine
with batches of eight. Then the engine on a core of its own, see ``serving_split.py``. Both servers
are asked through the same plain stub.

Run: python benchmarks/serving.py > benchmarks/serving_cpu_<yyyymm>.md
"""

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path

import cv2
import grpc
import numpy as np
from numpy.typing import NDArray
from serving_split import crop, lines, split
from serving_ways import FIRST, SECOND, STREAMS, WAYS, Payload, cpu_ms, fill, streamed

from misgiving.runtime.bundles.locate import DEFAULT_BUNDLE
from misgiving.runtime.engines.onnx import OnnxEngine
from misgiving.runtime.images import encode_jpeg
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1.detector_pb2_grpc import FailureDetectorStub

HERE = Path(__file__).parent
TINY = HERE.parent / "tests" / "shared" / "tiny_bundle"
WARM_UP, CALLS, ROUNDS = 20, 100, 5
FRAMES, STREAMED = 100, 300
"""Of each of eight streams, and of one alone."""
ONE_STREAM = "one in-order stream"

Times = dict[tuple[str, str], list[float]]


def main() -> None:
    """Measure, interleaved in rounds so that a noisy machine is noisy for all, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    cv2.setNumThreads(1)
    os.sched_setaffinity(0, {SECOND})
    times, cpu = _round_trips(rounds)
    rates = _throughput(rounds)
    print(_page(times, cpu, rates, rounds))
    apart, encoded = split(rounds, crop()), split(rounds, _payloads()["1280 × 720 JPEG"])
    print("\n".join(lines(apart, encoded)))


def _round_trips(rounds: int) -> tuple[Times, dict[tuple[str, str], list[float]]]:
    times: Times = {}
    cpu: dict[tuple[str, str], list[float]] = {}
    with ExitStack() as stack:
        ways = {name: stack.enter_context(way(TINY)) for name, way in WAYS.items()}
        for number in range(rounds + 1):
            for what, payload in _payloads().items():
                for name, (process, address) in ways.items():
                    with _asking(address, payload) as ask:
                        before = cpu_ms(process.pid)
                        taken = [_timed(ask) for _ in range(CALLS if number else WARM_UP)]
                        spent = (cpu_ms(process.pid) - before) / len(taken)
                    if number:
                        times.setdefault((what, name), []).extend(taken)
                        cpu.setdefault((what, name), []).append(spent)
            for name, (process, address) in ways.items():
                before = cpu_ms(process.pid)
                streamed(address, _payloads()["64 × 48 raw"], STREAMED, streams=1)
                if number:
                    spent = (cpu_ms(process.pid) - before) / STREAMED
                    cpu.setdefault((ONE_STREAM, name), []).append(spent)
    return times, cpu


def _payloads() -> dict[str, Payload]:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (90, 160, 3), np.uint8)
    return {
        "64 × 48 raw": rng.integers(0, 255, (48, 64, 3), np.uint8),
        "1280 × 720 JPEG": encode_jpeg(np.asarray(cv2.resize(coarse, (1280, 720)), np.uint8)),
        "1920 × 1080 raw": np.asarray(cv2.resize(coarse, (1920, 1080)), np.uint8),
    }


@contextmanager
def _asking(address: str, payload: Payload) -> Iterator[Callable[[], object]]:
    with grpc.insecure_channel(address, [("grpc.max_send_message_length", -1)]) as channel:
        stub = FailureDetectorStub(channel)

        def ask() -> object:
            request = wire.InferRequest()
            fill(request.frame, payload)
            return stub.Infer(request).result

        yield ask


def _throughput(rounds: int) -> dict[str, list[float]]:
    """Frames a second of each round."""
    rates: dict[str, list[float]] = {name: [] for name in (*WAYS, "bare engine")}
    one = crop()
    with ExitStack() as stack:
        ways = {name: stack.enter_context(way(DEFAULT_BUNDLE)) for name, way in WAYS.items()}
        for number in range(rounds + 1):
            for name, (_, address) in ways.items():
                rate = streamed(address, one, FRAMES if number else WARM_UP)
                rates[name] += [rate] if number else []
            rates["bare engine"] += [_bare(one)] if number else []
    return rates


def _bare(crop: NDArray[np.uint8]) -> float:
    """The engine alone, on the servers' core."""
    os.sched_setaffinity(0, {FIRST})
    try:
        engine = OnnxEngine(DEFAULT_BUNDLE / "model.onnx", threads=1)
        batch = np.stack([crop] * 8)
        engine.infer(batch)
        start = time.perf_counter()
        for _ in range(FRAMES):
            engine.infer(batch)
        return 8 * FRAMES / (time.perf_counter() - start)
    finally:
        os.sched_setaffinity(0, {SECOND})


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _page(
    times: Times,
    cpu: dict[tuple[str, str], list[float]],
    rates: dict[str, list[float]],
    rounds: int,
) -> str:
    found = [
        "# Serving",
        "",
        f"`python benchmarks/serving.py`, {time.strftime('%Y-%m-%d')}, {platform.machine()}, "
        f"{os.cpu_count()} cores: server on one, client on the other; "
        f"CPython {platform.python_version()}, grpcio {metadata.version('grpcio')}, "
        f"onnxruntime {metadata.version('onnxruntime')}, 1 thread, loopback. {rounds} interleaved "
        f"rounds of {CALLS} round trips, one at a time, through a near-zero network. CPU is the "
        "server's, a frame.",
        "",
        "| frame | p50 ms | p99 ms | CPU ms | minimal: p50 | p99 | CPU | ours / minimal | CPU |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for what in dict.fromkeys(what for what, _ in times):
        cells, medians, spent = [what], [], []
        for name in WAYS:
            p50, p99 = np.percentile(times[what, name], [50, 99]) * 1e3
            medians.append(p50)
            spent.append(np.median(cpu[what, name]))
            cells += [f"{p50:.2f}", f"{p99:.2f}", f"{spent[-1]:.2f}"]
        cells += [f"{medians[0] / medians[1]:.2f}", f"{spent[0] / spent[1]:.2f}"]
        found.append("| " + " | ".join(cells) + " |")
    our, least = (np.median(cpu[ONE_STREAM, name]) for name in WAYS)
    found += [
        "",
        f"CPU of {ONE_STREAM}, {STREAMED} frames of 64 × 48 raw as fast as the server takes them: "
        f"{our:.2f} ms a frame, minimal {least:.2f}; ours / minimal {our / least:.2f}.",
        "",
        f"{STREAMS} streams of raw crops at once through the bundle that ships, {FRAMES} frames "
        "each; the bare engine alone on the servers' core, in batches of 8:",
        "",
        "| | frames/s, median | least | most | of the bare engine |",
        "|---|---:|---:|---:|---:|",
    ]
    bare = np.median(rates["bare engine"])
    for name, each in rates.items():
        median = np.median(each)
        found.append(
            f"| {name} | {median:.0f} | {min(each):.0f} | {max(each):.0f} | {median / bare:.2f} |"
        )
    return "\n".join(found)


if __name__ == "__main__":
    main()
