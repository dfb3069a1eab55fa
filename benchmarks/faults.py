"""Faults tried: kill -9, disks, clocks, descriptors, an engine and a camera that fail.

Run: python benchmarks/faults.py BUNDLE [KILLS] > benchmarks/faults_cpu_<yyyymm>.md
BUNDLE is small, such as tests/shared/tiny_bundle. The disks are small tmpfs, which takes root.
The clocks are set by Debian's package libfaketime.
"""

import logging
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path

import clocks
import enduring
import kill_points
import killing
import numpy as np

from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.floor import STATE_VARIABLE, rise
from misgiving.runtime.errors import MisgivingError
from misgiving.runtime.nouns import make_frame
from misgiving.runtime.outbox.spool import Spool
from misgiving.runtime.wire.collected import KeptFrame

KILLS = """## kill -9

Every kill meets what the one before left: a spool, a link to a bundle, a collector's store.
A frame that is queued is in memory only; at most 64 are."""
POINTS = """## kill -9 of what writes files

Killed before each file that it opens to write, and before each rename, removal and new folder."""
CLOCKS = """## A clock that jumps

`misgiving serve` under libfaketime, which sets the wall clock of the whole process, of its C
libraries too; monotonic clocks and the client's stay right. The log's day is that of a reload."""
RESTARTS = """Three servers, one after the other on one spool, are asked 20 frames each, all of them
flagged. The budget is ten frames a day, of which one camera gets eight."""
DESCRIPTORS = """## No file descriptors left

`misgiving serve`, allowed 64 descriptors."""
ENGINES = """## An engine that throws, and one that hangs

`misgiving serve`, 20 frames each; of an engine that throws, the first failure in a row is logged
with its traceback."""
CAMERA = """## A camera that freezes

`misgiving watch`, `frozen_after = 1`."""
DISKS = """## Disks

A spool on tmpfs, frames of 30 kB one after the other."""
FULL = """What else writes, on such a disk:"""


def kills(bundle: Path, count: int) -> Iterator[str]:
    """A table row for each state."""
    seen = {state: Counter[str]() for state in killing.STATES}
    with tempfile.TemporaryDirectory() as folder:
        vehicle = killing.Vehicle(Path(folder), bundle, random.Random(0))
        tally = killing.Tally(vehicle)
        for number, state in zip(range(count), cycle(seen), strict=False):
            counted = tally.kill(killing.STATES[state])
            most = max(seen[state]["most"], counted["most"])
            seen[state].update(counted)
            seen[state]["most"] = most
            print(f"kill {number + 1}: {state}, {dict(counted)}", file=sys.stderr, flush=True)
        vehicle.close()
    yield (
        "| state | kills | queued | of these not stored | at most by one kill "
        "| stored before and gone | stored twice | damaged | tracebacks |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    for state, counts in seen.items():
        yield f"| {state} | " + " | ".join(str(counts[name]) for name in killing.NAMES) + " |"


def points(bundle: Path) -> Iterator[str]:
    """A table row for each process."""
    yield "| process | kills | the next one ended well, and all was there |"
    yield "|---|---:|---:|"
    for name, work in kill_points.works(bundle.absolute()).items():
        counted = kill_points.killed_everywhere(work)
        yield f"| {name} | {counted['kills']} | {counted['whole']} |"


@contextmanager
def disk(size: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


class Lines(logging.Handler):
    """Counts warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1


def disks(bundle: Bundle, count: int) -> Iterator[str]:
    """Frames offered to a spool on a disk with room, without, and with room again."""
    lines = Lines()
    logging.getLogger("misgiving").addHandler(lines)
    yield "| disk | offered | stored | lost | lines in the log |"
    yield "|---|---:|---:|---:|---:|"
    with disk("4m") as folder:
        spool = Spool(folder / "spool")

        def row(name: str) -> str:
            before, said = spool.counts(), lines.count
            offer_all(spool, bundle, count)
            now = spool.counts()
            stored, lost = now.stored - before.stored, now.lost - before.lost
            return f"| {name} | {count} | {stored} | {lost} | {lines.count - said} |"

        try:
            yield row("4 MB")
            yield row("4 MB, full")
            _remount(folder, "size=64m")
            yield row("grown to 64 MB")
        finally:
            spool.close()
        _remount(folder, "ro")
        yield f"\nOn the same disk, read-only, a start says: {_refusal(folder)}."
        _remount(folder, "rw")
        Spool(folder / "spool").close()
        yield "Writable again, it starts."


def full(bundle: Path) -> Iterator[str]:
    """What else writes, on a full disk and with room again."""
    yield "| what writes | on a full disk | with room again |"
    yield "|---|---|---|"
    with disk("2m") as folder:
        os.environ[STATE_VARIABLE] = str(folder)
        (folder / "drawn").mkdir()
        (folder / "clips").mkdir()
        tries = {
            "picture and clip of an event, `watch`": lambda: enduring.event(bundle, folder),
            "the floor": lambda: f"raised: {rise('model', 7)}",
            "a plan of TensorRT": lambda: _plan(folder),
        }
        for name, attempt in tries.items():
            with filled(folder):
                said = attempt()
            row = f"| {name} | {said} | {attempt()} |"
            yield row.replace(str(folder), "DISK")


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Meanwhile there is no room."""
    with suppress(OSError), (folder / "filling").open("wb", buffering=0) as file:
        while file.write(bytes(512)):
            pass
    yield
    (folder / "filling").unlink()


def _plan(folder: Path) -> str:
    try:
        kill_points.build(folder)
    except MisgivingError as error:
        return str(error)
    return "written"


def _remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


def _refusal(folder: Path) -> str:
    try:
        Spool(folder / "spool").close()
    except MisgivingError as error:
        return str(error).replace(str(folder), "DISK")
    raise SystemExit("a spool opened on a read-only disk")


def offer_all(spool: Spool, bundle: Bundle, count: int) -> None:
    """One after the other, so that none is lost to a full queue."""
    rng = np.random.default_rng()
    manifest = bundle.manifest
    for _ in range(count):
        before = _settled(spool)
        frame = make_frame(rng.integers(0, 256, (100, 100, 3), np.uint8))
        names = tuple(manifest.keypoints.names)
        spool.offer(KeptFrame(frame, (), bundle.digest, (), names, (), "car"))
        _until_settled(spool, before + 1)


def _settled(spool: Spool) -> int:
    counts = spool.counts()
    return counts.stored + counts.lost


def _until_settled(spool: Spool, count: int) -> None:
    deadline = time.monotonic() + 60
    while _settled(spool) < count:
        if time.monotonic() > deadline:
            raise SystemExit("a frame was neither stored nor lost within a minute")
        time.sleep(0.001)


def main() -> None:
    bundle, count = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 100
    said = f"`python benchmarks/faults.py BUNDLE {count}` prints this page but for its last "
    said += f"section.\nBUNDLE `{bundle}`, {time.strftime('%Y-%m-%d')}, {platform.machine()}, "
    said += f"CPython {platform.python_version()}, seed 0."
    sections = {
        f"# Faults, CPU\n\n{said}\n\n{KILLS}": kills(bundle, count),
        POINTS: points(bundle),
        CLOCKS: clocks.clocks(bundle),
        RESTARTS: clocks.restarts(bundle),
        DESCRIPTORS: enduring.descriptors(bundle),
        ENGINES: enduring.engines(bundle),
        CAMERA: enduring.camera(bundle),
        DISKS: disks(Bundle.load(bundle), 200),
        FULL: full(bundle),
    }
    for head, lines in sections.items():
        print(f"{head}\n", flush=True)
        for line in lines:
            print(line, flush=True)
        print(flush=True)


if __name__ == "__main__":
    main()
