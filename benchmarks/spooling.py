"""How many frames a second a spool makes durable: one by one, together, and sealed.

    python benchmarks/spooling.py --out benchmarks/spooling_cpu_202611.md [--folder DIR]

A frame is a real CollectedFrame of 100 kB, one person in it, another one each. They are offered as
fast as the spool takes them. One by one is what a spool did before it committed all that waits at
once: a queue of one frame. Rounds of the three take turns; the disk of ``--folder`` is measured,
beside plain files of the same bytes, each fsynced.
"""

import argparse
import os
import platform
import statistics
import tempfile
import threading
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from misgiving.runtime.geometry import Region
from misgiving.runtime.nouns import Decision, Frame, Person, Reason
from misgiving.runtime.outbox.spool import Spool
from misgiving.runtime.wire.collected import KeptFrame, to_message

FRAMES, ROUNDS, BYTES = 500, 7, 100_000
WAYS: dict[str, dict[str, Any]] = {
    "one by one": {"queue_size": 1},
    "all that waits": {},
    "all that waits, sealed": {"seal_to": X25519PrivateKey.generate().public_key()},
}


def frames() -> list[KeptFrame]:
    rng = np.random.default_rng(0)
    flag = Decision(True, Reason.PREDICTED_LOSS, 1.0, 1.0)
    return [
        KeptFrame(
            Frame(rng.bytes(BYTES), frame_id=str(number), stream_id="front"),
            (
                Person(
                    Region(0, 0, 100, 200),
                    rng.random((14, 3), np.float32),
                    2.0,
                    0.7,
                    rng.random(14, np.float32),
                    rng.random(3, np.float32),
                    rng.normal(size=64).astype(np.float32),
                    flag,
                ),
            ),
            "b" * 64,
        )
        for number in range(FRAMES)
    ]


def spooled(folder: Path, some: list[KeptFrame], options: dict[str, Any]) -> tuple[float, float]:
    """Frames and commits in a second."""
    with tempfile.TemporaryDirectory(dir=folder) as made:
        spool = Spool(Path(made), **options)
        commits: list[str] = []
        heard = lambda said: commits.append(said) if said == "COMMIT" else None  # noqa: E731
        spool._records._database.set_trace_callback(heard)
        tick, began = threading.Event(), time.perf_counter()
        for frame in some:
            while spool.counts().queued >= spool._queue_size:
                tick.wait(0.0002)
            assert spool.offer(frame)
        spool.close()
        took = time.perf_counter() - began
        assert spool.counts().stored == len(some)
        return len(some) / took, len(commits) / took


def copied(folder: Path, some: list[KeptFrame]) -> tuple[float, float]:
    """The same bytes as files of their own."""
    bodies = [to_message(frame).SerializeToString() for frame in some]
    with tempfile.TemporaryDirectory(dir=folder) as made:
        began = time.perf_counter()
        for number, body in enumerate(bodies):
            with Path(made, str(number)).open("xb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
        rate = len(some) / (time.perf_counter() - began)
    return rate, rate


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folder", type=Path, default=Path("."))
    options = parser.parse_args()
    some, measured = frames(), {way: list[tuple[float, float]]() for way in (*WAYS, "plain files")}
    for _ in range(ROUNDS):
        for way, how in WAYS.items():
            measured[way].append(spooled(options.folder, some, how))
        measured["plain files"].append(copied(options.folder, some))
    options.out.write_text(page(measured), "utf-8")


def page(measured: dict[str, list[tuple[float, float]]]) -> str:
    lines = [
        "# Frames that a spool makes durable\n",
        f"`python benchmarks/spooling.py --out …`, {date.today()}, {os.cpu_count()} cores of "
        f"{platform.machine()}, Python {platform.python_version()}, other work beside it.",
        f"{ROUNDS} rounds of {FRAMES} frames of {BYTES // 1000} kB for each row; median, and the "
        "least and the most of a round.\n",
        "| way | frames/s | commits/s |\n|---|---|---|",
    ]
    for way, rows in measured.items():
        cells = [_said([row[column] for row in rows]) for column in (0, 1)]
        lines.append(f"| {way} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines) + "\n"


def _said(values: list[float]) -> str:
    return f"{statistics.median(values):,.0f} ({min(values):,.0f}–{max(values):,.0f})"


if __name__ == "__main__":
    main()
