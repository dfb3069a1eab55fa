"""Whether live scores are still distributed as the bundle's reference says: pure.

A bet against "they are": its stake multiplies by what a guess from the live scores so far gives
to the bin that a score falls into, over what the reference gives to it. Where they are alike, a
stake of 1 reaches 1,000 within a window in at most one of 1,000 windows (Ville's inequality). The
reference is itself a sample, so what was seen in the window is counted to it: this costs power and
holds the rate for references of finite size.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass, replace

FALSE_ALARMS = 1e-3
"""Share of windows that raise an alarm although nothing has changed, at most."""
WINDOW = 500
"""Scores after which a new bet starts, so that old times cannot outvote new ones."""

_PRIOR = 5.0
"""Scores that a guess gives to each bin beforehand."""


@dataclass(frozen=True, slots=True)
class DriftWatch:
    """A bet against a reference, and how it stands."""

    edges: tuple[float, ...]
    """Between the bins, rising. A score at an edge belongs to the bin above it; a NaN is above."""
    shares: tuple[float, ...]
    """Of the reference in each bin."""
    persons: int
    """Of the reference."""
    counts: tuple[int, ...] = ()
    """Live scores of this window in each bin; () before the first."""
    evidence: float = 0.0
    """Logarithm of the stake."""
    crossed: bool = False
    """Whether the stake has reached its goal in this window."""
    alarm: bool = False
    """Whether it has in this window or, until this one ends, in the one before."""

    def seen(self, score: float) -> "DriftWatch":
        """How the bet stands after another live score."""
        counts = list(self.counts or (0,) * len(self.shares))
        bins, n = len(counts), sum(counts)
        at = bins - 1 if math.isnan(score) else bisect_right(self.edges, score)
        guess = (_PRIOR + counts[at]) / (_PRIOR * bins + n)
        known = self.persons * self.shares[at] + 0.5  # half a person where the reference had none
        reference = (known + counts[at]) / (self.persons + 0.5 * bins + n)
        counts[at] += 1
        evidence = self.evidence + math.log(guess / reference)
        crossed = self.crossed or evidence >= -math.log(FALSE_ALARMS)
        if n + 1 == WINDOW:
            return replace(self, counts=(), evidence=0.0, crossed=False, alarm=crossed)
        alarm = self.alarm or crossed
        return replace(self, counts=tuple(counts), evidence=evidence, crossed=crossed, alarm=alarm)
