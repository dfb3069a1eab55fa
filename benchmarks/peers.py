"""What serving costs, beside Triton (nvidia-pytriton), MLServer, LitServe and Ray Serve.

Each server is in an environment of its own, started anew in every round, on the first core; the
client is on the second. One frame at a time through a near-zero network (tests/shared/tiny_bundle):
small raw frames, 720p JPEGs and raw 1080p. Then eight clients at once, each one raw crop after the
other, through that network and through the bundle that ships. ``peers/work.py`` is what the others
do for a frame; every server's first answers are compared with the runtime's.

Run: nice python benchmarks/peers.py OUT --env misgiving=PYTHON --env pytriton=PYTHON
--env mlserver=PYTHON --env litserve=PYTHON --env ray_serve=PYTHON
> benchmarks/peers_cpu_<yyyymm>.md
OUT is a folder for the servers' logs. PYTHON is a virtual environment's: misgiving's has
misgiving[cpu], the others' have nvidia-pytriton, mlserver, litserve or ray[serve], each with
onnxruntime, opencv-python-headless and numpy. Without its environment a server is left out.
"""

import argparse
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from peer_clients import (
    NOT_YET,
    Ask,
    Connect,
    Floats,
    Payload,
    client,
    http,
    mlserver,
    size_of,
    stub,
    triton,
)
from peer_processes import (
    PATIENCE,
    NoAnswer,
    alone,
    cpu_ms,
    family_of,
    free_port,
    installed_mb,
    memory_mb,
    stop,
    versions,
    wait_for,
)

from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.locate import DEFAULT_BUNDLE
from misgiving.runtime.estimator import Estimator
from misgiving.runtime.geometry import Region
from misgiving.runtime.images import encode_jpeg

HERE = Path(__file__).parent
TINY = HERE.parent / "tests" / "shared" / "tiny_bundle"
NETWORKS = {"near-zero": TINY, "shipped": DEFAULT_BUNDLE}
WARM_UP, CALLS, ROUNDS = 20, 100, 5
CLIENTS, FRAMES = 8, 50
TOLERANCE = 0.01
"""px."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server, and how to ask it."""

    title: str
    env: str
    package: str
    options: Callable[[Path, int], list[str]]
    """What follows python, of a bundle and a port."""
    connect: Connect


def _ours(bundle: Path, port: int) -> list[str]:
    listen = ["--listen", f"127.0.0.1:{port}", "--threads", "1", "--audit-rate", "0"]
    return ["-m", "misgiving", "serve", "--bundle", str(bundle), *listen]


def _script(name: str) -> Callable[[Path, int], list[str]]:
    return lambda bundle, port: [str(HERE / "peers" / name), str(bundle), str(port)]


OURS = "misgiving serve"
PEERS = (
    Peer(OURS, "misgiving", "misgiving", _ours, client),
    Peer("minimal", "misgiving", "grpcio", _script("minimal.py"), stub),
    Peer(
        "Triton by pytriton", "pytriton", "nvidia-pytriton", _script("pytriton_server.py"), triton
    ),
    Peer("MLServer", "mlserver", "mlserver", _script("mlserver_server.py"), mlserver),
    Peer("LitServe", "litserve", "litserve", _script("litserve_server.py"), http),
    Peer("Ray Serve", "ray_serve", "ray", _script("ray_serve_server.py"), http),
)

Results = dict[tuple[str, str], list[float]]
"""By server and quantity, a number a round."""


def main() -> None:
    """Measure, interleaved in rounds so that a noisy machine is noisy for all, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--env", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    named = (env.partition("=") for env in given.env)
    pythons = {name: Path(path).absolute() for name, _, path in named}
    peers = [peer for peer in PEERS if peer.env in pythons]
    given.out.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    os.sched_setaffinity(0, {1})
    results: Results = {}
    for number in range(given.rounds):
        for peer in peers:
            for network in NETWORKS:
                print(f"round {number + 1}: {peer.title}, {network}", file=sys.stderr, flush=True)
                for what, value in _tried(peer, pythons[peer.env], network, given.out):
                    results.setdefault((peer.title, what), []).append(value)
    print(page(peers, pythons, results, given.rounds))


def _tried(peer: Peer, python: Path, network: str, out: Path) -> list[tuple[str, float]]:
    """Measured; where it does not come up, once more, and that is counted."""
    try:
        return [*measured(peer, python, network, out), ("failed starts", 0)]
    except NoAnswer as error:
        print(f"{peer.title}: {error}; once more", file=sys.stderr, flush=True)
        return [*measured(peer, python, network, out), ("failed starts", 1)]


def measured(peer: Peer, python: Path, network: str, out: Path) -> Iterator[tuple[str, float]]:
    """Start it, ask it and stop it: what was asked, and the number."""
    bundle, _ = NETWORKS[network], _expected()  # made before a server runs
    begun = time.perf_counter()
    with _server(peer, python, bundle, out) as (process, address), peer.connect(address) as ask:
        small, *_ = _payloads().values()
        _first_answer(process, ask, small)
        yield f"start, {network}", time.perf_counter() - begun
        if network == "near-zero":
            for what, payload in _payloads().items():
                _check(peer, ask(payload), _expected()[what])
                for name, value in _round_trips(process.pid, ask, payload).items():
                    yield f"{what}, {name}", value
        rule = Bundle.load(bundle).manifest.crop
        crop = _noise(rule.height, rule.width)
        _at_once(peer, address, crop, WARM_UP)
        before = cpu_ms(process.pid)
        yield f"frames/s, {network}", _at_once(peer, address, crop, FRAMES)
        yield f"CPU of {CLIENTS}, {network}", (cpu_ms(process.pid) - before) / (CLIENTS * FRAMES)
        yield f"memory, {network}", memory_mb(process.pid)
        yield f"processes, {network}", len(family_of(process.pid))


def _noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)


@cache
def _payloads() -> dict[str, Payload]:
    coarse = _noise(90, 160)
    return {
        "64 × 48 raw": _noise(48, 64),
        "1280 × 720 JPEG": encode_jpeg(np.asarray(cv2.resize(coarse, (1280, 720)), np.uint8)),
        "1920 × 1080 raw": np.asarray(cv2.resize(coarse, (1920, 1080)), np.uint8),
    }


def _first_answer(process: "subprocess.Popen[bytes]", ask: Ask, payload: Payload) -> None:
    deadline = time.perf_counter() + PATIENCE
    while True:
        try:
            ask(payload)
            return
        except NOT_YET as error:
            if process.poll() is not None or time.perf_counter() > deadline:
                raise NoAnswer(str(error)) from error
            time.sleep(0.02)


def _check(peer: Peer, answer: Floats, expected: Floats) -> None:
    """Raise SystemExit unless the server says what the runtime says."""
    if answer.shape != expected.shape or np.abs(answer - expected).max() > TOLERANCE:
        raise SystemExit(f"{peer.title} answers {answer}; expected {expected}")


@cache
def _expected() -> dict[str, Floats]:
    """The runtime's answers, by payload."""
    estimator = Estimator.load(TINY, threads=1)
    answers = {}
    for what, payload in _payloads().items():
        height, width = size_of(payload)
        (person,) = estimator.infer(payload, [Region(0, 0, width, height)]).persons
        answers[what] = np.append(person.keypoints, person.predicted_loss)
    return answers


def _round_trips(pid: int, ask: Ask, payload: Payload) -> dict[str, float]:
    for _ in range(WARM_UP):
        ask(payload)
    before = cpu_ms(pid)
    taken = [_timed(ask, payload) for _ in range(CALLS)]
    p50, p99 = np.percentile(taken, [50, 99]) * 1e3
    return {"p50": p50, "p99": p99, "CPU": (cpu_ms(pid) - before) / CALLS}


def _timed(ask: Ask, payload: Payload) -> float:
    start = time.perf_counter()
    ask(payload)
    return time.perf_counter() - start


def _at_once(peer: Peer, address: str, crop: NDArray[np.uint8], frames: int) -> float:
    """Frames a second of CLIENTS at once, each with a connection and one frame under way."""
    with ExitStack() as stack:
        asks = [stack.enter_context(peer.connect(address)) for _ in range(CLIENTS)]
        for ask in asks:
            ask(crop)
        threads = [threading.Thread(target=_in_turn, args=(ask, crop, frames)) for ask in asks]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return CLIENTS * frames / (time.perf_counter() - start)


def _in_turn(ask: Ask, crop: NDArray[np.uint8], frames: int) -> None:
    for _ in range(frames):
        ask(crop)


@contextmanager
def _server(
    peer: Peer, python: Path, bundle: Path, out: Path
) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """Its process, when it listens, and host:port."""
    port = free_port()
    with (out / f"{peer.title.replace(' ', '_')}.log").open("wb") as log:
        process = subprocess.Popen(
            [python, *peer.options(bundle, port)],
            cwd=out,
            stdout=log,
            stderr=log,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            preexec_fn=alone,
        )
    try:
        wait_for(process, port)
        yield process, f"127.0.0.1:{port}"
    finally:
        stop(process)


def page(peers: Sequence[Peer], pythons: Mapping[str, Path], results: Results, rounds: int) -> str:
    """The Markdown page."""
    median = {key: float(np.median(values)) for key, values in results.items()}
    lines = [
        "# Serving beside others, CPU",
        "",
        f"`{_command(rounds)}`, {time.strftime('%Y-%m-%d')}, {platform.machine()}, "
        f"{os.cpu_count()} cores: each server with all its processes on one, its client on the "
        f"other, loopback. Medians of {rounds} interleaved rounds; each starts every server anew.",
        "",
        *(f"- {peer.title}: {versions(pythons[peer.env], peer.package)}" for peer in peers),
        "",
        NOTES,
    ]
    for what in _payloads():
        lines += ["", f"## {what}", "", *_round_trip_rows(peers, median, what)]
    lines += ["", f"## {CLIENTS} clients at once", "", *_at_once_rows(peers, median)]
    lines += ["", "## What it takes", "", *_footprint_rows(peers, pythons, results)]
    return "\n".join(lines)


def _command(rounds: int) -> str:
    return f"python benchmarks/peers.py OUT --env NAME=PYTHON … --rounds {rounds}"


NOTES = f"""\
- The work of a frame is the same for all: decode, cut, a network on one thread of ONNX Runtime,
  joints in px of the picture. misgiving and minimal answer more: signals, a probability, a flag.
  Every server's answer to each of the three frames is within {TOLERANCE} px of the runtime's.
- The others' servers are `benchmarks/peers/*_server.py`, each in its framework's idiom with one
  worker for the model. Triton and Ray Serve batch up to 8 frames, without waiting for more.
  MLServer's batches wait, and LitServe's loop of batches polls: these two do not batch.
- Triton and MLServer are asked over gRPC by the Open Inference Protocol, LitServe and Ray Serve
  over HTTP with the picture as the body, misgiving by its `Client`, minimal by a plain stub. All
  clients are synchronous and in Python.
- CPU is of all processes of the server, in ms a frame; the kernel counts it in hundredths of a
  second. Memory is the proportional set size of all its processes. Start: from starting the process
  to its first answer.
- The near-zero network is `tests/shared/tiny_bundle`."""


def _round_trip_rows(
    peers: Sequence[Peer], median: Mapping[tuple[str, str], float], what: str
) -> Iterator[str]:
    yield f"One at a time, {CALLS} a round, through the near-zero network."
    yield ""
    yield "| | p50 ms | p99 ms | CPU ms | p50, of misgiving's | CPU, of misgiving's |"
    yield "|---|---:|---:|---:|---:|---:|"
    for peer in peers:
        p50, p99, cpu = (median[peer.title, f"{what}, {name}"] for name in ("p50", "p99", "CPU"))
        ours, our_cpu = (median[OURS, f"{what}, {name}"] for name in ("p50", "CPU"))
        yield (
            f"| {peer.title} | {p50:.2f} | {p99:.2f} | {cpu:.2f} | {p50 / ours:.2f} | "
            f"{cpu / our_cpu:.2f} |"
        )


def _at_once_rows(peers: Sequence[Peer], median: Mapping[tuple[str, str], float]) -> Iterator[str]:
    yield f"{FRAMES} raw crops each, one after the other."
    yield ""
    yield "| | near-zero: frames/s | CPU ms | shipped bundle: frames/s | CPU ms |"
    yield "|---|---:|---:|---:|---:|"
    for peer in peers:
        cells = [peer.title]
        for network in NETWORKS:
            cells.append(f"{median[peer.title, f'frames/s, {network}']:.0f}")
            cells.append(f"{median[peer.title, f'CPU of {CLIENTS}, {network}']:.2f}")
        yield "| " + " | ".join(cells) + " |"


def _footprint_rows(
    peers: Sequence[Peer], pythons: Mapping[str, Path], results: Results
) -> Iterator[str]:
    yield "With the shipped bundle. minimal runs in misgiving's environment. A start that "
    yield "failed was tried again."
    yield ""
    yield "| | start s | failed starts | processes | memory MB | installed MB |"
    yield "|---|---:|---:|---:|---:|---:|"
    for peer in peers:
        start, processes, memory = (
            np.median(results[peer.title, f"{what}, shipped"])
            for what in ("start", "processes", "memory")
        )
        counts = results[peer.title, "failed starts"]
        failed = round(sum(counts))
        yield (
            f"| {peer.title} | {start:.1f} | {failed} of {len(counts) + failed} | "
            f"{processes:.0f} | {memory:.0f} | {installed_mb(pythons[peer.env]):.0f} |"
        )


if __name__ == "__main__":
    main()
