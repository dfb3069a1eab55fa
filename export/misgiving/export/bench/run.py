"""Time a bundle: every case in processes of its own, all in turn, round by round."""

import itertools
import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec

import numpy as np
import onnxruntime as ort

from misgiving.export.bench import board, trtexec, worker
from misgiving.export.bench.board import Reading
from misgiving.export.bench.cases import ALTERNATIVES, Case
from misgiving.export.bench.process import answer
from misgiving.export.bench.worker import Timing
from misgiving.runtime.bundles.bundle import MODEL, Bundle
from misgiving.runtime.bundles.precisions import MODELS
from misgiving.runtime.engines.builder import LIBRARIES
from misgiving.runtime.engines.onnx import PROVIDERS
from misgiving.runtime.errors import InvalidInput, MisgivingError

ROUNDS = 3
TIMEOUT_S = 600.0
"""Of one process; torch.compile takes a minute or two."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchConfig:
    """What is timed; see :func:`bench`."""

    device: str = "cpu"
    """cpu or cuda."""
    threads: int = 1
    batches: tuple[int, ...] = (1, 8)
    seconds: float = 2.0
    """Of each case and round, after a warm-up."""

    def __post_init__(self) -> None:
        """Check ranges and the device."""
        if self.device not in PROVIDERS:
            raise InvalidInput(f"device is {self.device!r}; expected {', '.join(PROVIDERS)}")
        if self.threads < 1 or not self.batches or min(self.batches) < 1:
            raise InvalidInput(
                f"threads is {self.threads} and batches are {list(self.batches)}; expected at "
                "least 1 of each"
            )
        if not 0 < self.seconds <= 600:
            raise InvalidInput(f"seconds is {self.seconds:g}; expected above 0, at most 600")


@dataclass
class Row:
    """What came of a case."""

    case: Case
    timings: list[Timing] = field(default_factory=list)
    """One a round."""
    readings: list[Reading] = field(default_factory=list)
    """Of the board, meanwhile."""
    error: str = ""
    """Why there are no timings."""

    def percentile(self, percent: float) -> float:
        """Of all calls of all rounds, in ms."""
        return float(np.percentile(np.concatenate([t.calls_ms for t in self.timings]), percent))


@dataclass(frozen=True, kw_only=True)
class Bench:
    """All of a run."""

    bundle: Bundle
    config: BenchConfig
    machine: dict[str, str]
    rows: list[Row]

    def to_json(self) -> str:
        """Everything, each single call too."""
        content = {
            "bundle": f"{self.bundle.manifest.name} {self.bundle.manifest.version}",
            "digest": self.bundle.digest,
            "config": asdict(self.config),
            "rounds": ROUNDS,
            "machine": self.machine,
            "rows": [asdict(row) for row in self.rows],
        }
        return json.dumps(content, indent=1) + "\n"


def bench(bundle: Bundle, config: BenchConfig, tell: Callable[[str], None]) -> Bench:
    """Time a bundle's graphs on every engine that is installed, and what it is compared with.

    A case that cannot run here stays in the table, with the reason.

    Args:
        bundle: to time.
        config: how.
        tell: is told of each step.
    """
    machine = board.describe()
    if left_out := [batch for batch in config.batches if batch > bundle.manifest.max_batch]:
        tell(
            f"batches of {', '.join(map(str, left_out))} are left out: {bundle.path} takes at "
            f"most {bundle.manifest.max_batch} crops at once"
        )
    rows = [Row(case) for case in cases(bundle, config)]
    for number in range(ROUNDS):
        for row in rows:
            if not row.error:
                tell(f"round {number + 1} of {ROUNDS}: {row.case}")
                _time(row, bundle, config.seconds)
    return Bench(bundle=bundle, config=config, machine=machine, rows=rows)


def cases(bundle: Bundle, config: BenchConfig) -> Iterator[Case]:
    """All rows: the bundle's graphs and engines by batch, then the alternatives to one pass."""
    batches = _possible(bundle, config.batches)
    first = Case(
        engine="onnxruntime", device=config.device, threads=config.threads, batch=batches[0]
    )
    names = (name for name in bundle.manifest.files if name.endswith(".onnx"))
    graphs = sorted(names, key=lambda name: (name != MODEL, name))
    for batch in batches:
        for file in graphs:
            yield replace(first, file=file, batch=batch)
        for engine in _others(config.device):
            yield replace(first, engine=engine, batch=batch)
        for engine, file in itertools.product(_tensorrt(config.device), graphs):
            if file != MODELS["int8"]:  # of a form that is for CPUs
                yield replace(first, engine=engine, file=file, batch=batch)
    for variant in ALTERNATIVES:
        yield replace(first, variant=variant)


def _possible(bundle: Bundle, batches: Sequence[int]) -> list[int]:
    """Those that the graph takes at once.

    Raises:
        InvalidInput: it takes none of them.
    """
    most = bundle.manifest.max_batch
    if not (possible := [batch for batch in batches if batch <= most]):
        raise InvalidInput(
            f"batches are {', '.join(map(str, batches))}; {bundle.path} takes at most {most} "
            f"crops at once. Give --batch {most}"
        )
    return possible


def _others(device: str) -> Iterator[str]:
    if device == "cpu" and find_spec("openvino"):
        yield "openvino"
    if find_spec("torch"):
        yield from ("torch", "torch-compile")


def _tensorrt(device: str) -> Iterator[str]:
    if device == "cuda":
        if any(map(find_spec, LIBRARIES)):
            yield "tensorrt"
        if "TensorrtExecutionProvider" in ort.get_available_providers():
            yield "onnxruntime-tensorrt"
        if trtexec.find():
            yield "trtexec"


def _time(row: Row, bundle: Bundle, seconds: float) -> None:
    with board.watched() as readings:
        try:
            row.timings.append(_measured(row.case, bundle, seconds))
        except MisgivingError as error:
            row.error = str(error)
        except subprocess.TimeoutExpired as error:
            row.error = f"took more than {error.timeout:.0f} s"
    row.readings += readings


def _measured(case: Case, bundle: Bundle, seconds: float) -> Timing:
    if case.engine == "trtexec":
        return trtexec.measure(str(trtexec.find()), case, bundle, seconds)
    asked = {"case": asdict(case), "bundle": str(bundle.path), "seconds": seconds}
    return Timing(**answer(worker.__name__, asked, TIMEOUT_S))
