"""How many frames a second collectors make durable, beside a plain copy that fsyncs each file.

    PYTHONPATH=tests python benchmarks/ingest.py --out benchmarks/ingest_cpu_202611.md
        [--folder DIR] [--rounds N] [--only NAME]

A frame is a CollectedFrame of 100 kB that no compression makes smaller. Vehicles are processes,
each with a spool and an uploader as `misgiving serve` has them; their spools are in memory, as the
disk of a vehicle is not that of the fleet side. Collectors are `misgiving collect`. The time is
from the first call to the last receipt. Rounds of all ways take turns, each with frames of its
own; the disk of ``--folder`` is measured.
"""

import argparse
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from misgiving.collector import service
from misgiving.collector.frames.devices import Caller
from misgiving.collector.service import Ingest
from misgiving.collector.store import Store
from misgiving.runtime.durable import sync_folder
from misgiving.runtime.outbox.spool import Spool
from misgiving.runtime.outbox.uploader import Uploader
from misgiving.v1.fleet_pb2 import UploadAnswer, UploadBatchResponse, UploadResponse, WholeFrame
from shared.collecting import collecting, noisy_frame, offer, serialise, until_pending
from shared.services import KEYS, S3, Postgres, started

FRAMES, VEHICLES, BYTES = 100, 8, 100_000
"""Frames of each vehicle in a round."""
MEMORY = Path("/dev/shm")
_START_S = 60.0
_PROCESSES = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Took:
    """One round of one way."""

    seconds: float
    vehicle_s: float = 0.0
    """Seconds of CPU of all vehicles."""
    collector_s: float = 0.0

    @property
    def rate(self) -> float:
        """Frames a second."""
        return FRAMES * VEHICLES / self.seconds


class Emptying(Spool):
    """A spool that tells of each frame that has left it."""

    def __init__(self, folder: Path) -> None:
        self.left = threading.Semaphore(0)
        super().__init__(folder)

    def remove(self, *digests: str) -> None:
        super().remove(*digests)
        for _ in digests:
            self.left.release()


def vehicle(name: str, orders: Connection) -> None:
    """Fill a spool at each order and say so; empty it to the collector that is named then, or to
    nobody; say when that began and ended, and how much CPU it took."""
    while run := orders.recv():
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            spool = Emptying(Path(folder))
            for number in range(FRAMES):
                until_pending(spool, number - 32)  # for whom its queue has room
                assert offer(spool, noisy_frame(f"{name}-{run}-{number}", BYTES))
            until_pending(spool, FRAMES)
            orders.send(None)
            target = orders.recv()
            began, used = time.monotonic(), time.process_time()
            _empty(spool, target)
            orders.send((began, time.monotonic(), time.process_time() - used))
            assert spool.counts().uploaded == FRAMES
            spool.close()


def _empty(spool: Emptying, target: str | None) -> None:
    if target is None:
        for digest in spool.pending():
            spool.read(digest)
            spool.remove(digest)
        return
    uploader = Uploader(spool, target)
    uploader.start()
    for _ in range(FRAMES):
        spool.left.acquire()
    uploader.stop(_START_S)


class Fleet:
    """The vehicles' processes."""

    def __init__(self) -> None:
        self._ends = []
        for number in range(VEHICLES):
            ours, theirs = _PROCESSES.Pipe()
            _PROCESSES.Process(target=vehicle, args=(str(number), theirs), daemon=True).start()
            self._ends.append(ours)

    def close(self) -> None:
        for end in self._ends:
            end.send("")

    def run(self, name: str, targets: Sequence[str | None]) -> Took:
        """Each vehicle to one of these, in turn."""
        for end in self._ends:
            end.send(name)
        for end in self._ends:
            end.recv()
        for number, end in enumerate(self._ends):
            end.send(targets[number % len(targets)])
        began, ended, used = zip(*(end.recv() for end in self._ends), strict=True)
        return Took(max(ended) - min(began), sum(used))


class Receiving(Ingest):
    """Takes uploads, and keeps nothing: what the calls cost, whatever is done with the frames."""

    async def _upload(self, requests: Any, caller: Caller) -> UploadResponse:
        start = (await anext(aiter(requests))).start
        async for _ in requests:
            pass
        return UploadResponse(digest=start.digest)

    async def _batch(self, frames: Sequence[WholeFrame], caller: Caller) -> UploadBatchResponse:
        return UploadBatchResponse(answers=[UploadAnswer(digest=one.digest) for one in frames])


def receiving(folder: Path, said: Connection) -> None:
    """Serve that in a process of its own."""
    service.Ingest = Receiving  # type: ignore[misc]
    with Store(folder) as store, collecting(store) as address:
        said.send((address, os.getpid()))
        threading.Event().wait()


class Collectors:
    """Processes of `misgiving collect` with one store; ended by :meth:`close`.

    Args:
        options: of each.
        count: how many.
        environment: beside ours.
    """

    def __init__(self, options: Sequence[str], count: int, environment: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "misgiving", "collect", "--listen", "127.0.0.1:0"]
        self._processes = [
            subprocess.Popen(
                [*command, *options],
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, **environment},
            )
            for _ in range(count)
        ]
        self.addresses = [_address(one) for one in self._processes]
        self.pids = [one.pid for one in self._processes]

    def close(self) -> None:
        for one in self._processes:
            one.kill()
            one.communicate()


def used_s(pids: Sequence[int]) -> float:
    """Seconds of CPU of processes until now."""
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    ticks = sum(int(fields[11]) + int(fields[12]) for fields in stats)
    return ticks / os.sysconf("SC_CLK_TCK")


def _address(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    line = next((line for line in process.stderr if line.startswith("collecting on ")), "")
    assert line, "a collector did not start"
    return line.split()[2]


@dataclass(frozen=True)
class Ways:
    """The collectors of each way by name, and the S3 of some."""

    collectors: dict[str, Collectors]
    s3: S3


@contextmanager
def all_ways(folder: Path, only: str) -> Iterator[Ways]:
    with ExitStack() as stack:
        ways = dict[str, Collectors]()

        def add(name: str, count: int, *options: str, **environment: str) -> None:
            if only in name:
                store = tempfile.mkdtemp(dir=folder)
                ways[name] = made = Collectors(["--store", store, *options], count, environment)
                stack.callback(made.close)

        add("1 collector, SQLite and folder", 1)
        postgres, s3 = stack.enter_context(started(Postgres)), stack.enter_context(started(S3))
        keys = {**KEYS, "AWS_ENDPOINT_URL": s3.endpoint}
        for count in (1, 2, 4):
            database = ("--database", postgres.make())
            add(f"{_many(count)}, PostgreSQL and folder", count, *database)
        for count in (1, 2, 4):
            both = ("--database", postgres.make(), "--objects", s3.make())
            add(f"{_many(count)}, PostgreSQL and S3", count, *both, **keys)
        yield Ways(ways, s3)


def _many(count: int) -> str:
    return f"{count} collector{'s' if count > 1 else ''}"


def copied(folder: Path, bodies: Sequence[bytes], at_once: int = 1) -> Took:
    """The same bytes as files of their own, each and its name made durable before the next."""

    def copy(path: Path, body: bytes) -> None:
        with path.open("xb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)

    # Deleted at the very end: ext4 without a journal is slow to make files for a minute after that.
    made = tempfile.mkdtemp(dir=folder)
    with ThreadPoolExecutor(at_once) as pool:
        began = time.monotonic()
        list(pool.map(copy, (Path(made, str(number)) for number in range(len(bodies))), bodies))
        return Took(time.monotonic() - began)


def put(s3: S3, bodies: Sequence[bytes], at_once: int = 1) -> Took:
    """The same bytes as objects of a bucket of their own, by boto3 alone."""
    bucket, _, prefix = s3.make().removeprefix("s3://").partition("/")
    client = s3.client()

    def one(number: int) -> None:
        client.put_object(Bucket=bucket, Key=f"{prefix}/{number}", Body=bodies[number])

    with ThreadPoolExecutor(at_once) as pool:
        began = time.monotonic()
        list(pool.map(one, range(len(bodies))))
        return Took(time.monotonic() - began)


def measured(options: argparse.Namespace, folder: Path) -> dict[str, list[Took]]:
    fleet, rows = Fleet(), dict[str, list[Took]]()

    def note(name: str, took: Took) -> None:
        rows.setdefault(name, []).append(took)

    def sent(name: str, number: int, addresses: Sequence[str], pids: Sequence[int]) -> None:
        before = used_s(pids)
        took = fleet.run(f"{name}-{number}", addresses)
        note(name, Took(took.seconds, took.vehicle_s, used_s(pids) - before))

    bodies = [serialise(noisy_frame(str(n), BYTES)) for n in range(FRAMES * VEHICLES)]
    ours, theirs = _PROCESSES.Pipe(duplex=False)
    _PROCESSES.Process(target=receiving, args=(folder / "none", theirs), daemon=True).start()
    nobody, pid = ours.recv()
    with all_ways(folder, options.only) as ways:
        for number in range(options.rounds):
            note("plain copy", copied(folder, bodies))
            note(f"plain copy, {VEHICLES} at once", copied(folder, bodies, VEHICLES))
            note("plain puts", put(ways.s3, bodies))
            note(f"plain puts, {VEHICLES} at once", put(ways.s3, bodies, VEHICLES))
            note("vehicles alone", fleet.run(f"alone-{number}", [None]))
            sent("calls alone", number, [nobody], [pid])
            for name, collectors in ways.collectors.items():
                sent(name, number, collectors.addresses, collectors.pids)
    fleet.close()
    return rows


def page(rows: Mapping[str, Sequence[Took]], command: str) -> str:
    rounds, copy = len(rows["plain copy"]), rows["plain copy"]
    lines = [
        "# Frames that collectors make durable\n",
        f"`{command}`, {date.today()}, {os.cpu_count()} cores of {platform.machine()}, Python "
        f"{platform.python_version()}.",
        f"{rounds} rounds of {FRAMES * VEHICLES} frames of {BYTES // 1000} kB from {VEHICLES} "
        "vehicles for each row; median, and the least and the most of a round.",
        "The ratio is that of frames/s to the plain copy of the same round, and to the plain puts "
        "into the same S3.",
        "*Vehicles alone* read and forget the frames of their spools, and send them nowhere. "
        "*Calls alone* send them to a server that keeps nothing: what gRPC and Python take of the "
        "cores, which vehicles and collectors share here.\n",
        "| | frames/s | MB/s | to the copy | to the puts | CPU, ms a frame: vehicle | collector |",
        "|---|---|---:|---|---|---:|---:|",
    ]
    for name, took in rows.items():
        rates = [one.rate for one in took]
        to_puts = _ratio(took, rows["plain puts"]) if "S3" in name else ""
        cpu = [
            f"{1e3 * statistics.median(x) / FRAMES / VEHICLES:.1f}" if any(x) else ""
            for x in ([one.vehicle_s for one in took], [one.collector_s for one in took])
        ]
        megabytes = statistics.median(rates) * BYTES / 1e6
        lines.append(
            f"| {name} | {_said(rates)} | {megabytes:.1f} | {_ratio(took, copy)} | {to_puts} "
            f"| {cpu[0]} | {cpu[1]} |"
        )
    return "\n".join([*lines, "", *_limits(rows)]) + "\n"


def _limits(rows: Mapping[str, Sequence[Took]]) -> list[str]:
    """What the cores alone allow."""
    lines = []
    for name, took in rows.items():
        if name.startswith("1 "):
            each_s = statistics.median(one.vehicle_s + one.collector_s for one in took)
            most = FRAMES * VEHICLES * (os.cpu_count() or 1) / each_s
            lines.append(
                f"- {name}: the CPU of both ends allows {most:,.0f} frames/s at most on these "
                "cores, however fast the disk is."
            )
    return lines


def _ratio(took: Sequence[Took], base: Sequence[Took]) -> str:
    ratios = [one.rate / other.rate for one, other in zip(took, base, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"


def _said(values: Sequence[float]) -> str:
    return f"{statistics.median(values):,.0f} ({min(values):,.0f}–{max(values):,.0f})"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("."))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder, prefix="ingest-"))
    try:
        said = page(measured(options, folder), "python benchmarks/ingest.py --out …")
    finally:
        shutil.rmtree(folder)
    if options.out:
        options.out.write_text(said, "utf-8")
    print(said)


if __name__ == "__main__":
    main()
