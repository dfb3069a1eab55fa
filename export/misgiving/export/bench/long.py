"""Minutes of load on one engine, in MLPerf's manner: ``misgiving bench --long``.

Single stream: one person a query, a query as soon as the one before is answered. Multistream:
the same with eight persons, one of each of eight streams. Both on the engine that a server with
the same options would run, in a process of its own.
"""

import json
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from misgiving.export.bench import board, long_worker
from misgiving.export.bench.board import Moment
from misgiving.export.bench.long_worker import Check, Run, Worked
from misgiving.export.bench.process import answer
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.precisions import FP32
from misgiving.runtime.errors import EngineError, InvalidInput

MLPERF_S = 600.0
"""What MLPerf asks of a run; and so many queries at least, of one and of eight persons."""
MLPERF_QUERIES = {1: 64, 8: 662}
DEVICES = ("cpu", "cuda", "tensorrt")
START_S = 3600.0
"""What an engine may take to be there: a plan of TensorRT's is built where there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LongConfig:
    """What is timed; see :func:`bench_long`."""

    device: str = "cpu"
    """One of DEVICES."""
    precision: str = FP32
    """One that the bundle has."""
    threads: int = 1
    seconds: float = MLPERF_S
    """Of each of the two, after a warm-up."""

    def __post_init__(self) -> None:
        """Check ranges and the device."""
        if self.device not in DEVICES:
            raise InvalidInput(f"device is {self.device!r}; expected {', '.join(DEVICES)}")
        if self.threads < 1:
            raise InvalidInput(f"threads is {self.threads}; expected at least 1")
        if not 0 < self.seconds <= 86400:
            raise InvalidInput(f"seconds is {self.seconds:g}; expected above 0, at most 86400")


@dataclass(frozen=True, kw_only=True)
class Long:
    """All of a run."""

    bundle: Bundle
    config: LongConfig
    engine: str
    machine: dict[str, str]
    after: dict[str, str]
    """What the machine tells otherwise when it is over."""
    runs: list[Run]
    moments: list[Moment]
    """Of the board, every second."""

    def to_json(self) -> str:
        """Everything, with every single query."""
        content = {
            "bundle": self.bundle.manifest.name,
            "digest": self.bundle.digest,
            "config": asdict(self.config),
            "engine": self.engine,
            "machine": self.machine,
            "after": self.after,
            "runs": [asdict(run) for run in self.runs],
            "moments": [asdict(moment) for moment in self.moments],
        }
        return json.dumps(content) + "\n"


def bench_long(bundle: Bundle, config: LongConfig, tell: Callable[[str], None]) -> Long:
    """Time a bundle under lasting load, and check its answers before, meanwhile and after.

    Raises:
        BundleError: it has no such precision.
        EngineError: the engine does not run here, hangs, or answers something else than the
            bundle's samples say.
    """
    bundle.in_precision(config.precision)  # before anything is told: it may have none
    tell(f"one person a query, then eight: {config.seconds:g} s each, after a warm-up")
    machine = board.describe()
    asked = {"bundle": str(bundle.path), **asdict(config)}
    with board.watched() as readings, board.followed(readings) as moments:
        worked = _worked(asked, START_S + 3 * config.seconds)
    told = board.describe().items()
    after = {name: text for name, text in told if machine.get(name) != text}
    after.pop("load before", None)
    return Long(
        bundle=bundle,
        config=config,
        engine=worked.engine,
        machine=machine,
        after=after,
        runs=worked.runs,
        moments=moments,
    )


def _worked(asked: dict[str, Any], timeout_s: float) -> Worked:
    try:
        said = answer(long_worker.__name__, asked, timeout_s)
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            f"the run did not end within {timeout_s:.0f} s; expected one "
            "that answers every query. Try another device"
        ) from error
    runs = [Run(**{**run, "check": Check(**run["check"])}) for run in said["runs"]]
    return Worked(engine=said["engine"], runs=runs)
