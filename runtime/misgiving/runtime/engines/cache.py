"""The cache of TensorRT plans: what was built here, for exactly this model and machine.

A plan is a program that runs as we do, so the folder is nobody's but ours, and a plan is loaded
only when its bytes are those that were written down when it was built. Its name is made of all
that it depends on: with another model, driver, TensorRT or GPU it is not found, and one is built.
What a new driver or TensorRT has put out of use is then removed.

Plans are built one at a time in one cache: two at once would spoil each other's timings. A process
that is killed lets go of the lock, and what it left half-written has no plan's name.
"""

import fcntl
import hashlib
import json
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from misgiving.runtime.durable import write_durably
from misgiving.runtime.engines.base import LARGEST_BATCH
from misgiving.runtime.errors import EngineError, InvalidInput

log = logging.getLogger(__name__)

CACHE_VARIABLE = "MISGIVING_CACHE"
Say = Callable[[float, str], None]
"""Takes the share done, 0 to 1, and what is being done."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Batch sizes that a plan takes, and the one that it is tuned for."""

    min: int = 1
    opt: int = 1
    max: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.opt <= self.max <= LARGEST_BATCH:
            raise InvalidInput(
                f"batch sizes are {self.min}, {self.opt}, {self.max}; expected "
                f"1 ≤ min ≤ opt ≤ max ≤ {LARGEST_BATCH}. Change --min-batch, --opt-batch or "
                "--max-batch"
            )


@dataclass(frozen=True, slots=True)
class PlanKey:
    """All that a plan depends on."""

    model: str
    """sha256 of the ONNX file, in hex."""
    precision: str
    height: int
    width: int
    gpu: str
    """Name and architecture."""
    driver: str
    library: str
    """``tensorrt`` or ``tensorrt_rtx``, and its version."""
    profile: Profile = Profile()

    @property
    def name(self) -> str:
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Plan:
    """An engine as TensorRT serialised it."""

    data: bytes
    profile: Profile
    precision: str


class _Record(BaseModel):
    """What is written down beside a plan."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: PlanKey
    sha256: str


class PlanCache:
    """Plans in a private folder."""

    def __init__(self, folder: Path) -> None:
        """Make the folder where there is none.

        Raises:
            EngineError: it cannot be made or read, or others than its owner may touch it.
        """
        self.folder = folder
        with self._telling():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _refuse_shared(folder)

    def get(self, key: PlanKey) -> Plan | None:
        """The plan of a key; None where there is none, or not the one that was built."""
        with self._telling():
            record = self._record(self.path(key, "json"))
            if record is None or record.key != key:
                return None
            return self._checked(record)

    def latest(self, key: PlanKey) -> Plan | None:
        """The plan that was last asked for, of those that differ from the key in batch sizes."""
        with self._telling():
            keys = [one for one in self._keys() if replace(one, profile=key.profile) == key]
            return self.get(max(keys, key=self._asked_for)) if keys else None

    def get_or_build(self, key: PlanKey, build: Callable[[], bytes], say: Say) -> tuple[Plan, bool]:
        """The plan of a key, and whether it was built now.

        Args:
            key: all that the plan depends on.
            build: makes it; called by one process at a time.
            say: told when another process builds and is waited for.

        Raises:
            EngineError: the plan cannot be written.
        """
        with self._telling():
            if found := self._taken(key):
                return found, False
            with self._lock(say):
                if found := self._taken(key):  # built while we waited
                    return found, False
                return self._build(key, build), True

    def remove(self, key: PlanKey) -> None:
        """Forget a plan. The record goes first: without it the plan is none."""
        with self._telling():
            for suffix in ("json", "plan"):
                self.path(key, suffix).unlink(missing_ok=True)

    def _taken(self, key: PlanKey) -> Plan | None:
        if found := self.get(key):
            self._ask_for(key)
        return found

    def _ask_for(self, key: PlanKey) -> None:
        """From now on it is the latest, also where the clock stood ahead when others were."""
        others = [self._asked_for(one) for one in self._keys() if one != key]
        now = max(time.time_ns(), max(others, default=0) + 10**9)
        os.utime(self.path(key, "json"), ns=(now, now))

    def _build(self, key: PlanKey, build: Callable[[], bytes]) -> Plan:
        """Build with the lock held, and with nothing about of what a killed process began."""
        self.remove(key)
        for half_written in self.folder.glob(".*"):
            half_written.unlink()
        data = build()
        self._write(key, data)
        self._ask_for(key)
        for other in self._keys():
            if other != key and _is_superseded(other, key):
                self.remove(other)
        return Plan(data, key.profile, key.precision)

    def path(self, key: PlanKey, suffix: str = "plan") -> Path:
        return self.folder / f"{key.name}.{suffix}"

    def timings(self, key: PlanKey) -> Path:
        """TensorRT's timing cache for the machine of a key; it belongs to no single model."""
        machine = f"{key.gpu}\n{key.driver}\n{key.library}"
        return self.folder / f"{hashlib.sha256(machine.encode()).hexdigest()[:32]}.timings"

    def _write(self, key: PlanKey, data: bytes) -> None:
        """The plan first: without its record it is none."""
        write_durably(self.path(key, "plan"), data)
        record = _Record(key=key, sha256=hashlib.sha256(data).hexdigest())
        write_durably(self.path(key, "json"), record.model_dump_json(indent=2).encode())

    def _checked(self, record: _Record) -> Plan | None:
        path = self.path(record.key, "plan")
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        # These very bytes are loaded; nobody can change them in between.
        if hashlib.sha256(data).hexdigest() != record.sha256:
            log.warning("%s is not the plan that was built here; it is built again", path)
            return None
        return Plan(data, record.key.profile, record.key.precision)

    def _record(self, path: Path) -> _Record | None:
        try:
            return _Record.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            log.warning("%s cannot be read; its plan is built again", path)
            return None

    def _keys(self) -> list[PlanKey]:
        """Of all plans that have a record."""
        records = [self._record(path) for path in self.folder.glob("*.json")]
        return [record.key for record in records if record]

    def _asked_for(self, key: PlanKey) -> int:
        """When a plan was last built or asked for, in ns."""
        try:
            return self.path(key, "json").stat().st_mtime_ns
        except FileNotFoundError:  # another process is at it
            return 0

    @contextmanager
    def _lock(self, say: Say) -> Iterator[None]:
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(0.0, "another process builds in this cache; waiting for it")
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise EngineError(
                f"cache {self.folder} cannot be used: {error.strerror or error}; expected a folder "
                f"of yours on a disk with room. Free some, or name another by {CACHE_VARIABLE}"
            ) from error


def find_cache() -> Path:
    """Where plans are kept: ``MISGIVING_CACHE``, else the user's cache folder.

    Raises:
        EngineError: there is neither.
    """
    if variable := os.environ.get(CACHE_VARIABLE):
        return Path(variable)
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        raise EngineError(
            f"this user has no home; expected {CACHE_VARIABLE} to name a folder for plans. Set it"
        ) from error
    return home / "misgiving" / "plans"


def _refuse_shared(folder: Path) -> None:
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise EngineError(
            f"cache {folder} is no folder, or a link to one; expected a folder of yours. "
            f"Name another by {CACHE_VARIABLE}"
        )
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid() or mode & 0o077:
        raise EngineError(
            f"cache {folder} has mode {mode:o} and owner {status.st_uid}; expected 700 and "
            f"{os.geteuid()}, because a plan is a program. Look into it, empty it, then run: "
            f"chmod 700 {folder}"
        )


def _is_superseded(old: PlanKey, new: PlanKey) -> bool:
    """Built for what this machine had before its driver or TensorRT was exchanged."""
    return replace(old, driver=new.driver, library=new.library) == new
