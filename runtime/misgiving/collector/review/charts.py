"""Small charts as shapes, which templates draw as SVG: a page's policy allows no inline style."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
from numpy.typing import NDArray

from misgiving.collector.store.rows import StoredFrame

WIDTH, HEIGHT = 600, 120
BINS = 24
_ENDS = (0.002, 0.998)  # of the scores between which the bins lie; the rest is in the outer ones


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle in a chart of WIDTH × HEIGHT units, and what it stands for."""

    x: float
    width: float
    height: float
    title: str
    name: str = ""
    """What it belongs to: a digest, a reason."""
    base: float = 0.0
    """Where it stands, from below."""

    @property
    def y(self) -> float:
        return HEIGHT - self.base - self.height


def strip(rows: Sequence[StoredFrame]) -> list[Bar]:
    """The predicted loss of each frame of a camera, side by side."""
    losses = [row.max_predicted_loss or 0.0 for row in rows]
    top = max([*losses, *(row.threshold or 0.0 for row in rows), 1e-9])
    step = WIDTH / max(1, len(rows))
    return [
        Bar(at * step, step, max(2.0, HEIGHT * max(0.0, loss) / top), _score(row), row.digest)
        for at, (row, loss) in enumerate(zip(rows, losses, strict=True))
    ]


def threshold_of(rows: Sequence[StoredFrame], row: StoredFrame) -> float | None:
    """Where a frame's threshold lies in the strip, from above; None where it is not known."""
    top = max(
        [one.max_predicted_loss or 0.0 for one in rows] + [one.threshold or 0 for one in rows]
    )
    return None if not row.threshold or top <= 0 else HEIGHT * (1 - row.threshold / top)


@dataclass(frozen=True, slots=True)
class Arrived:
    """Frames that arrived, by day, reason and device."""

    days: tuple[str, ...]
    bars: tuple[Bar, ...]
    """A column for each day, a part of it for each reason."""
    most: int
    """On the fullest day."""
    reasons: Counter[str]
    devices: Counter[str]


def arrived(
    rows: Iterable[tuple[int, str, int]], devices: Mapping[str, int], first: int, days: int
) -> Arrived:
    """What arrived in some days.

    Args:
        rows: day, reason and number of frames; see ``queries.arrivals``.
        devices: device → number of frames.
        first: day since 1970.
        days: how many.
    """
    counts, totals = Counter[tuple[int, str]](), Counter[int]()
    reasons = Counter[str]()
    for day, reason, count in rows:
        reason = reason or "none"
        counts[day, reason] += count
        totals[day] += count
        reasons[reason] += count
    most, step = max(totals.values(), default=0), WIDTH / days
    bars, base = list[Bar](), Counter[int]()
    for (day, reason), count in sorted(counts.items()):
        title = f"{_day(day)}: {count} {reason.replace('_', ' ')}"
        left, height = (day - first + 0.1) * step, HEIGHT * count / most
        bars.append(Bar(left, 0.8 * step, height, title, reason, HEIGHT * base[day] / most))
        base[day] += count
    names = tuple(_day(first + at) for at in range(days))
    return Arrived(names, tuple(bars), most, reasons, Counter(devices))


@dataclass(frozen=True, slots=True)
class Histogram:
    """How the scores of one bundle are distributed over all answered frames."""

    bundle: str
    frames: int
    bars: tuple[Bar, ...]
    low: float
    high: float


def histograms(
    scores: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> list[Histogram]:
    """One for each bundle, over the same bins; those of most frames first."""
    if not scores:
        return []
    low, high = np.quantile(np.concatenate([one for one, _ in scores.values()]), _ENDS).tolist()
    edges = np.linspace(low, max(high, low + 1e-9), BINS + 1)
    made = [_histogram(name, edges, *scores[name]) for name in scores]
    return sorted(made, key=lambda one: -one.frames)


def _histogram(
    bundle: str,
    edges: NDArray[np.float64],
    scores: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> Histogram:
    inside = np.clip(scores, edges[0], edges[-1])
    shares = np.histogram(inside, edges, weights=weights)[0] / weights.sum()
    step, top = WIDTH / BINS, shares.max()
    bars = tuple(
        Bar(
            at * step,
            step,
            HEIGHT * share / top,
            f"{edges[at]:.3f} to {edges[at + 1]:.3f}: {share:.3f}",
        )
        for at, share in enumerate(shares.tolist())
    )
    return Histogram(bundle, len(scores), bars, float(edges[0]), float(edges[-1]))


def _score(row: StoredFrame) -> str:
    loss = "no score" if row.max_predicted_loss is None else f"{row.max_predicted_loss:.3f}"
    return f"{row.frame_id or row.digest[:12]}: {loss}"


def _day(number: int) -> str:
    return datetime.fromtimestamp(number * 86400, timezone.utc).strftime("%m-%d")
