"""What an order of persons by their risk is worth, over one sample or many resamples at once.

Axes: N persons, K keypoints, G groups of equal score, R weightings. A weighting says how often
each person counts, in whole numbers: ones for the sample, a bootstrap's counts for a resample.

Equal scores are no order: every number is its mean over all orders of the equal ones. So a
constant score gives what picking at random gives.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]


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
        picked = np.maximum(1, np.round(share * total))
        above = total - np.cumsum(counts, axis=0)
        parts = np.clip(picked - above, 0, counts)
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
        accepted = count - np.cumsum(self.all, axis=0) + self.all / 2
        return ratio((self.failed * accepted).sum(0), count**2)

    def aurc(self) -> Floats:
        """Area under the risk–coverage curve, (R,): the mean over n = 1…N of the share that
        failed among the n lowest risks. The few lowest weigh most in it."""
        count = self.all.sum(0)
        if not count.size or not count.max():
            return np.full(count.shape, np.nan)
        harmonic = np.concatenate([[0], np.cumsum(1 / np.arange(1, int(count.max()) + 1))])
        after = np.cumsum(self.all, axis=0).astype(np.intp)
        before = after - self.all.astype(np.intp)
        rate = ratio(self.failed, self.all, 0.0)
        failed_before = np.cumsum(self.failed, axis=0) - self.failed
        # Of the j-th of a group, in a random order, (failed_before + j·rate) / (before + j) failed.
        steps = harmonic[after] - harmonic[before]
        return ratio((self.failed + (failed_before - rate * before) * steps).sum(0), count)

    def risk_at(self, coverages: Floats) -> Floats:
        """Share that failed among the lowest risks, at each coverage in (0, 1], first weighting."""
        accepted = np.concatenate([[0], np.cumsum(self.all[:, 0])])
        failed = np.concatenate([[0], np.cumsum(self.failed[:, 0])])
        wanted = coverages * accepted[-1]
        return ratio(np.interp(wanted, accepted, failed), wanted)


def spearman(first: Ranking, second: Ranking, weights: Floats) -> Floats:
    """Rank correlation of two rankings of the same persons, (R,); NaN where one is constant."""
    one, other = first.centred_ranks(weights), second.centred_ranks(weights)
    weighted = weights * one
    spread = (weighted * one).sum(0) * (weights * other * other).sum(0)
    return ratio((weighted * other).sum(0), np.sqrt(spread))


def ratio(part: Floats, whole: Floats, otherwise: float = np.nan) -> Floats:
    """Quotient, ``otherwise`` where the divisor is 0."""
    quotient: Floats = np.full(np.broadcast_shapes(part.shape, whole.shape), otherwise)
    np.divide(part, whole, out=quotient, where=whole != 0)
    return quotient
