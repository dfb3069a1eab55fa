"""Whether a probability of failure is one: expected calibration error, and what it is made of.

Axes: N persons, B bins, R weightings.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.calibration import CalibrationError
from misgiving.trainer.evaluation import ranking
from misgiving.trainer.evaluation.bootstrap import LEVEL, Estimate, Key, estimates

Floats = NDArray[np.floating]

BINS = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """Persons with similar probabilities; see :func:`evaluate`."""

    probability: float
    """Their mean probability."""
    failed: float
    """Share of them that failed."""
    persons: int


@dataclass(frozen=True, slots=True)
class Reliability:
    """How far probabilities of failure are from what happened; see :func:`evaluate`."""

    error: float
    """Expected calibration error (Naeini et al., AAAI 2015), in bins of about equally many
    persons."""
    interval: tuple[float, float]
    bins: tuple[Bin, ...]
    persons: int
    failures: int

    def record(self, measured_on: str) -> CalibrationError:
        """As a manifest has it."""
        low, high = self.interval
        return CalibrationError(
            value=self.error,
            low=low,
            high=high,
            level=LEVEL,
            measured_on=measured_on,
            persons=self.persons,
            failures=self.failures,
        )


def reliability(
    probability: Floats, failed: NDArray[np.bool_], weights: Floats, groups: Sequence[str]
) -> Reliability:
    """Compare probabilities with failures, bin by bin.

    Chance makes every bin a little wrong, so that the error of even a perfect probability is above
    0, and that of a resample above the sample's. The interval's lower end is therefore the upper
    end of the resamples mirrored at the sample's error (the basic bootstrap's), and not below 0;
    the upper end stays where the resamples have it, which is too high rather than too low.

    Args:
        probability: (N,), on persons that had no part in making them.
        failed: (N,).
        weights: (N,), how many persons each stands for.
        groups: (N,), those of one are resampled together.
    """
    members = _members(probability, weights)

    def measure(counts: Floats) -> dict[Key, Floats]:
        counted = weights[:, None] * counts
        gaps = np.abs(members.T @ (counted * (probability - failed)[:, None]))
        return {"error": ranking.ratio(gaps.sum(0), counted.sum(0))}

    estimate = estimates(measure, groups)["error"]
    return Reliability(
        error=estimate.value,
        interval=_interval(estimate),
        bins=tuple(_bin(member, probability, failed, weights) for member in members.T),
        persons=len(failed),
        failures=int(failed.sum()),
    )


def _members(probability: Floats, weights: Floats) -> NDArray[np.bool_]:
    """Which bin each person is in, (N, B); equal probabilities are in one bin."""
    inner = np.arange(1, BINS) / BINS
    edges = np.quantile(probability, inner, weights=weights, method="inverted_cdf")
    place = np.searchsorted(np.unique(edges), probability)
    members: NDArray[np.bool_] = place[:, None] == np.unique(place)
    return members


def _interval(estimate: Estimate) -> tuple[float, float]:
    """The whole range where there are no resamples: one group says nothing about others."""
    high = estimate.interval[1]
    if not np.isfinite(high):
        return 0.0, 1.0
    return max(0.0, 2 * estimate.value - high), max(estimate.value, high)


def _bin(
    member: NDArray[np.bool_], probability: Floats, failed: NDArray[np.bool_], weights: Floats
) -> Bin:
    return Bin(
        probability=float(np.average(probability[member], weights=weights[member])),
        failed=float(np.average(failed[member], weights=weights[member])),
        persons=int(member.sum()),
    )
