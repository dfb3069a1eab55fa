"""Score a pool on Ray: its parts are computed by actors, and written by the process that asks.

Bundle and pool travel through Ray's object store; an image is read where its part is computed, so
the workers need the images at the same path, this version of misgiving with ``[cpu,train]``, and
nothing else.
"""

import logging
import os
import re
import secrets
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.manifest import MANIFEST
from misgiving.runtime.errors import EngineError, MisgivingError
from misgiving.runtime.estimator import Estimator
from misgiving.trainer import progress
from misgiving.trainer.data import PoseSet
from misgiving.trainer.pool.pool_scores import Parts, score_part, write_scored
from misgiving.trainer.pool.score_file import ScoreRecord

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Of all that Ray prints on stdout of a worker that dies. It reads this while it is imported.
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")

import ray  # noqa: E402
from ray.exceptions import RayError, RayTaskError  # noqa: E402

LOCAL = "local"
"""The address that starts a Ray on this machine, for as long as the scoring takes."""
RETRIES = 3
"""A part on which a worker has died so many times more is given up."""
CONNECT_TIMEOUT = 10.0
"""Seconds."""
STARTS = 3
"""A Ray of our own gives itself 30 s to start, which is too short on a busy machine."""
_TOO_SLOW = "timed out during startup", "Timed out waiting for file"
"""The second is of a process that Ray has started and that never comes: another one does."""
PATIENCE = 30.0
"""Seconds after which the user is told that there is no worker yet."""


def score_pool_on_ray(
    bundle: Bundle,
    pool: PoseSet,
    out: Path | str,
    address: str,
    *,
    device: str = "cpu",
    threads: int = 0,
) -> ScoreRecord:
    """What :func:`score_pool` does, with the network on as many workers as a Ray has room for.

    >>> bundle = Estimator.load().bundle
    >>> pool = open_data("synthetic:3,8")
    >>> score_pool_on_ray(bundle, pool, Path("pool.parquet"), "local").count
    8

    A worker that dies is replaced, and its part computed again. Called again, it goes on where an
    earlier call stopped, of this or of :func:`score_pool`.

    Args:
        bundle: to answer with; the workers get it from here.
        pool: whose images the workers find at the same path as this process.
        out: the file to write.
        address: ``local`` starts a Ray here; else HOST:PORT of a cluster that has this machine.
        device: ``cpu`` or ``cuda``, a GPU a worker.
        threads: CPUs of a worker; 0 for one.

    Raises:
        DataError: as :func:`score_pool`.
        EngineError: there is no such Ray, no room in it for a worker, or no worker that lives.
    """
    out = Path(out)

    def compute(missing: Sequence[range]) -> Parts:
        if missing:
            with _connected(address):
                needs = {"num_cpus": threads or 1, "num_gpus": int(device == "cuda")}
                task = ray.put(
                    _Task(_files(bundle), bundle.precision, pool, device, threads or 1, Path.cwd())
                )
                # In a list, else each call would bring the pool anew.
                yield from _computed(missing, _workers(needs, len(missing)), [task])

    if address != LOCAL:
        _check_address(address)
    return write_scored(bundle, pool, out, compute)


@dataclass(frozen=True)
class _Task:
    """What a worker must know."""

    files: dict[str, bytes]
    """Of the bundle."""
    precision: str
    pool: PoseSet
    device: str
    threads: int
    folder: Path
    """That relative paths in the pool start from."""

    def estimator(self) -> Estimator:
        with TemporaryDirectory() as folder:
            for name, content in self.files.items():
                Path(folder, name).write_bytes(content)
            return Estimator.load(
                Path(folder), device=self.device, threads=self.threads, precision=self.precision
            )


class _Worker:
    """An actor: one engine, and the pool.

    It loads them when it is first asked: what its constructor needs, Ray might lack when it starts
    the actor again, and what its constructor raises, Ray tells as the death of an actor.
    """

    def __init__(self) -> None:
        self._loaded: tuple[Estimator, PoseSet] | None = None

    def ready(self, task: list[Any]) -> None:
        """Answers when the actor has found its place and its engine runs."""
        self._load(task)

    def score(self, task: list[Any], part: range) -> tuple[bytes, list[str]]:
        """The file of a part, and what is to be told."""
        told: list[str] = []
        return score_part(*self._load(task), part, told.append), told

    def _load(self, task: list[Any]) -> tuple[Estimator, PoseSet]:
        if self._loaded is None:
            given: _Task = ray.get(task[0])
            with suppress(OSError):  # where the pool's paths are absolute, it need not be there
                os.chdir(given.folder)
            self._loaded = given.estimator(), given.pool
        return self._loaded


def _files(bundle: Bundle) -> dict[str, bytes]:
    return {name: (bundle.path / name).read_bytes() for name in (MANIFEST, *bundle.manifest.files)}


@contextmanager
def _connected(address: str) -> Iterator[None]:
    """A Ray to work with, gone at the end."""
    # Not below TMPDIR: the name of a socket may have 107 bytes.
    with TemporaryDirectory(prefix="misgiving-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        options: dict[str, Any] = {}
        if address == LOCAL:
            options = {"include_dashboard": False, "_temp_dir": folder}
            # Its ports are open to the network. Ray's own token would stay in the home folder.
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex())
            # Its own 30 are too few for the first start of all on a busy disk.
            os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "60")
        try:
            _connect(address, options)
            yield
        finally:
            ray.shutdown()


def _connect(address: str, options: dict[str, Any]) -> None:
    on_terminate = signal.getsignal(signal.SIGTERM)
    for left in reversed(range(STARTS)):
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **options)
            break
        except Exception as error:  # Ray raises nearly any, even that one itself
            if not left or not any(sign in str(error) for sign in _TOO_SLOW):
                raise _unusable(address, _reason(error)) from error
            ray.shutdown()
    with suppress(ValueError):  # outside of the main thread Ray leaves it alone
        signal.signal(signal.SIGTERM, on_terminate)


def _check_address(address: str) -> None:
    """Raise EngineError where nobody listens: Ray itself tries for a quarter of an hour."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        raise _unusable(address, "it is no HOST:PORT")
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT).close()
    except OverflowError as error:
        raise _unusable(address, "there is no such port") from error
    except OSError as error:
        raise _unusable(address, error.strerror or str(error)) from error


def _unusable(address: str, reason: str) -> EngineError:
    return EngineError(
        f"Ray at {address!r} cannot be used: {reason}; expected {LOCAL!r}, or the HOST:PORT of a "
        f"running cluster of Ray {ray.__version__} with this Python"
    )


def _workers(needs: dict[str, int], most: int) -> list[Any]:
    """As many actors as all nodes have room for; Ray starts each when that room is free."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    room = sum(_room(node, needs) for node in nodes)
    if not room:
        raise EngineError(
            f"Ray has no node with {needs['num_cpus']} CPU(s) and {needs['num_gpus']} GPU(s) for a "
            "worker; expected one at least. Give fewer --threads, or another --device"
        )
    actor = ray.remote(_Worker).options(**needs, max_restarts=-1, max_task_retries=RETRIES)
    return [actor.remote() for _ in range(min(room, most))]


def _room(node: dict[str, float], needs: dict[str, int]) -> int:
    cpus = int(node.get("CPU", 0)) // needs["num_cpus"]
    return min(cpus, int(node.get("GPU", 0))) if needs["num_gpus"] else cpus


def _computed(missing: Sequence[range], workers: list[Any], task: list[Any]) -> Parts:
    """Parts as they are done; a worker gets its next one when it has handed over the last."""
    bar = progress.counted(sum(map(len, missing)), "scoring")
    to_ask, left = iter(missing), len(missing)
    waiting: dict[Any, tuple[Any, range | None]] = {
        w.ready.remote(task): (w, None) for w in workers
    }
    if not ray.wait(list(waiting), timeout=PATIENCE)[0]:
        progress.print_line("no worker is ready yet; Ray starts them where it finds room")
    while left:
        (done, *_), _ = ray.wait(list(waiting))
        worker, part = waiting.pop(done)
        answer = _answer_of(done)
        if following := next(to_ask, None):
            waiting[worker.score.remote(task, following)] = worker, following
        if part:
            content, told = answer
            for line in told:
                progress.print_line(line)
            for _ in islice(bar, len(part)):
                pass
            left -= 1
            yield part, content


def _answer_of(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayError as error:
        cause = error.cause if isinstance(error, RayTaskError) else None
        if isinstance(cause, MisgivingError):
            raise cause from error
        if cause and not isinstance(cause, ImportError):
            raise  # our own fault, told with its traceback
        raise EngineError(
            f"Ray gave up ({_reason(cause or error)}); expected workers that live, {RETRIES + 1} "
            "at most over one part, with this version of misgiving[cpu,train,ray]. What is done is "
            "kept: mend it and give the same command again"
        ) from error


def _reason(error: Exception) -> str:
    """The line of an error that says most: below a traceback its last one."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1] if re.match(r"[\w.]+(Error|Exception): ", lines[-1]) else lines[0]
