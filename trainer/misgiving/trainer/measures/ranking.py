"""What an order of persons by their risk is worth, over one sample or many resamples at once.

Axes: N persons, K keypoints, G groups of equal score, R weightings. A weighting says how often
each person counts, in whole numbers: ones for the sample, a bootstrap's counts for a resample.

Equal scores are no order: every number is its mean over all orders of the equal ones. So a
constant score gives what picking at random gives.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]

_ROUNDING = 1e-12  # of a product of two variances, in units of the sample's


@dataclass(frozen=True)
class Ranking:
    """Persons in the order of a score, lowest first."""

    order: NDArray[np.intp]
    """(N,): positions of the persons."""
    starts: NDArray[np.intp]
    """(G,): where in ``order`` each group of equal scores starts."""
    group: NDArray[np.intp]
    """(N,): the group of each person."""

    @classmethod
    def of(cls, score: Floats) -> "Ranking":
        """Rank persons by a score (N,); one that is NaN is above all others."""
        _, group, counts = np.unique(score, return_inverse=True, return_counts=True)
        starts = np.concatenate([[0], np.cumsum(counts)])[: len(counts)]
        return cls(np.argsort(group, kind="stable"), starts, group)

    def sums(self, weights: Floats) -> Floats:
        """Total of each group, (G, R), from (N, R)."""
        ordered = weights[self.order]
        distinct = len(self.starts) == len(ordered)
        return ordered if distinct else np.add.reduceat(ordered, self.starts, axis=0)

    def centred_ranks(self, weights: Floats) -> Floats:
        """Mean rank of each person's group less the mean of all ranks, (N, R)."""
        counts = self.sums(weights)
        ranks: Floats = np.cumsum(counts, axis=0) - counts / 2 - counts.sum(0) / 2
        return ranks[self.group]

    def riskiest(self, share: float, weights: Floats) -> Floats:
        """Weights of the share with the highest scores, at least one person, (N, R)."""
        counts = self.sums(weights)
        total = counts.sum(0)
        above = total - np.cumsum(counts, axis=0)
        parts = np.clip(_picked(share, total) - above, 0, counts)
        return weights * ratio(parts, counts, 0.0)[self.group]


@dataclass(frozen=True)
class Failures:
    """How many persons of each group failed, and how many there are; (G, R) both."""

    failed: Floats
    all: Floats

    @classmethod
    def of(cls, ranking: Ranking, failed: Bools, weights: Floats) -> "Failures":
        """Count over a ranking by risk; ``failed`` is (N,)."""
        return cls(ranking.sums(weights * failed[:, None]), ranking.sums(weights))

    @cached_property
    def _until(self) -> Floats:
        """How many persons have at most the group's score, (G, R)."""
        return np.cumsum(self.all, axis=0)

    @cached_property
    def _failed_until(self) -> Floats:
        return np.cumsum(self.failed, axis=0)

    @cached_property
    def _rate(self) -> Floats:
        return ratio(self.failed, self.all, 0.0)

    def auroc(self) -> Floats:
        """Probability that a failure ranks above another person, (R,); NaN without both kinds."""
        others = self.all - self.failed
        below = np.cumsum(others, axis=0) - others / 2
        pairs = self.failed.sum(0) * others.sum(0)
        return ratio((self.failed * below).sum(0), pairs)

    def augrc(self) -> Floats:
        """Area under the generalised risk–coverage curve, (R,).

        The share of all persons who are accepted and failed, over the share accepted (Traub et
        al., NeurIPS 2024): the mean rate of silent failures. With the rate p of failures it is
        p(1 − p)(1 − AUROC) + p²/2, so that it orders the scores of one sample as AUROC does.
        """
        count = self.all.sum(0)
        accepted = count - self._until + self.all / 2
        return ratio((self.failed * accepted).sum(0), count**2)

    def aurc(self) -> Floats:
        """Area under the risk–coverage curve, (R,): the mean over n = 1…N of the share that
        failed among the n lowest risks. The few lowest weigh most in it."""
        count = self.all.sum(0)
        before = self._until - self.all
        failed_before = self._failed_until - self.failed
        # Of the j-th of a group, in a random order, (failed_before + j·rate) / (before + j) failed.
        steps = _reciprocals(before, self._until)
        return ratio((self.failed + (failed_before - self._rate * before) * steps).sum(0), count)

    def auprc(self) -> Floats:
        """Average precision of finding failures, riskiest first, (R,); NaN without a failure.

        The mean over failures of the share that failed among them and all above: scikit-learn's
        ``average_precision_score`` where no scores are equal. Equal ones it takes as one step, at
        the rate of the whole group; here it is the mean over their orders (McSherry & Najork, ECIR
        2008), as everywhere in this module.
        """
        failures = self.failed.sum(0)
        above = self.all.sum(0) - self._until
        failed_above = failures - self._failed_until
        # If the j-th of a group failed, so did each of the j − 1 above it at the rest's rate, and
        # (failed_above + 1 + (j − 1)·rest) / (above + j) is the precision there.
        rest = ratio(self.failed - 1, self.all - 1, 0.0)
        steps = _reciprocals(above, above + self.all)
        precisions = rest * self.all + (failed_above + 1 - rest * (above + 1)) * steps
        return ratio((self._rate * precisions).sum(0), failures)

    def recall_at(self, share: float) -> Floats:
        """Share of the failures that is among the riskiest share of persons, at least one person,
        (R,); NaN without a failure."""
        count, failures = self.all.sum(0), self.failed.sum(0)
        missed = [self._failed_among(n, r) for r, n in enumerate(count - _picked(share, count))]
        return ratio(failures - missed, failures)

    def risk_at(self, coverages: Floats) -> Floats:
        """Share that failed among the lowest risks, at each coverage in (0, 1], first weighting."""
        wanted = coverages * self.all[:, 0].sum()
        return ratio(self._failed_among(wanted, 0), wanted)

    def _failed_among(self, lowest: Floats, weighting: int) -> Floats:
        """How many of so many persons with the lowest scores failed."""
        accepted = np.concatenate([[0], self._until[:, weighting]])
        failed = np.concatenate([[0], self._failed_until[:, weighting]])
        among: Floats = np.interp(lowest, accepted, failed)
        return among


def spearman(first: Ranking, second: Ranking, weights: Floats) -> Floats:
    """Rank correlation of two rankings of the same persons, (R,); NaN where one is constant."""
    one, other = first.centred_ranks(weights), second.centred_ranks(weights)
    weighted = weights * one
    spread = (weighted * one).sum(0) * (weights * other * other).sum(0)
    return ratio((weighted * other).sum(0), np.sqrt(spread))


def kendall(first: Ranking, second: Ranking) -> float:
    """Kendall's tau-b of two rankings of the same persons; NaN where one is constant.

    O(N log N), but not for many weightings at once: of the sample alone.
    """
    from scipy.stats import kendalltau  # takes a second to load

    if min(len(first.starts), len(second.starts)) < 2:
        return float("nan")
    if len(first.group) == 2:  # scipy divides by 0, for a p-value that nobody asked for
        return 1.0 if (first.group == second.group).all() else -1.0
    return float(kendalltau(first.group, second.group, method="asymptotic").statistic)


def pearson(first: Floats, second: Floats, weights: Floats) -> Floats:
    """Correlation of two vectors (N,), (R,); NaN where one is constant or not finite throughout."""
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return np.full(weights.shape[1], np.nan)
    one, other = _standardised(first), _standardised(second)
    spread = _covariance(one, one, weights) * _covariance(other, other, weights)
    known = np.where(spread > _ROUNDING, spread, 0.0)
    return ratio(_covariance(one, other, weights), np.sqrt(known))


def mean_and_deviation(values: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Of values (N,) for each weighting, (R,) both; NaN where a value is not finite, or nobody."""
    if not np.isfinite(values).all():
        unknown: Floats = np.full(weights.shape[1], np.nan)
        return unknown, unknown
    centre = float(values.mean()) if len(values) else 0.0
    away = values - centre
    mean: Floats = centre + ratio(away @ weights, weights.sum(0))
    deviation: Floats = np.sqrt(np.maximum(_covariance(away, away, weights), 0.0))
    return mean, deviation


def _standardised(values: Floats) -> Floats:
    """Zeros for a constant."""
    if not len(values) or values.min() == values.max():
        return np.zeros(len(values))
    scaled = values / np.abs(values).max()  # squares of huge numbers are infinite
    away = scaled - scaled.mean()
    standardised: Floats = away / away.std()
    return standardised


def _covariance(first: Floats, second: Floats, weights: Floats) -> Floats:
    """Of two vectors (N,) around 0, for each weighting, (R,)."""
    count = weights.sum(0)
    means = ratio(first @ weights, count) * ratio(second @ weights, count)
    return ratio((first * second) @ weights, count) - means


def _picked(share: float, count: Floats) -> Floats:
    """How many persons a share of them is, at least one."""
    picked: Floats = np.maximum(1, np.round(share * count))
    return picked


def _reciprocals(after: Floats, until: Floats) -> Floats:
    """1/(after + 1) + … + 1/until, whole numbers."""
    first, last = after.astype(np.intp), until.astype(np.intp)
    sums: Floats = np.concatenate([[0], np.cumsum(1 / np.arange(1, last.max(initial=0) + 1))])
    return sums[last] - sums[first]


def ratio(part: Floats, whole: Floats, otherwise: float = np.nan) -> Floats:
    """Quotient, ``otherwise`` where the divisor is 0."""
    quotient: Floats = np.full(np.broadcast_shapes(part.shape, whole.shape), otherwise)
    np.divide(part, whole, out=quotient, where=whole != 0)
    return quotient
