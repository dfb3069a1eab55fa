"""What the flag misses, and how often it cries wolf: estimated from frames that people judged.

Kept frames are a sample of all answered ones, each with a known probability. They are split into
strata by flag and reason, within which whoever judges takes them at random. A stratum stands for
as many frames as the inverse probabilities of its kept ones add up to (Horvitz and Thompson), and
as large a share of these failed as of its judged ones (Hajek). Pure.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HANDFUL = 10
"""Judged frames of a stratum, or all where it has fewer, without which no number is given."""
LEVEL = 0.95

_DRAWS = 4000
_SEED = 0
_UNLIKE = 4.0  # standard errors between the mean scores of judged and of all

Floats = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """The frames of one camera on which somebody said whether the network failed: they resemble
    each other. A frame's weight is 1 / probability, with which it was kept."""

    camera: str
    frames: int
    failed: int
    """Frames on which it did."""
    weight: float
    """Sum of the weights."""
    square: float
    """Sum of their squares."""
    failed_weight: float
    """Sum of the weights of the failed."""
    scored: int = 0
    """Frames that have a score, the largest predicted loss."""
    score: float = 0.0
    """Sum of these."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """Kept frames with one flag and reason."""

    flagged: bool
    reason: str
    kept: int
    weight: float
    """Sum of 1 / probability: how many frames they stand for."""
    variance: float
    """Sum of (1 - probability) / probability²: of that number."""
    judged: tuple[Judged, ...]
    mean_score: float = math.nan
    deviation: float = math.nan
    """Standard deviation of their scores."""

    @property
    def judged_frames(self) -> int:
        return sum(one.frames for one in self.judged)

    @property
    def failed_frames(self) -> int:
        return sum(one.failed for one in self.judged)

    @property
    def missing(self) -> int:
        """How many more must be judged before there is a number."""
        return max(0, min(HANDFUL, self.kept) - self.judged_frames)

    @property
    def unlike(self) -> bool:
        """Whether the judged ones have other scores than all of them: they were not drawn."""
        scored = sum(one.scored for one in self.judged)
        if not scored or not self.deviation > 0:
            return False
        error = self.deviation / math.sqrt(scored)
        mean = sum(one.score for one in self.judged) / scored
        return abs(mean - self.mean_score) > _UNLIKE * error


@dataclass(frozen=True, slots=True)
class Share:
    """An estimated share, with the interval that covers the true one in LEVEL of the cases."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f} {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class Audit:
    """What :func:`estimate_audit` says; a share is None where too few frames are judged."""

    missed: Share | None
    """Of the failures, those that are not flagged."""
    unflagged_failed: Share | None
    """Of the frames that are not flagged, those that failed."""
    false_alarms: Share | None
    """Of the flagged frames, those that did not fail."""
    failed: Share | None
    """Of all frames, those that failed."""
    strata: tuple[Stratum, ...]

    @property
    def judged(self) -> int:
        return sum(one.judged_frames for one in self.strata)


def estimate_audit(strata: Iterable[Stratum]) -> Audit:
    """Estimate from judged frames what the flag misses and how often it cries wolf.

    The intervals are quantiles of draws: each stratum's share from a beta distribution (Jeffreys'
    prior, so that none of 20 is not taken for never), with as many judged frames as they are worth,
    see :func:`_worth`; its size from a gamma distribution.

    Args:
        strata: those without a kept frame say nothing, and are left out.
    """
    strata = tuple(one for one in strata if one.kept)
    rng = np.random.default_rng(_SEED)
    parts = [_drawn(one, rng) for one in strata]
    quiet = [p for p, one in zip(parts, strata, strict=True) if not one.flagged]
    loud = [p for p, one in zip(parts, strata, strict=True) if one.flagged]
    failed_quiet, all_quiet = _sum(quiet)
    failed_loud, all_loud = _sum(loud)
    known_quiet = bool(quiet) and not any(one.missing for one in strata if not one.flagged)
    known_loud = not any(one.missing for one in strata if one.flagged)
    both = known_quiet and known_loud
    failed = failed_quiet + failed_loud
    return Audit(
        missed=_share(failed_quiet, failed) if both else None,
        unflagged_failed=_share(failed_quiet, all_quiet) if known_quiet else None,
        false_alarms=_share(all_loud - failed_loud, all_loud) if known_loud and loud else None,
        failed=_share(failed, all_quiet + all_loud) if both else None,
        strata=strata,
    )


def _drawn(stratum: Stratum, rng: np.random.Generator) -> Floats:
    """Failed frames and all frames that a stratum stands for, (2, 1 + draws); the first is the
    estimate."""
    share, worth = _failed(stratum.judged)
    shares = rng.beta(worth * share + 0.5, worth * (1 - share) + 0.5, _DRAWS)
    sizes = np.full(_DRAWS, stratum.weight)
    if stratum.variance > 0:
        scale = stratum.variance / stratum.weight
        sizes = rng.gamma(stratum.weight / scale, scale, _DRAWS)
    sizes, shares = np.append(stratum.weight, sizes), np.append(share, shares)
    return np.stack([sizes * shares, sizes])


def _failed(judged: Sequence[Judged]) -> tuple[float, float]:
    """The share of failures by weight, and how many equal, independent frames it is worth."""
    if not judged:
        return 0.5, 0.0
    share = sum(one.failed_weight for one in judged) / sum(one.weight for one in judged)
    return share, _worth(judged, share)


def _worth(judged: Sequence[Judged], share: float) -> float:
    """Kish's number of equal weights; fewer where cameras differ by more than chance has it."""
    total = sum(one.weight for one in judged)
    equal = total**2 / sum(one.square for one in judged)
    count = len(judged)
    if count < 2 or not 0 < share < 1:
        return equal
    apart = sum((one.failed_weight - share * one.weight) ** 2 for one in judged)
    variance = count / (count - 1) * apart / total**2
    worth = share * (1 - share) / variance if variance else equal
    return min(equal, max(worth, min(count, equal)))


def _sum(parts: Sequence[Floats]) -> Floats:
    return sum(parts, np.zeros((2, _DRAWS + 1)))


def _share(part: Floats, whole: Floats) -> Share | None:
    """None where there is nothing to have a share of, for example no failure."""
    if not whole[0] > 0:
        return None
    value, draws = float(part[0] / whole[0]), part[1:] / whole[1:]
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return Share(value, min(low, value), max(high, value))
