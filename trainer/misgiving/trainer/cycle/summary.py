"""What the runs of a cycle come to: numbers over repeats, by method and stage.

Axes: S seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from misgiving.trainer.cycle.record import CycleRun, StageResult

NUMBERS = {
    "test_pck": "test PCK ↑",
    "selected_pck": "PCK of the selected ↓",
    "pool_pck": "PCK of the pool",
    "selected_loss": "loss of the selected ↑",
}
"""Columns of the table; the arrow says where it is better."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of one method at one stage."""

    values: NDArray[np.float64]
    """(S,), NaN where undefined."""

    def __str__(self) -> str:
        if not np.isfinite(self.values).all():
            return "–"
        text = f"{self.values.mean():.3f}"
        return f"{text} ± {self.values.std(ddof=1):.3f}" if len(self.values) > 1 else text


def number(stage: StageResult, name: str) -> float:
    """One of NUMBERS of a stage, NaN where undefined."""
    value = stage.test.get("pck") if name == "test_pck" else getattr(stage, name)
    return float("nan") if value is None else float(value)


def by_method(runs: Sequence[CycleRun]) -> Mapping[str, list[CycleRun]]:
    """Runs by method, in the order of the first of each; seeds in theirs."""
    grouped: dict[str, list[CycleRun]] = {}
    for run in runs:
        grouped.setdefault(run.method, []).append(run)
    return grouped


def cell(runs: Sequence[CycleRun], stage: int, name: str) -> Cell:
    """A number of some runs of one method, at a stage counted from 0."""
    return Cell(np.array([number(run.stages[stage], name) for run in runs]))


def cycle_table(runs: Sequence[CycleRun]) -> str:
    """Stages and methods as text, mean ± sd over the repeats; see :func:`run_cycle`."""
    grouped = by_method(runs)
    width = max(len("method"), *map(len, grouped))
    heading = "".join(f"{title:>24}" for title in NUMBERS.values())
    lines = [f"stage  labels  {'method':{width}}{heading}"]
    for stage in range(min(len(run.stages) for run in runs)):
        for method, some in grouped.items():
            labels = some[0].stages[stage].labels
            cells = "".join(f"{cell(some, stage, name)!s:>24}" for name in NUMBERS)
            lines.append(f"{stage + 1:5}  {labels:6}  {method:{width}}{cells}")
    return "\n".join(lines)
