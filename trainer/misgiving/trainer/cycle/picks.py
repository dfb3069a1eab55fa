"""Whom the methods of a cycle chose alike, and whom only one of them did.

A method is compared with what the others had chosen by the end of the same stage: whom they chose
earlier they cannot choose again. Axes: M methods.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from misgiving.trainer.cycle.record import CycleRun
from misgiving.trainer.cycle.summary import by_method


@dataclass(frozen=True, slots=True)
class Picks:
    """What the methods chose at one stage, mean over the repeats."""

    methods: tuple[str, ...]
    shared: NDArray[np.float64]
    """(M, M): share of the row's choice that the column's method had chosen too by then."""
    alone: NDArray[np.float64]
    """(M,): persons whom only this method had chosen by then."""


def compare_picks(runs: Sequence[CycleRun], stage: int) -> Picks:
    """Compare the methods at a stage, counted from 0."""
    methods = tuple(by_method(runs))
    repeats = [_by_method(runs, seed) for seed in dict.fromkeys(run.seed for run in runs)]
    shared = [
        [[_share(repeat[one], repeat[other], stage) for other in methods] for one in methods]
        for repeat in repeats
    ]
    alone = [[len(picked) for picked in _alone(repeat, stage).values()] for repeat in repeats]
    return Picks(methods, np.mean(shared, axis=0), np.mean(alone, axis=0))


def chosen_alone(runs: Sequence[CycleRun], seed: int, stage: int) -> dict[str, list[str]]:
    """Method → ids that only it had chosen by the end of a stage and chose there, in its order."""
    return _alone(_by_method(runs, seed), stage)


def _by_method(runs: Sequence[CycleRun], seed: int) -> dict[str, CycleRun]:
    return {run.method: run for run in runs if run.seed == seed}


def _by_then(run: CycleRun, stage: int) -> Iterator[str]:
    return (name for result in run.stages[: stage + 1] for name in result.selected)


def _share(one: CycleRun, other: CycleRun, stage: int) -> float:
    picked = one.stages[stage].selected
    return len(set(picked).intersection(_by_then(other, stage))) / len(picked)


def _alone(repeat: Mapping[str, CycleRun], stage: int) -> dict[str, list[str]]:
    found = {}
    for method, run in repeat.items():
        others = {
            name for other in repeat.values() if other is not run for name in _by_then(other, stage)
        }
        found[method] = [name for name in run.stages[stage].selected if name not in others]
    return found
