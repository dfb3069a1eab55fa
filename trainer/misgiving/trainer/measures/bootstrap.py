"""How far a number may be off: percentile intervals over resampled images.

Axes: N persons, R resamples.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Key = str | tuple[str, str]

RESAMPLES = 1000
SEED = 0
LEVEL = 0.95
_CHUNK = 20  # resamples at once: more do not fit the cache
_DEFINED = 0.99  # of the resamples; fewer give no interval, for example those of three failures


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number of a sample, and the same number of each resample; see :func:`evaluate`."""

    value: float
    draws: Floats
    """(R,); none where the sample is a single image. NaN where a resample leaves it undefined."""

    def __sub__(self, other: "Estimate") -> "Estimate":
        """The difference, resample by resample: both must come of the same ones."""
        return Estimate(self.value - other.value, self.draws - other.draws)

    @property
    def interval(self) -> tuple[float, float]:
        """The middle LEVEL of the resamples; NaN twice where too many of them are undefined."""
        defined = self.draws[np.isfinite(self.draws)]
        if not len(defined) or len(defined) < _DEFINED * len(self.draws):
            return float("nan"), float("nan")
        low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return float(low), float(high)

    def __str__(self) -> str:
        low, high = (_number(end) for end in self.interval)
        return f"{_number(self.value)} [{low} {high}]" if low != "–" else _number(self.value)

    def record(self) -> dict[str, float | None]:
        """As JSON, which has no NaN."""
        low, high = self.interval
        numbers = {"value": self.value, "low": low, "high": high}
        return {name: v if np.isfinite(v) else None for name, v in numbers.items()}


def estimates(
    measure: Callable[[Floats], Mapping[Key, Floats]], images: Sequence[str]
) -> dict[Key, Estimate]:
    """Several numbers of one sample with their resamples, which are the same for all of them.

    Args:
        measure: from weights (N, R), how often each person counts, to numbers (R,) by name.
        images: of each person; those of one image are drawn together, as they depend on it.
    """
    parts = [measure(weights) for weights in _weightings(images)]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {name: Estimate(float(values[0]), values[1:]) for name, values in joined.items()}


def draw_images(count: int, resamples: int = RESAMPLES) -> Iterator[NDArray[np.intp]]:
    """Positions of ``count`` images drawn with replacement, (count,) each; none of fewer than two,
    which say nothing about others."""
    rng = np.random.default_rng(SEED)
    for _ in range(resamples if count > 1 else 0):
        yield rng.integers(0, count, count)


def _weightings(images: Sequence[str]) -> Iterator[Floats]:
    """The sample itself, then its resamples, a chunk at a time; (N, R)."""
    yield np.ones((len(images), 1))
    names, image = np.unique(np.asarray(images, object), return_inverse=True)
    draws = draw_images(len(names))
    while chunk := list(islice(draws, _CHUNK)):
        counts = [np.bincount(drawn, minlength=len(names)) for drawn in chunk]
        yield np.stack(counts, axis=1)[image].astype(float)


def _number(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "–"
