"""Does a server that is asked without end grow? Processes of clients ask one through a near-zero
network (tests/shared/tiny_bundle), with spool, ledger, metrics and every rule of flags.

A share of the streams ends as it should. The others are half-closed, cancelled, never read, or
left by a client that is killed. Memory, file descriptors and threads of the server are read from
/proc, and a share of the answers is compared with the estimator's.

Run: python benchmarks/soak.py OUT > benchmarks/soak_cpu_<yyyymm>.md
"""

import argparse
import itertools
import json
import multiprocessing
import os
import platform
import queue
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import grpc
import numpy as np

from misgiving.runtime import Estimator
from misgiving.runtime.client import Client
from misgiving.runtime.geometry import Region
from misgiving.runtime.images import encode_jpeg
from misgiving.runtime.nouns import Answer, make_frame
from misgiving.runtime.status import ServerStatus
from misgiving.runtime.wire.frames import fill_frame
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1 import pose_pb2 as pose
from misgiving.v1.detector_pb2_grpc import FailureDetectorStub

TINY = Path(__file__).parent.parent / "tests" / "shared" / "tiny_bundle"
SPAWNED = multiprocessing.get_context("spawn")
REQUESTS, STREAMS, WORKERS = 1_000_000, 10_000, 2
WARM_UP = 0.1
"""Share of the requests until memory is measured: of a million, the spool's quota is then full."""
ENDINGS = ("ended", "half-closed", "cancelled", "never read", "killed")
TURNS = [*["ended"] * 10, *["half-closed"] * 4, *["cancelled"] * 4, *["never read"] * 2]
"""How the streams of one connection end; a client that is killed opens as many."""
A_KILL, CAMERAS, AT_ONCE = 19, 32, 8
FEW, MANY = 4, 200
"""Frames of a stream that is left, and of one that is never read, which are more than fit."""
CHECKED = 10
"""Every so many answers one is compared."""
SETTINGS = """
[server]
listen = "127.0.0.1:0"
max_message_bytes = "4MiB"
[bundle]
path = "{bundle}"
threads = 1
[flags]
threshold = 0.997
audit_rate = 0.01
release = 0.996
repeat_s = 5
interval_s = 0.5
near_duplicate = 0.000001
frames_per_minute = 600
bytes_per_minute = "10MB"
[spool]
folder = "{out}/spool"
quota = "50kB"
[metrics]
listen = "127.0.0.1:0"
[log]
format = "json"
"""


def main() -> None:
    """Serve, ask, watch, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for spool, log and samples")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="unary and of streams")
    parser.add_argument("--streams", type=int, default=STREAMS, help="that are opened")
    parser.add_argument("--workers", type=int, default=WORKERS, help="processes of clients")
    parser.add_argument("--every", type=float, default=2.0, help="seconds between samples")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with _server(options.out) as (pid, address):
        samples, counts = _soaked(options, pid, address)
        with Client(address) as client:
            status = _settled(client)
        after = _sample(pid, counts["requests"])
    print(_page(options, samples, after, counts, status, time.monotonic() - start))


@contextmanager
def _server(out: Path) -> Iterator[tuple[int, str]]:
    settings = out / "misgiving.toml"
    settings.write_text(SETTINGS.format(bundle=TINY, out=out.absolute()), "utf-8")
    command = [sys.executable, "-m", "misgiving", "serve", "--config", str(settings)]
    with (out / "server.log").open("w") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        while not (found := re.search(r" on (\S+:\d+) with ", (out / "server.log").read_text())):
            assert process.poll() is None, (out / "server.log").read_text()
            time.sleep(0.1)
        yield process.pid, found[1]
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(30)
    assert code == 0, code


def _soaked(
    options: argparse.Namespace, pid: int, address: str
) -> tuple[list[dict[str, float]], dict[str, int]]:
    """Samples of the server while all clients ask, and what they have counted."""
    tallies = [SPAWNED.Array("q", len(Tally.NAMES)) for _ in range(options.workers)]
    shares = [options.streams // options.workers] * options.workers
    shares[0] += options.streams - sum(shares)
    workers = [
        SPAWNED.Process(target=_ask, args=(address, share, options.requests / options.streams, it))
        for share, it in zip(shares, tallies, strict=True)
    ]
    for worker in workers:
        worker.start()
    samples = []
    with (options.out / "samples.jsonl").open("w") as file:
        while any(worker.is_alive() for worker in workers):
            time.sleep(options.every)
            samples.append(_sample(pid, _sum(tallies)["requests"]))
            print(json.dumps(samples[-1]), file=file, flush=True)
    assert not any(worker.exitcode for worker in workers), "a client failed"
    return samples, _sum(tallies)


def _sample(pid: int, requests: int) -> dict[str, float]:
    proc = Path("/proc") / str(pid)
    sizes = dict(re.findall(r"^(Rss|Pss): +(\d+) kB", (proc / "smaps_rollup").read_text(), re.M))
    assert (threads := re.search(r"^Threads:\s+(\d+)", (proc / "status").read_text(), re.M))
    return {
        "requests": requests,
        "rss_kb": int(sizes["Rss"]),
        "pss_kb": int(sizes["Pss"]),
        "descriptors": len(list((proc / "fd").iterdir())),
        "threads": int(threads[1]),
    }


def _settled(client: Client) -> ServerStatus:
    """The status once nothing is under way; what was cancelled may take a moment to be counted."""
    for _ in range(100):
        now = client.status()
        if now.received == now.answered + now.dropped + now.failed:
            return now
        time.sleep(0.1)
    raise SystemExit(f"frames are still under way: {now}")


class Tally:
    """What one process of clients counts, where the parent sees it."""

    NAMES = ("requests", "calls", "checked", "wrong", *ENDINGS)

    def __init__(self, shared: Any) -> None:
        self._shared = shared

    def add(self, name: str, count: int = 1) -> None:
        self._shared[self.NAMES.index(name)] += count

    def __getitem__(self, name: str) -> int:
        return int(self._shared[self.NAMES.index(name)])


def _sum(tallies: Sequence[Any]) -> dict[str, int]:
    return {name: sum(one[i] for one in tallies) for i, name in enumerate(Tally.NAMES)}


class Asking:
    """One process of clients: frames that go round, and what must be answered to each."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self._pairs = itertools.cycle(_frames())
        self._answers = itertools.count()

    def requests(self, count: int) -> Iterator[tuple[pose.Frame, Answer]]:
        for pair in itertools.islice(self._pairs, count):
            self.tally.add("requests")
            yield pair

    def check(self, result: wire.FrameResult, expected: Answer) -> None:
        if next(self._answers) % CHECKED == 0:
            self.tally.add("checked")
            self.tally.add("wrong", not _same(result, expected))


def _frames() -> list[tuple[pose.Frame, Answer]]:
    """Small raw frames and JPEGs, with a region or without, below and above the threshold."""
    estimator, rng = Estimator.load(TINY), np.random.default_rng(0)
    pairs = []
    for number in range(64):
        image = np.zeros((48, 64, 3), np.uint8)
        image[rng.integers(48, size=14), rng.integers(64, size=14)] = rng.integers(256)
        sent = encode_jpeg(image) if number % 4 == 0 else image
        regions = [] if number % 8 == 1 else [Region(0, 0, 64, 48)]
        camera = f"camera {number % CAMERAS}"
        frame = make_frame(sent, regions, str(number), time.time_ns(), camera)
        fill_frame(message := pose.Frame(), frame)
        pairs.append((message, estimator.infer(sent, regions, frame_id=str(number))))
    return pairs


def _same(result: wire.FrameResult, expected: Answer) -> bool:
    if result.frame_id != expected.frame_id or len(result.persons) != len(expected.persons):
        return False
    pairs = zip(result.persons, expected.persons, strict=True)
    return all(np.isclose(a.predicted_loss, b.predicted_loss, atol=1e-5) for a, b in pairs)


def _ask(address: str, streams: int, requests_a_stream: float, shared: Any) -> None:
    """Open so many streams, each beside its part of the requests."""
    cv2.setNumThreads(1)
    asking = Asking(tally := Tally(shared))
    opened = 0
    for connection in itertools.count():
        with _connected(address) as stub:
            for ending in TURNS[: streams - opened]:
                opened += 1
                owed = round(opened * requests_a_stream) - tally["requests"]
                _open(stub, asking, ending, owed)
        if connection % A_KILL == A_KILL - 1:
            opened += _killed(address, asking, min(len(TURNS), streams - opened))
        if opened == streams:
            return


@contextmanager
def _connected(address: str) -> Iterator[FailureDetectorStub]:
    """By a connection of its own: channels to one address would share theirs."""
    with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield FailureDetectorStub(channel)


def _open(stub: FailureDetectorStub, asking: Asking, ending: str, owed: int) -> None:
    """One stream, and the rest of what is owed by calls."""
    before = asking.tally["requests"]
    if ending == "ended":
        _ended(stub, asking, max(FEW, owed // 2))
    else:
        frames = asking.requests(MANY if ending == "never read" else FEW)
        left = _left(stub, frames, asking.tally[ending] % 2 == 1, ending)
    _call(stub, asking, max(0, owed - (asking.tally["requests"] - before)))
    if ending != "ended":
        left.cancel()
    asking.tally.add(ending)


def _ended(stub: FailureDetectorStub, asking: Asking, count: int) -> None:
    """All of it: each answer in order, and the summary."""
    expected: queue.SimpleQueue[Answer] = queue.SimpleQueue()

    def requests() -> Iterator[wire.StreamInferRequest]:
        yield _opening(live=False)
        for frame, answer in asking.requests(count):
            expected.put(answer)
            yield wire.StreamInferRequest(frame=frame)

    *replies, last = stub.StreamInfer(requests())
    for reply in replies:
        asking.check(reply.result, expected.get())
    assert last.summary == wire.StreamSummary(received=count, answered=count), last


def _left(
    stub: FailureDetectorStub,
    frames: Iterable[tuple[pose.Frame, Answer]],
    live: bool,
    ending: str,
) -> Any:
    """A stream that nobody will end; of a half-closed one only the client's side is closed."""
    waits: queue.SimpleQueue[None] = queue.SimpleQueue()

    def requests() -> Iterator[wire.StreamInferRequest]:
        yield _opening(live)
        for frame, _ in frames:
            yield wire.StreamInferRequest(frame=frame)
        if ending != "half-closed":
            waits.get()

    replies = stub.StreamInfer(requests())
    replies.add_callback(lambda: waits.put(None))
    if ending == "cancelled":
        next(replies)
    return replies


def _opening(live: bool) -> wire.StreamInferRequest:
    mode = wire.STREAM_MODE_LIVE if live else wire.STREAM_MODE_IN_ORDER
    return wire.StreamInferRequest(open=wire.StreamOpen(mode=mode))


def _call(stub: FailureDetectorStub, asking: Asking, count: int) -> None:
    """Unary calls, a few at a time."""
    for start in range(0, count, AT_ONCE):
        pairs = list(asking.requests(min(AT_ONCE, count - start)))
        calls = [stub.Infer.future(wire.InferRequest(frame=frame)) for frame, _ in pairs]
        for call, (_, expected) in zip(calls, pairs, strict=True):
            asking.check(call.result().result, expected)
        asking.tally.add("calls", len(pairs))


def _killed(address: str, asking: Asking, streams: int) -> int:
    """Streams of a client whose process is killed while all of them are open."""
    here, there = SPAWNED.Pipe()
    frames = [frame.SerializeToString() for frame, _ in asking.requests(streams * FEW)]
    victim = SPAWNED.Process(target=_until_killed, args=(address, frames, streams, there))
    victim.start()
    here.recv()
    victim.kill()
    victim.join()
    asking.tally.add("killed", streams)
    return streams


def _until_killed(address: str, frames: list[bytes], streams: int, there: Connection) -> None:
    with _connected(address) as stub:
        parsed = [(pose.Frame.FromString(frame), Answer("", (), "")) for frame in frames]
        parts = [parsed[i * FEW : (i + 1) * FEW] for i in range(streams)]
        left = [_left(stub, part, i % 2 == 0, "cancelled") for i, part in enumerate(parts)]
        there.send(len(left))
        signal.pause()


def _page(
    options: argparse.Namespace,
    samples: list[dict[str, float]],
    after: dict[str, float],
    counts: dict[str, int],
    status: ServerStatus,
    taken_s: float,
) -> str:
    assert (spool := status.spool) is not None
    errors = (options.out / "server.log").read_text().count('"level": "ERROR"')
    warm = [one for one in samples if one["requests"] >= WARM_UP * counts["requests"]]
    tenth = max(1, len(warm) // 10)
    lines = [
        "# Soak",
        "",
        f"`python benchmarks/soak.py OUT --requests {options.requests} --streams "
        f"{options.streams}`, {time.strftime('%Y-%m-%d')}, {platform.machine()}, "
        f"{os.cpu_count()} cores, {options.workers} processes of clients; "
        f"CPython {platform.python_version()}, grpcio {metadata.version('grpcio')}, "
        f"{taken_s / 60:.0f} minutes, {counts['requests'] / taken_s:.0f} requests/s.",
        "",
        "| what clients did | count |",
        "|---|---:|",
        f"| requests sent, calls and frames of streams | {counts['requests']:,} |",
        f"| of these calls, all answered | {counts['calls']:,} |",
        *(f"| streams {ending} | {counts[ending]:,} |" for ending in ENDINGS),
        f"| answers compared with the estimator's | {counts['checked']:,} |",
        f"| of these wrong | {counts['wrong']:,} |",
        f"| frames that the server received | {status.received:,} |",
        f"| answered, dropped, failed | {status.answered:,}, {status.dropped:,}, "
        f"{status.failed:,} |",
        f"| kept; evicted from the spool; lost | {status.kept:,}; {spool.evicted:,}; "
        f"{spool.lost:,} |",
        f"| errors in the server's log | {errors} |",
        "",
        f"Warm-up: the first {WARM_UP:.0%} of the requests. Of the {len(warm)} samples after it, "
        f"every {options.every:g} s, the median of the first tenth, that of the last, and a "
        "straight line through all of them:",
        "",
        "| of the server | first | last | last / first | line, end / start | when all had left |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, unit in {"rss_kb": "MB", "pss_kb": "MB", "descriptors": "", "threads": ""}.items():
        scale = 1024 if unit else 1
        first, last = (np.median([x[name] for x in part]) for part in (warm[:tenth], warm[-tenth:]))
        line = np.polynomial.Polynomial.fit(
            [x["requests"] for x in warm], [x[name] for x in warm], 1
        )
        begin, end = line(warm[0]["requests"]), line(warm[-1]["requests"])
        title = name.removesuffix("_kb").upper() + ", MB" if unit else name
        lines.append(
            f"| {title} | {first / scale:.1f} | {last / scale:.1f} | {last / first - 1:+.2%} | "
            f"{end / begin - 1:+.2%} | {after[name] / scale:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
