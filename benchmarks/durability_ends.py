"""The two ends of durability.py, each in a process that is killed."""

import os
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from shared.collecting import noisy_frame, offer

IMPORTED = (
    "misgiving.collector.cli",
    "misgiving.collector.service",
    "misgiving.collector.store",
    "misgiving.runtime.outbox.spool",
    "misgiving.runtime.outbox.uploader",
)
"""Before a process is forked, so that a start takes little time."""

FRAME_BYTES = 20_000


def vehicle(folder: Path, collector: str, run: int, orders: Connection) -> None:
    """Offer as many frames as are ordered, all at once; say each when it is stored, and how many
    wait to be uploaded then."""
    from misgiving.runtime.outbox.spool import Spool
    from misgiving.runtime.outbox.uploader import Uploader

    os.dup2(os.open(folder / "vehicle.log", os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o644), 2)
    spool = Spool(folder / "spool")
    Uploader(spool, collector, chunk_bytes=8192, first_wait_s=0.02, longest_wait_s=0.2).start()
    names, said, tick = list[str](), 0, threading.Event()
    while True:
        for _ in range(orders.recv()):
            names.append(f"{run}-{len(names)}")
            offer(spool, noisy_frame(names[-1], FRAME_BYTES))
        while said < len(names):
            counts = spool.counts()
            for name in names[said : counts.stored]:  # they are stored in this order
                orders.send((name, counts.pending))
            said = counts.stored
            tick.wait(0.001)


def emptying(folder: Path, collector: str, said: Connection) -> None:
    """Upload what is there, and say how many frames were refused and declined."""
    from misgiving.runtime.outbox.spool import Spool
    from misgiving.runtime.outbox.uploader import Uploader

    spool = Spool(folder / "spool")
    uploader = Uploader(spool, collector, first_wait_s=0.02, longest_wait_s=0.2)
    uploader.start()
    while spool.counts().pending:
        threading.Event().wait(0.01)
    uploader.stop()
    said.send(spool.counts().refused + spool.counts().declined)
    spool.close()


def collector(arguments: list[str], log: Path, environment: dict[str, str]) -> None:
    """`misgiving collect`."""
    os.environ.update(environment)
    from misgiving.collector.cli import app

    os.dup2(os.open(log, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o644), 2)
    sys.argv[1:] = ["collect", *arguments]
    app()
