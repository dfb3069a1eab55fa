"""Numbers over several seeds: how far their mean may be off, and whether two methods differ.

Axes: S seeds, R resamples. A seed is a network of its own, measured on a sample of images; its
number with the resamples of these is an :class:`Estimate`, as ``bootstrap.estimates`` gives it.

Few seeds make a narrow bootstrap. Where seeds differ much more than images, the 95 % interval of
three seeds holds the truth 77 times in 100, of five 84, of ten 91 (normal deviates, 1,000 trials;
tests/trainer/test_nested.py has a short form). So Student's interval is told beside it, which takes
the seeds to be normal and the images as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from misgiving.runtime.errors import DataError
from misgiving.trainer.measures.bootstrap import LEVEL, RESAMPLES, SEED, Estimate

Floats = NDArray[np.floating]

EXACT_SEEDS = 15
"""Up to so many, all 2^S changes of signs are looked at; of more, 2^15 drawn ones."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """First less second method over seeds, each seed's pair on the same persons."""

    difference: Estimate
    """The mean over the seeds."""
    deviation: float
    """Standard deviation over the seeds (S − 1); NaN of one."""
    above: int
    """Seeds in which the first is above the second; whether that is better, the number says."""
    below: int
    seeds: int
    p_bootstrap: float
    """Two-sided: twice the smaller share of resamples on either side of 0."""
    p_signs: float
    """Two-sided sign-flip permutation test over seeds (Fisher 1935): of all ways to swap the two
    methods within seeds, the share with a mean as far from 0. Never below 2^(1 − S)."""
    t_interval: tuple[float, float]
    """Student's paired interval at LEVEL over seeds; NaN twice for one."""


def mean_over_seeds(seeds: Sequence[Estimate], *, same_images: bool) -> Estimate:
    """The mean over seeds, with resamples of the seeds and of the images in them.

    A resample draws S seeds with replacement, then a resample of images for each (Davison &
    Hinkley, Bootstrap Methods, 1997, 3.8). Where all seeds are measured on the same images, one
    resample of images goes for all: images drawn apart would average their chance away.

    Args:
        seeds: (S,); of fewer than two there are no resamples, as they say nothing about others.
        same_images: whether the seeds are measured on the same images in the same order.

    Raises:
        DataError: the seeds have different numbers of resamples.
    """
    values = np.array([seed.value for seed in seeds], float)
    sizes = {len(seed.draws) for seed in seeds}
    if len(sizes) > 1:
        raise DataError(
            f"seeds have {sorted(sizes)} resamples; expected as many of each. "
            "Leave out the seeds that are measured on a single image"
        )
    mean = float(values.mean()) if len(values) else float("nan")
    if len(values) < 2:
        return Estimate(mean, np.empty(0))
    # (R, S), or (1, S) of single images: then only the seeds are drawn.
    draws = values[None] if sizes == {0} else np.stack([seed.draws for seed in seeds], axis=1)
    rng = np.random.default_rng(SEED)
    chosen = rng.integers(0, len(values), (RESAMPLES, len(values)))
    images = rng.integers(0, len(draws), (RESAMPLES, 1 if same_images else len(values)))
    return Estimate(mean, draws[images, chosen].mean(1))


def compare(
    first: Sequence[Estimate], second: Sequence[Estimate], *, same_images: bool
) -> Comparison:
    """One number of two methods over the same seeds, and whether they differ.

    Args:
        first: (S,); of each seed, with the same resamples as the second's.
        second: (S,), in the same order.
        same_images: see :func:`mean_over_seeds`.

    Raises:
        DataError: the two have not the same seeds, or not the same resamples.
    """
    if len(first) != len(second) or not first:
        raise DataError(
            f"{len(first)} and {len(second)} seeds are compared; expected the same, at least one"
        )
    pairs = list(zip(first, second, strict=True))
    if any(len(one.draws) != len(other.draws) for one, other in pairs):
        raise DataError("two methods of a seed have different resamples; expected the same persons")
    differences = [one - other for one, other in pairs]
    values = np.array([difference.value for difference in differences])
    mean = mean_over_seeds(differences, same_images=same_images)
    return Comparison(
        difference=mean,
        deviation=float(values.std(ddof=1)) if len(values) > 1 else float("nan"),
        above=int((values > 0).sum()),
        below=int((values < 0).sum()),
        seeds=len(values),
        p_bootstrap=_bootstrap_p(mean.draws),
        p_signs=sign_flip_p(values),
        t_interval=t_interval(values),
    )


def sign_flip_p(differences: Floats) -> float:
    """Two-sided p-value of differences (S,) with a mean of 0; NaN where one is NaN.

    It takes nothing but that each difference is as likely as its opposite. Exact for up to
    EXACT_SEEDS: 2^S means.
    """
    count = len(differences)
    if not count or not np.isfinite(differences).all():
        return float("nan")
    flips = 2**EXACT_SEEDS
    if count <= EXACT_SEEDS:
        signs = 1 - 2 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)
    else:
        signs = np.random.default_rng(SEED).choice([-1, 1], (flips, count))
        signs[0] = 1  # what was observed is one of the ways, so that p is never 0
    sums = np.abs(signs @ differences)
    rounding = 1e-12 * np.abs(differences).sum()  # equal sums may differ by so much
    return float((sums >= sums[0] - rounding).mean())


def t_interval(differences: Floats) -> tuple[float, float]:
    """Mean ± t · sd / √S at LEVEL, of differences (S,); NaN twice for fewer than two."""
    count = len(differences)
    if count < 2:
        return float("nan"), float("nan")
    half = stdtrit(count - 1, (1 + LEVEL) / 2) * differences.std(ddof=1) / np.sqrt(count)
    return float(differences.mean() - half), float(differences.mean() + half)


def _bootstrap_p(draws: Floats) -> float:
    """NaN without resamples, or where one is undefined."""
    if not len(draws) or not np.isfinite(draws).all():
        return float("nan")
    tail = min((draws <= 0).sum(), (draws >= 0).sum())
    return float(min(1.0, 2 * (tail + 1) / (len(draws) + 1)))
