"""What the runs of a cycle come to: numbers over repeats, by method and stage.

Axes: S seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from misgiving.trainer.cycle.record import CycleRun, StageResult
from misgiving.trainer.measures.bootstrap import LEVEL
from misgiving.trainer.measures.nested import t_interval

NUMBERS = {
    "test_pck": "test PCK ↑",
    "selected_missed": "missed of selected ↑",
    "pool_missed": "missed of the pool",
}
"""Columns of the table, of which missed is the share of joints; higher is better where an arrow is,
and a number without is not compared."""
_COMPARED = ("test_pck", "selected_missed")


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

    @property
    def wins(self) -> int:
        """Seeds where the method is better."""
        return int((self.differences.values > 0).sum())

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
    found = {
        "test_pck": stage.test.get("pck"),
        "selected_missed": stage.selected_pck,
        "pool_missed": stage.pool_pck,
    }[name]
    if found is None:
        return float("nan")
    return 1 - found if name.endswith("missed") else found


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
            compared = name in _COMPARED and method != base
            against = Comparison(Cell(one.values - other.values)) if compared else None
            table[method][name] = Entry(one, against)
    return table


def verdict(runs: Sequence[CycleRun]) -> str:
    """Which method is ahead after the last stage, and whether that is more than luck."""
    last, base = stage_count(runs) - 1, reference(runs)
    scores = {m: cell(some, last, "test_pck").values for m, some in by_method(runs).items()}
    after = f"test PCK after {runs[0].stages[last].labels} labels"
    if not np.isfinite(list(scores.values())).all():
        return f"Which method is ahead is not known: nobody has a {after}."
    first = max(scores, key=lambda method: scores[method].mean())
    others = {method: values for method, values in scores.items() if method != first}
    if not others:
        return f"{first} is compared with nothing: {scores[first].mean():.3f} {after}."
    second = base if base in others else max(others, key=lambda method: others[method].mean())
    differences = scores[first] - scores[second]
    if not differences.any():
        return f"{first} and {second} are level: {scores[first].mean():.3f} {after}."
    lead = f"{first} is ahead of {second} by {differences.mean():.3f} in {after}"
    return f"{lead}; {_evidence(differences, len(others) if second == base else 1)}."


def _evidence(differences: NDArray[np.float64], compared: int) -> str:
    """What seeds say of a lead: its differences, seed by seed, the largest of so many methods'."""
    if len(differences) == 1:
        return "one seed: no evidence"
    low, high = t_interval(differences)
    interval = f"the {LEVEL:.0%} interval over {len(differences)} seeds, [{low:.3f} {high:.3f}],"
    if low <= 0:
        return f"{interval} holds 0: no evidence"
    chosen = f", but for the choice of the best of {compared}" if compared > 1 else ""
    return f"{interval} does not hold 0{chosen}"


def cycle_table(runs: Sequence[CycleRun]) -> str:
    """The verdict, and stages and methods as text, mean ± sd over the repeats; see
    :func:`run_cycle`."""
    methods = by_method(runs)
    width = max(len("method"), *map(len, methods))
    heading = "".join(f"{title:>22}{'':8}" for title in NUMBERS.values())
    lines = [verdict(runs), f"stage  labels  {'method':{width}}{heading}".rstrip()]
    for stage in range(stage_count(runs)):
        labels = runs[0].stages[stage].labels
        for method, row in entries(runs, stage).items():
            cells = "".join(f"{entry.cell!s:>22} {entry.wins:7}" for entry in row.values())
            lines.append(f"{stage + 1:5}  {labels:6}  {method:{width}}{cells}".rstrip())
    if len(methods) > 1:
        lines.append(f"(w/n): better than {reference(runs)} in w of n repeats")
    return "\n".join(lines)
