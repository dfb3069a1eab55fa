"""Servers killed with -9 at a state, and what their vehicle and its fleet side have afterwards."""

import hashlib
import json
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGHUP, SIGTERM
from subprocess import PIPE, Popen

import numpy as np

from misgiving.runtime import Client
from misgiving.runtime.errors import MisgivingError
from misgiving.runtime.nouns import Collection
from misgiving.runtime.outbox.records import DATABASE
from misgiving.runtime.outbox.spool import Spool
from misgiving.runtime.wire.collected import read_kept

COMMAND = [sys.executable, "-m", "misgiving"]
START_S = 60.0
CONFIG = """
[server]
listen = "127.0.0.1:0"
[bundle]
path = "{folder}/current"
threads = 1
[spool]
folder = "{folder}/spool"
{collector}
[flags]
audit_rate = 1.0
[log]
level = "{level}"
"""


@dataclass
class Vehicle:
    """What outlives the servers that are killed: a spool, a link to a bundle, a collector's store.

    Args:
        folder: a new one.
        bundle: a second version of it takes turns with it.
        rng: says when a kill comes.
    """

    folder: Path
    bundle: Path
    rng: random.Random
    sent: int = 0
    queued: set[str] = field(default_factory=set)
    """Ids of the frames that were said to be queued, since the kill before."""
    collector: "tuple[Popen[str], str] | None" = None
    said: str = ""

    def __post_init__(self) -> None:
        shutil.copytree(self.bundle, self.folder / "second")
        manifest = self.folder / "second" / "manifest.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"version": "second"}))
        (self.folder / "current").symlink_to(self.bundle.absolute())

    def start(self, collector: str = "") -> "Popen[str]":
        self.configure(collector)
        return _started("serve", "--config", self.folder / "misgiving.toml")

    def configure(self, collector: str = "", level: str = "info") -> None:
        said = f'collector = "{collector}"' if collector else ""
        text = CONFIG.format(folder=self.folder, collector=said, level=level)
        (self.folder / "misgiving.toml").write_text(text)

    def collecting(self) -> str:
        """Address of a collector that runs."""
        if self.collector is None:
            store = self.folder / "store"
            process = _started("collect", "--listen", "127.0.0.1:0", "--store", store)
            self.collector = process, _address(process, "collecting ")
        return self.collector[1]

    def turn(self, process: "Popen[str]") -> None:
        """Have another bundle, as an operator does it."""
        link = self.folder / "current"
        first, second = self.bundle.absolute(), self.folder / "second"
        other = second if link.readlink() == first else first
        link.unlink()
        link.symlink_to(other)
        process.send_signal(SIGHUP)

    def ask(
        self, address: str, count: int, answered: Callable[[int], None] = lambda _: None
    ) -> None:
        """Send frames of noise, no two of which are alike, until the server is gone."""
        with Client(address, wait_s=0) as client:
            for number in range(count):
                self.sent += 1
                noise = np.random.default_rng(self.sent).integers(0, 256, (48, 64, 3), np.uint8)
                try:
                    answer = client.infer(noise, frame_id=str(self.sent))
                except MisgivingError:
                    return
                if answer.collection is Collection.QUEUED:
                    self.queued.add(str(self.sent))
                answered(number)

    def kill(self, process: "Popen[str]") -> None:
        process.kill()
        assert process.stderr is not None
        self.said += process.stderr.read()
        process.wait()
        process.stderr.close()

    def pause(self, longest_s: float) -> None:
        time.sleep(self.rng.uniform(0, longest_s))

    def close(self) -> None:
        """Let the collector end by itself."""
        if self.collector:
            self.collector[0].send_signal(SIGTERM)
            self.collector[0].wait(START_S)
            self.kill(self.collector[0])

    def there(self) -> tuple[dict[str, bytes], int]:
        """Frames by digest that spool and store have, and how many of them are damaged.

        The spool is read in a copy: its own is for the next server, as the kill left it.
        """
        bodies = {path.name: path.read_bytes() for path in self.folder.glob("store/objects/*/*")}
        if (self.folder / "spool" / DATABASE).exists():
            with tempfile.TemporaryDirectory() as copy:
                shutil.copytree(self.folder / "spool", Path(copy, "spool"))
                spool = Spool(Path(copy, "spool"))
                bodies |= {digest: spool.read(digest) for digest in spool.pending()}
                spool.close()
        bodies = {name: body for name, body in bodies.items() if not name.startswith(".")}
        wrong = [name for name, body in bodies.items() if hashlib.sha256(body).hexdigest() != name]
        return bodies, len(wrong)


def starting(vehicle: Vehicle) -> None:
    process = vehicle.start()
    vehicle.pause(1.5)
    vehicle.kill(process)


def loading(vehicle: Vehicle) -> None:
    """Its spool is open, and its engine not there yet."""
    process = vehicle.start()
    _wait_until(lambda: _has_open(process, vehicle.folder / "spool" / DATABASE))
    vehicle.pause(0.3)
    vehicle.kill(process)


def idle(vehicle: Vehicle) -> None:
    process = vehicle.start()
    vehicle.ask(_address(process), 20)
    vehicle.pause(0.05)
    vehicle.kill(process)


def spooling(vehicle: Vehicle) -> None:
    process = vehicle.start()
    _killed_amid(vehicle, process, process)


def reloading(vehicle: Vehicle) -> None:
    process = vehicle.start()
    vehicle.ask(_address(process), 20)
    vehicle.configure(level="warning")
    process.send_signal(SIGHUP)
    vehicle.pause(0.05)
    vehicle.kill(process)


def exchanging(vehicle: Vehicle) -> None:
    process = vehicle.start()
    vehicle.ask(_address(process), 20)
    vehicle.turn(process)
    vehicle.pause(0.2)
    vehicle.kill(process)


def probation(vehicle: Vehicle) -> None:
    """The other bundle answers, and may go back."""
    process = vehicle.start()
    address = _address(process)
    vehicle.turn(process)
    _line(process, " on probation, instead of ")
    vehicle.ask(address, 20)
    vehicle.pause(0.05)
    vehicle.kill(process)


def uploading(vehicle: Vehicle) -> None:
    process = vehicle.start(vehicle.collecting())
    _killed_amid(vehicle, process, process)


def collecting(vehicle: Vehicle) -> None:
    """The collector is killed, and then the vehicle's server, too."""
    process = vehicle.start(vehicle.collecting())
    assert vehicle.collector is not None
    _killed_amid(vehicle, process, vehicle.collector[0])
    vehicle.collector = None
    vehicle.kill(process)


def draining(vehicle: Vehicle) -> None:
    process = vehicle.start()
    vehicle.ask(_address(process), 20)
    process.send_signal(SIGTERM)
    vehicle.pause(0.05)
    vehicle.kill(process)


STATES = {
    "starting": starting,
    "loading": loading,
    "idle": idle,
    "spooling": spooling,
    "reloading": reloading,
    "exchanging": exchanging,
    "on probation": probation,
    "uploading": uploading,
    "collecting": collecting,
    "draining": draining,
}
NAMES = ("kills", "queued", "lost", "most", "gone", "twice", "damaged", "tracebacks")


class Tally:
    """Counts what each kill left; the next one meets that."""

    def __init__(self, vehicle: Vehicle) -> None:
        self._vehicle = vehicle
        self._before: set[str] = set()
        self._ids: dict[str, str] = {}

    def kill(self, state: Callable[[Vehicle], None]) -> Counter[str]:
        """Start a server, and kill it in a state; see NAMES for what is counted."""
        vehicle = self._vehicle
        vehicle.queued, vehicle.said = set(), ""
        state(vehicle)
        bodies, damaged = vehicle.there()
        for digest in bodies.keys() - self._ids.keys():
            self._ids[digest] = read_kept(bodies[digest]).frame.frame_id
        ids = Counter(self._ids[digest] for digest in bodies)
        lost, gone = vehicle.queued - ids.keys(), self._before - ids.keys()
        self._before = set(ids)
        return Counter(
            kills=1,
            queued=len(vehicle.queued),
            lost=len(lost),
            most=len(lost),
            gone=len(gone),
            twice=sum(count > 1 for count in ids.values()),
            damaged=damaged,
            tracebacks=vehicle.said.count("Traceback"),
        )


def _killed_amid(vehicle: Vehicle, process: "Popen[str]", victim: "Popen[str]") -> None:
    """Kill while frames are answered."""
    address, answered = _address(process), queue.SimpleQueue[int]()
    with ThreadPoolExecutor(1) as client:
        asking = client.submit(vehicle.ask, address, 40, answered.put)
        for _ in range(vehicle.rng.randint(1, 35)):
            answered.get(timeout=START_S)
        vehicle.kill(victim)
        asking.result(START_S)


def _started(*arguments: object) -> "Popen[str]":
    return Popen(
        [*COMMAND, *map(str, arguments)], stderr=PIPE, stdout=subprocess.DEVNULL, text=True
    )


def _address(process: "Popen[str]", begins: str = "serving ") -> str:
    """Once it serves."""
    return _line(process, begins).split(" on ")[1].split()[0]


def _line(process: "Popen[str]", begins: str) -> str:
    """The next that begins so, or says so after its time and level; a start that fails raises."""
    said = []
    assert process.stderr is not None
    for line in process.stderr:
        if begins in line:
            return line
        said.append(line)
    raise AssertionError(f"never said {begins!r}, but: {''.join(said)}")


def _has_open(process: "Popen[str]", path: Path) -> bool:
    """Whether a process holds a file, or has ended."""
    try:
        held = [os.readlink(one) for one in Path(f"/proc/{process.pid}/fd").iterdir()]
    except FileNotFoundError:  # one was closed meanwhile
        held = []
    return process.poll() is not None or str(path.resolve()) in held


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
