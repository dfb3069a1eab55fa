"""What serving costs: round trips through a real server, less the work that any server has.

A near-zero network (tests/shared/tiny_bundle), one client, loopback, small raw frames and 720p
JPEGs, one by one (Infer) and in a stream. Prints a Markdown page; the committed one was made with
``python benchmarks/serving.py > benchmarks/serving_cpu_<yyyymm>.md``.
"""

import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.answer.answerer import Detector
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.client import Client, make_frame
from misgiving.runtime.engines.onnx import OnnxEngine
from misgiving.runtime.flags.policy import FlagPolicy
from misgiving.runtime.images import encode_jpeg

BUNDLE = Path(__file__).parents[1] / "tests" / "shared" / "tiny_bundle"
WARM_UP, CALLS, ROUNDS = 50, 300, 5

Payload = bytes | NDArray[np.uint8]


def main() -> None:
    """Measure, interleaved in rounds so that a noisy machine is noisy for all, and print."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    noise = cv2.resize(rng.integers(0, 255, (90, 160, 3), np.uint8), (1280, 720))
    payloads: dict[str, Payload] = {
        "64 × 48 raw": rng.integers(0, 255, (48, 64, 3), np.uint8),
        "1280 × 720 JPEG": encode_jpeg(np.asarray(noise, np.uint8)),
    }
    with _server() as address, Client(address) as client:
        ways = {
            (name, way): measure
            for name, payload in payloads.items()
            for way, measure in _ways(payload, client).items()
        }
        times: dict[tuple[str, str], list[float]] = {key: [] for key in ways}
        for round_number in range(ROUNDS + 1):
            for key, measure in ways.items():
                taken = measure(CALLS if round_number else WARM_UP)
                times[key] += taken if round_number else []
    print(_page(times))


def _ways(payload: Payload, client: Client) -> dict[str, Callable[[int], list[float]]]:
    detector = Detector(Bundle.load(BUNDLE), FlagPolicy(threshold=1e9, audit_rate=0.0))
    engine = OnnxEngine(BUNDLE / "model.onnx", threads=1)
    frame = make_frame(payload)

    def direct(count: int) -> list[float]:
        return [_timed(lambda: detector.detect(frame, engine)) for _ in range(count)]

    def unary(count: int) -> list[float]:
        return [_timed(lambda: client.infer(payload)) for _ in range(count)]

    def stream(count: int) -> list[float]:
        """One frame under way at a time: the latency of a stream, not its throughput."""
        sent: list[float] = []
        taken: list[float] = []

        def frames() -> Iterator[object]:
            for number in range(count):
                while len(taken) < number:
                    time.sleep(0)
                sent.append(time.perf_counter())
                yield make_frame(payload, frame_id=str(number))

        for reply in client.stream(frames()):  # type: ignore[arg-type]
            if reply.WhichOneof("message") == "result":
                taken.append(time.perf_counter() - sent[len(taken)])
        return taken

    return {"in process": direct, "Infer": unary, "StreamInfer": stream}


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@contextmanager
def _server() -> Iterator[str]:
    command = [
        sys.executable,
        "-m",
        "misgiving",
        "serve",
        "--bundle",
        str(BUNDLE),
    ]
    command += ["--listen", "127.0.0.1:0", "--threads", "1", "--audit-rate", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    match = re.search(r" on (\S+:\d+) ", process.stderr.readline())
    assert match is not None
    try:
        yield match[1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _page(times: dict[tuple[str, str], list[float]]) -> str:
    lines = [
        "# Serving overhead",
        "",
        f"`python benchmarks/serving.py`, {time.strftime('%Y-%m-%d')}, {platform.machine()}, "
        f"{os.cpu_count()} cores, CPython {platform.python_version()}, "
        f"grpcio {metadata.version('grpcio')}, onnxruntime {metadata.version('onnxruntime')}, "
        f"1 thread. {ROUNDS} interleaved rounds of {CALLS} calls, near-zero network, loopback.",
        "",
        "| frame | way | p50 ms | p99 ms | p50 − in process |",
        "|---|---|---:|---:|---:|",
    ]
    for (name, way), taken in times.items():
        p50, p99 = np.percentile(taken, [50, 99]) * 1e3
        base = float(np.median(times[name, "in process"])) * 1e3
        over = "–" if way == "in process" else f"{p50 - base:.2f}"
        lines.append(f"| {name} | {way} | {p50:.2f} | {p99:.2f} | {over} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
