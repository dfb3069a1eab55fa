"""Frames while runtime, network and collector are killed at random: none is lost, none is twice.

Run: PYTHONPATH=tests python benchmarks/durability.py [KILLS [SEED [OPTIONS]]]
OPTIONS are `--database URL --objects URL`, or `servers` for a PostgreSQL and an S3 of its own. A
vehicle's spool and uploader
run in one process, `misgiving collect` in another; each is killed by SIGKILL, and started again by
a fork of a process that has imported it. Between the two is a TCP proxy, which resets, delays,
throttles and swallows.
"""

import multiprocessing
import platform
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import durability_ends as ends
import pytest
import sqlalchemy as sa

from misgiving.collector.store import Store
from misgiving.runtime.errors import DataError
from shared.ports import unused_port
from shared.proxy import FAIR, Proxy, storm
from shared.services import KEYS, S3, Postgres, started

START_S = 60.0
ORDER = 5, 15
"""Least and most frames that are handed to the spool at once, before each kill."""
MOST_PENDING = 300
"""Beyond it the weather is fair until the next kill."""
VICTIMS = {"vehicle": 5, "collector": 2, "network": 3}
"""How often each is the victim, of ten."""
_PROCESSES = multiprocessing.get_context("forkserver")


@dataclass
class Trial:
    """A vehicle, a proxy and a collector that outlive their processes.

    Args:
        folder: a new one.
        rng: says who is killed, and when.
        stores: more options of ``misgiving collect``: another database, other objects.
        environment: of ``misgiving collect``, beside ours.
    """

    folder: Path
    rng: random.Random
    stores: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    stored: set[str] = field(default_factory=set)
    """Ids of the frames that the spool has said to have."""
    kills: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        _PROCESSES.set_forkserver_preload(list(ends.IMPORTED))
        self._listen = f"127.0.0.1:{unused_port()}"
        self._proxy = Proxy(lambda: self._listen)
        self._collector = self._start_collector()
        self._ordered = self._pending = 0
        self._vehicle, self._said = self._start_vehicle()

    def run(self, kills: int) -> Counter[str]:
        """So many kills, then peace; gives what came of it, see :func:`verdict`."""
        try:
            for _ in range(kills):
                self._listen_a_while()
                if self.rng.random() < 0.5 or self._pending > MOST_PENDING:
                    self._proxy.set(FAIR)
                victim = self.rng.choices(list(VICTIMS), list(VICTIMS.values()))[0]
                getattr(self, f"_kill_{victim}")()
            self._kill(self._vehicle)
            self._hear_the_rest()
            unwanted = self._empty()
            self._collector.terminate()
            self._collector.join(START_S)
        finally:
            self._kill(self._vehicle)
            self._kill(self._collector)
            self._proxy.close()
        counted = verdict(self.folder / "store", self.stored, self.stores)
        counted["refused or declined"] = unwanted
        return counted

    def _listen_a_while(self) -> None:
        """Until some of the frames are stored, and a moment longer: a kill may come at any time."""
        self._said.send(order := self.rng.randint(*ORDER))
        self._ordered += order
        for _ in range(self.rng.randint(0, self._ordered)):
            assert self._said.poll(START_S), "the vehicle says nothing"
            self._hear()
        threading.Event().wait(self.rng.uniform(0, 0.03))

    def _hear(self) -> None:
        name, self._pending = self._said.recv()
        self.stored.add(name)
        self._ordered -= 1

    def _hear_the_rest(self) -> None:
        """What a killed vehicle had said."""
        try:
            while True:
                self._hear()
        except (EOFError, ConnectionResetError):
            self._said.close()
            self._ordered = 0

    def _kill_vehicle(self) -> None:
        self.kills["vehicle"] += 1
        self._kill(self._vehicle)
        self._hear_the_rest()
        self._vehicle, self._said = self._start_vehicle()

    def _kill_collector(self) -> None:
        self.kills["collector"] += 1
        self._kill(self._collector)
        self._collector = self._start_collector()

    def _kill_network(self) -> None:
        weather = self.rng.choice([None, storm(self.rng)])
        self.kills[f"network: {weather.kind if weather else 'reset'}"] += 1
        if weather:
            self._proxy.set(weather)
        else:
            self._proxy.cut()

    def _kill(self, process: Any) -> None:
        process.kill()
        process.join(START_S)

    def _start_vehicle(self) -> tuple[Any, Connection]:
        ours, theirs = _PROCESSES.Pipe()
        run = self.kills["vehicle"]
        arguments = (self.folder, self._proxy.address, run, theirs)
        return self._started(ends.vehicle, arguments, theirs), ours

    def _start_collector(self) -> Any:
        options = ["--listen", self._listen, "--store", str(self.folder / "store"), *self.stores]
        log = self.folder / "collector.log"
        return self._started(ends.collector, (options, log, self.environment))

    def _started(self, function: Any, arguments: tuple[Any, ...], *pipes: Connection) -> Any:
        process = _PROCESSES.Process(target=function, args=arguments, daemon=True)
        process.start()
        for pipe in pipes:
            pipe.close()  # the child alone has it then, and its end is heard
        return process

    def _empty(self) -> int:
        """Let everything arrive, in fair weather."""
        self._proxy.set(FAIR)
        ours, theirs = _PROCESSES.Pipe(duplex=False)
        emptying = self._started(ends.emptying, (self.folder, self._proxy.address, theirs), theirs)
        try:
            assert ours.poll(5 * START_S), "the spool is not emptied"
            return int(ours.recv())
        finally:
            self._kill(emptying)


def verdict(folder: Path, stored: set[str], stores: tuple[str, ...] = ()) -> Counter[str]:
    """What the collector has of the frames that the spool has said to have."""
    options = dict(zip(stores[::2], stores[1::2], strict=True))
    with Store(folder, options.get("--database"), options.get("--objects")) as store:
        ids, damaged = Counter[str](), 0
        with store.database.connect(reads=True) as connection:
            rows = connection.execute(sa.text("SELECT digest, frame_id FROM frames")).all()
        for digest, frame_id in rows:
            ids[frame_id] += 1
            try:
                store.read(digest)
            except DataError:
                damaged += 1
    return Counter(
        {
            "acknowledged by the spool": len(stored),
            "stored by the collector": len(ids),
            "lost": len(stored - ids.keys()),
            "stored twice": sum(number > 1 for number in ids.values()),
            "damaged": damaged,
        }
    )


@contextmanager
def servers() -> Iterator[tuple[tuple[str, ...], dict[str, str]]]:
    """A PostgreSQL and an S3 that are empty: options of ``misgiving collect``, its environment."""
    with started(Postgres) as postgres, started(S3) as s3, pytest.MonkeyPatch.context() as patch:
        environment = {**KEYS, "AWS_ENDPOINT_URL": s3.endpoint}
        for name, value in environment.items():  # for the verdict
            patch.setenv(name, value)
        yield ("--database", postgres.make(), "--objects", s3.make()), environment


def main(kills: int, seed: int, *stores: str) -> None:
    if stores != ("servers",):
        measure(kills, seed, stores, stores, {})
        return
    with servers() as (options, environment):
        measure(kills, seed, stores, options, environment)


def measure(
    kills: int,
    seed: int,
    said: tuple[str, ...],
    stores: tuple[str, ...],
    environment: dict[str, str],
) -> None:
    """Print a table of one trial."""
    began_s, folder = time.monotonic(), Path(tempfile.mkdtemp())
    trial = Trial(folder, random.Random(seed), stores, environment)
    counted = trial.run(kills)
    took_s = time.monotonic() - began_s
    logs = [(folder / f"{end}.log").read_text() for end in ("vehicle", "collector")]
    counted["tracebacks"] = sum(log.count("Traceback") for log in logs)
    print(f"`python benchmarks/durability.py {' '.join(map(str, (kills, seed, *said)))}`,")
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, Python {platform.python_version()}, "
    )
    print(f"{took_s:.0f} s.\n\n| | count |\n|---|---:|")
    for name, number in [*sorted(trial.kills.items()), *counted.items()]:
        print(f"| {name} | {number:,} |")
    shutil.rmtree(folder)


if __name__ == "__main__":
    kills, seed, *stores = [*sys.argv[1:], *("1000", "0")[len(sys.argv) - 1 :]]
    main(int(kills), int(seed), *stores)
