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
_BETTER = {"test_pck": 1, "selected_pck": -1, "selected_loss": 1}
"""The sign of a difference for the better; a number without is not compared."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of one method at one stage."""

    values: NDArray[np.float64]
    """(S,), NaN where undefined."""

    def __str__(self) -> str:
        return self.text()

    def text(self, sign: str = "") -> str:
        """Mean ± sd; a dash where one is undefined.

        Args:
            sign: ``+`` writes it for positive means too.
        """
        if not np.isfinite(self.values).all():
            return "–"
        text = f"{self.values.mean():{sign}.3f}"
        return f"{text} ± {self.values.std(ddof=1):.3f}" if len(self.values) > 1 else text


@dataclass(frozen=True, slots=True)
class Comparison:
    """A number of one method less that of the reference, seed by seed."""

    differences: Cell
    better: int
    """The sign of a difference for the better."""

    @property
    def wins(self) -> int:
        """Seeds where the method is better."""
        return int((self.better * self.differences.values > 0).sum())

    @property
    def compared(self) -> int:
        """Seeds where both are defined."""
        return int(np.isfinite(self.differences.values).sum())

    @property
    def equal(self) -> bool:
        """Whether the two are the same everywhere, as test PCK is at the first stage."""
        return not self.differences.values.any()

    def __str__(self) -> str:
        if self.equal:
            return "same"
        return f"{self.differences.text('+')}, {self.wins} of {self.compared}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One number of one method at one stage, and against the reference."""

    cell: Cell
    against: Comparison | None
    """None for the reference, and for a number of which none is better."""

    @property
    def wins(self) -> str:
        """In brackets, empty where nothing is compared."""
        if self.against is None or self.against.equal:
            return ""
        return f"({self.against.wins}/{self.against.compared})"


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


def stage_count(runs: Sequence[CycleRun]) -> int:
    """Stages that all runs have."""
    return min(len(run.stages) for run in runs)


def reference(runs: Sequence[CycleRun]) -> str:
    """The method that the others are compared with: random, or the first where it is not run."""
    methods = list(by_method(runs))
    return "random" if "random" in methods else methods[0]


def cell(runs: Sequence[CycleRun], stage: int, name: str) -> Cell:
    """A number of some runs of one method, at a stage counted from 0."""
    return Cell(np.array([number(run.stages[stage], name) for run in runs]))


def entries(runs: Sequence[CycleRun], stage: int) -> dict[str, dict[str, Entry]]:
    """Method → name of a number → what it comes to, at a stage counted from 0.

    The methods' seeds stand in one order, as :func:`run_cycle` gives them.
    """
    grouped, base = by_method(runs), reference(runs)
    table: dict[str, dict[str, Entry]] = {}
    for method, some in grouped.items():
        table[method] = {}
        for name in NUMBERS:
            one, other = cell(some, stage, name), cell(grouped[base], stage, name)
            compared = name in _BETTER and method != base
            difference = Cell(one.values - other.values)
            against = Comparison(difference, _BETTER[name]) if compared else None
            table[method][name] = Entry(one, against)
    return table


def cycle_table(runs: Sequence[CycleRun]) -> str:
    """Stages and methods as text, mean ± sd over the repeats; see :func:`run_cycle`."""
    methods = by_method(runs)
    width = max(len("method"), *map(len, methods))
    heading = "".join(f"{title:>22}{'':8}" for title in NUMBERS.values())
    lines = [f"stage  labels  {'method':{width}}{heading}".rstrip()]
    for stage in range(stage_count(runs)):
        labels = runs[0].stages[stage].labels
        for method, row in entries(runs, stage).items():
            cells = "".join(f"{entry.cell!s:>22} {entry.wins:7}" for entry in row.values())
            lines.append(f"{stage + 1:5}  {labels:6}  {method:{width}}{cells}".rstrip())
    if len(methods) > 1:
        lines.append(f"(w/n): better than {reference(runs)} in w of n repeats")
    return "\n".join(lines)
