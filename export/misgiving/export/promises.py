"""Thresholds that keep a promise: order statistics, and how many observations data is worth.

**One threshold for one promise.** Of n failures drawn independently, let the threshold lie at the
(k + 1)-th lowest score, so that k of them are missed. It misses more than a share x of all
failures with probability at most P(Binomial(n, x) ≤ k), whatever the scores' distribution (Wilks,
1941). k is the largest for which that is at most 1 − confidence; the same as the largest whose
one-sided upper bound by Clopper & Pearson (1934) is at most x. With k = 0 it needs
n ≥ ln(1 − confidence) / ln(1 − x). The share of flagged frames is bounded likewise from above.

**Weights and groups.** A person of an audit sample stands for one over its sampling probability,
and persons of one device are alike. Kish's effective size (Σw)² / Σw² is *not* used: it takes
weights for unrelated to the outcome, and a fleet's are not. Below the vehicle's threshold, where
the missed failures lie, every weight is high; a sample of a hundred flagged failures (weight 1)
that by chance holds no audited one (weight 100) has a Kish size of 100 and tells nothing about
misses. Here a unit is a group with the sum of its weights, the largest weight that one unit or
one person of the whole data has counts as one observation, and the rest in proportion:
n = Σw / max w. Each unit's share in the misses is then a number in [0, 1] before weighting, and
of such sums the binomial is the most spread (Hoeffding, 1956), which the rule above supposes. It
is never above Kish's size, and n itself where weights and groups are equal. For equal units the
promise is exact; for others it is conservative, which tests/export/test_promises.py simulates.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

Floats = NDArray[np.floating]

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Sample:
    """Observations of one kind, failures or frames, on which a promise rests."""

    score: Floats
    """(N,)"""
    weight: Floats
    """(N,), how many each stands for."""
    heaviest: float
    """Weight that counts as one independent observation."""

    @property
    def effective(self) -> int:
        """How many independent, equally likely observations these are worth."""
        return math.floor(float(self.weight.sum()) / self.heaviest + _ROUNDING)


@dataclass(frozen=True, slots=True)
class Cut:
    """A threshold, and how many observations it flags or misses."""

    value: float
    beyond: int


def sample_of(score: Floats, weight: Floats, group: NDArray[np.str_], largest: float) -> Sample:
    """Observations in groups (N,).

    Args:
        score: (N,).
        weight: (N,).
        group: (N,), names; those of one are alike.
        largest: weight that a person of the data can have, whether or not one of these has it.
    """
    _, place = np.unique(group, return_inverse=True)
    return Sample(score, weight, float(np.bincount(place, weight).max(initial=largest)))


def needed(rate: float, confidence: float) -> int:
    """Observations from which on a promise can be kept, with none of them beyond the threshold.

    At 90 % confidence a rate of 5 % needs 45, one of 1 % 230.
    """
    return math.ceil(math.log(1 - confidence) / math.log(1 - rate) - _ROUNDING)


def allowed(n: int, rate: float, confidence: float) -> int:
    """How many of n may lie beyond the threshold; −1 where n supports no promise."""
    if n < needed(rate, confidence):
        return -1
    count = int(binom.ppf(1 - confidence, n, rate))
    return count if binom.cdf(count, n, rate) <= 1 - confidence else count - 1


def miss_cut(failures: Sample, rate: float, confidence: float) -> Cut | None:
    """The highest score from which on to flag, so that at most a share of failures is missed.

    None where the failures do not support the promise.
    """
    count = allowed(failures.effective, rate, confidence)
    if count < 0:
        return None
    order = np.argsort(failures.score, kind="stable")
    score, weight = failures.score[order], failures.weight[order]
    below = np.concatenate([[0.0], np.cumsum(weight)])[np.searchsorted(score, score)]
    value = score[below <= (count + _ROUNDING) * failures.heaviest].max()
    return Cut(float(value), int((score < value).sum()))


def flag_cut(frames: Sample, rate: float, confidence: float) -> Cut | None:
    """The lowest score from which on to flag, so that at most a share of frames is flagged.

    It is just above a frame's score, in the float32 of a graph's output. None as in
    :func:`miss_cut`.
    """
    mirrored = miss_cut(Sample(-frames.score, frames.weight, frames.heaviest), rate, confidence)
    if mirrored is None:
        return None
    value = np.nextafter(np.float32(-mirrored.value), np.float32(np.inf))
    return Cut(float(value), mirrored.beyond)
