"""Whether a probability of failure is one: expected calibration error, and what it is made of.

Axes: N persons, B bins, R weightings.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.bundles.calibration import CalibrationError
from misgiving.trainer.measures import ranking
from misgiving.trainer.measures.bootstrap import LEVEL, estimates

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


def recorded(one: Reliability, measured_on: str) -> CalibrationError:
    """As a manifest has it."""
    low, high = one.interval
    return CalibrationError(
        value=one.error,
        low=low,
        high=high,
        level=LEVEL,
        measured_on=measured_on,
        persons=one.persons,
        failures=one.failures,
    )


def reliability(
    probability: Floats, failed: NDArray[np.bool_], weights: Floats, groups: Sequence[str]
) -> Reliability:
    """Compare probabilities with failures, bin by bin.

    Chance makes every bin a little wrong, so that the error of even a perfect probability is above
    0, and that of a resample above the sample's; percentiles of the resamples miss the truth. But
    error and truth are sums over bins of |difference|, and so no further apart than the sum of
    |noise|: the interval is the error plus and minus what that sum stays below in LEVEL of the
    resamples. It is rather too wide than too narrow.

    Args:
        probability: (N,), on persons that had no part in making them.
        failed: (N,).
        weights: (N,), how many persons each stands for.
        groups: (N,), those of one are resampled together.
    """
    members = _members(probability, weights)

    def gaps(counts: Floats) -> Floats:
        """Of each bin, as its part in the error, (B, R)."""
        counted = weights[:, None] * counts
        return ranking.ratio(
            members.T @ (counted * (probability - failed)[:, None]), counted.sum(0)
        )

    whole = gaps(np.ones((len(failed), 1)))
    noise = estimates(lambda counts: {"": np.abs(gaps(counts) - whole).sum(0)}, groups)[""]
    error = float(np.abs(whole).sum())
    return Reliability(
        error=error,
        interval=_interval(error, noise.draws),
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


def _interval(error: float, noise: Floats) -> tuple[float, float]:
    """The whole range where there are no resamples: one group says nothing about others."""
    reach = float(np.quantile(noise, LEVEL)) if len(noise) else 1.0
    return max(0.0, error - reach), min(1.0, error + reach)


def _bin(
    member: NDArray[np.bool_], probability: Floats, failed: NDArray[np.bool_], weights: Floats
) -> Bin:
    return Bin(
        probability=float(np.average(probability[member], weights=weights[member])),
        failed=float(np.average(failed[member], weights=weights[member])),
        persons=int(member.sum()),
    )
