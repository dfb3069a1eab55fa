"""What serving costs, beside the least that a server can do with the same protos and work.

The server runs on the first core, the client on the second. Round trips of one frame at a time
through a near-zero network (tests/shared/tiny_bundle): small raw frames, 720p JPEGs and raw 1080p.
Throughput of eight streams of raw crops through the bundle that ships, beside the bare engine
with batches of eight. Ours is asked through ``Client``, ``peers/minimal.py`` through a plain stub.

Run: python benchmarks/serving.py > benchmarks/serving_cpu_<yyyymm>.md
"""

import argparse
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib import metadata
from pathlib import Path

import cv2
import grpc
import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.locate import DEFAULT_BUNDLE
from misgiving.runtime.client import Client
from misgiving.runtime.engines.onnx import OnnxEngine
from misgiving.runtime.geometry import Region
from misgiving.runtime.images import encode_jpeg
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1 import pose_pb2 as pose
from misgiving.v1.detector_pb2_grpc import FailureDetectorStub

HERE = Path(__file__).parent
TINY = HERE.parent / "tests" / "shared" / "tiny_bundle"
WARM_UP, CALLS, ROUNDS = 20, 100, 5
STREAMS, FRAMES = 8, 100
OURS, MINIMAL = "misgiving serve", "minimal"

Payload = bytes | NDArray[np.uint8]
Times = dict[tuple[str, str], list[float]]


def main() -> None:
    """Measure, interleaved in rounds so that a noisy machine is noisy for all, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    cv2.setNumThreads(1)
    os.sched_setaffinity(0, {1})
    times, cpu = _round_trips(rounds)
    rates = _throughput(rounds)
    print(_page(times, cpu, rates, rounds))


def _round_trips(rounds: int) -> tuple[Times, dict[tuple[str, str], list[float]]]:
    times: Times = {}
    cpu: dict[tuple[str, str], list[float]] = {}
    with ExitStack() as stack:
        ways = {name: stack.enter_context(way(TINY)) for name, way in WAYS.items()}
        for number in range(rounds + 1):
            for what, payload in _payloads().items():
                for name, (process, address) in ways.items():
                    with _asking(name, address, payload) as ask:
                        before = _cpu_ms(process.pid)
                        taken = [_timed(ask) for _ in range(CALLS if number else WARM_UP)]
                        spent = (_cpu_ms(process.pid) - before) / len(taken)
                    if number:
                        times.setdefault((what, name), []).extend(taken)
                        cpu.setdefault((what, name), []).append(spent)
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
def _asking(name: str, address: str, payload: Payload) -> Iterator[Callable[[], object]]:
    height, width = (720, 1280) if isinstance(payload, bytes) else payload.shape[:2]
    whole = Region(0, 0, width, height)
    if name == OURS:
        with Client(address) as client:
            yield lambda: client.infer(payload, [whole])
        return
    with grpc.insecure_channel(address, [("grpc.max_send_message_length", -1)]) as channel:
        stub = FailureDetectorStub(channel)

        def ask() -> object:
            request = wire.InferRequest()
            _fill(request.frame, payload, whole)
            return stub.Infer(request).result

        yield ask


def _fill(frame: pose.Frame, payload: Payload, whole: Region) -> None:
    region = frame.regions.add()
    region.width_px, region.height_px = whole.width, whole.height
    if isinstance(payload, bytes):
        frame.image.encoded = payload
    else:
        frame.image.raw.height_px, frame.image.raw.width_px = payload.shape[:2]
        frame.image.raw.pixels = payload.tobytes()


def _throughput(rounds: int) -> dict[str, list[float]]:
    """Frames a second of each round."""
    rates: dict[str, list[float]] = {name: [] for name in (*WAYS, "bare engine")}
    rule = Bundle.load(DEFAULT_BUNDLE).manifest.crop
    crop = np.random.default_rng(0).integers(0, 255, (rule.height, rule.width, 3), np.uint8)
    with ExitStack() as stack:
        ways = {name: stack.enter_context(way(DEFAULT_BUNDLE)) for name, way in WAYS.items()}
        for number in range(rounds + 1):
            for name, (_, address) in ways.items():
                rate = _streamed(address, crop, FRAMES if number else WARM_UP)
                rates[name] += [rate] if number else []
            rates["bare engine"] += [_bare(crop)] if number else []
    return rates


def _streamed(address: str, crop: NDArray[np.uint8], frames: int) -> float:
    """STREAMS plain in-order streams at once, each with a few frames under way."""
    request = wire.StreamInferRequest()
    _fill(request.frame, crop, Region(0, 0, crop.shape[1], crop.shape[0]))
    opening = wire.StreamInferRequest(open=wire.StreamOpen(mode=wire.STREAM_MODE_IN_ORDER))

    def one(stub: FailureDetectorStub) -> None:
        replies = stub.StreamInfer(iter([opening, *[request] * frames]))
        answered = sum(reply.WhichOneof("message") == "result" for reply in replies)
        assert answered == frames, answered

    with grpc.insecure_channel(address) as channel:
        stub = FailureDetectorStub(channel)
        threads = [threading.Thread(target=one, args=(stub,)) for _ in range(STREAMS)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return STREAMS * frames / (time.perf_counter() - start)


def _bare(crop: NDArray[np.uint8]) -> float:
    """The engine alone, on the servers' core."""
    os.sched_setaffinity(0, {0})
    try:
        engine = OnnxEngine(DEFAULT_BUNDLE / "model.onnx", threads=1)
        batch = np.stack([crop] * 8)
        engine.infer(batch)
        start = time.perf_counter()
        for _ in range(FRAMES):
            engine.infer(batch)
        return 8 * FRAMES / (time.perf_counter() - start)
    finally:
        os.sched_setaffinity(0, {1})


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _cpu_ms(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") * 1e3


Server = tuple["subprocess.Popen[str]", str]


@contextmanager
def _server(command: list[str]) -> Iterator[Server]:
    process = subprocess.Popen(
        [sys.executable, *command],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {0}),
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


def _ours(bundle: Path) -> AbstractContextManager[Server]:
    listen = ["--listen", "127.0.0.1:0", "--threads", "1", "--audit-rate", "0"]
    return _server(["-m", "misgiving", "serve", "--bundle", str(bundle), *listen])


def _minimal(bundle: Path) -> AbstractContextManager[Server]:
    return _server([str(HERE / "peers" / "minimal.py"), str(bundle)])


WAYS = {OURS: _ours, MINIMAL: _minimal}


def _page(
    times: Times,
    cpu: dict[tuple[str, str], list[float]],
    rates: dict[str, list[float]],
    rounds: int,
) -> str:
    lines = [
        "# Serving",
        "",
        f"`python benchmarks/serving.py`, {time.strftime('%Y-%m-%d')}, {platform.machine()}, "
        f"{os.cpu_count()} cores: server on one, client on the other; "
        f"CPython {platform.python_version()}, grpcio {metadata.version('grpcio')}, "
        f"onnxruntime {metadata.version('onnxruntime')}, 1 thread, loopback. {rounds} interleaved "
        f"rounds of {CALLS} round trips, one at a time, through a near-zero network. CPU is the "
        "server's, a frame.",
        "",
        "| frame | p50 ms | p99 ms | CPU ms | minimal: p50 | p99 | CPU | p50, ours / minimal |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for what in dict.fromkeys(what for what, _ in times):
        cells, medians = [what], []
        for name in WAYS:
            p50, p99 = np.percentile(times[what, name], [50, 99]) * 1e3
            medians.append(p50)
            cells += [f"{p50:.2f}", f"{p99:.2f}", f"{np.median(cpu[what, name]):.2f}"]
        lines.append("| " + " | ".join([*cells, f"{medians[0] / medians[1]:.2f}"]) + " |")
    lines += [
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
        lines.append(
            f"| {name} | {median:.0f} | {min(each):.0f} | {max(each):.0f} | {median / bare:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
