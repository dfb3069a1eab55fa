"""Histograms that cost a frame next to nothing: plain numbers until somebody asks."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

BUCKETS_S = (
    *(0.001, 0.0016, 0.0025, 0.004, 0.0063, 0.01, 0.016, 0.025, 0.04, 0.063, 0.1),
    *(0.16, 0.25, 0.4, 0.63, 1.0, 1.6, 2.5, 4.0, 6.3, 10.0),
)
"""Five a decade."""


SCORES = tuple(float(f"{10 ** (fifth / 5):.2g}") for fifth in range(-15, 16))
"""Bounds of predicted losses, in the units of whatever bundle; five a decade."""


class Values(Collector):
    """Numbers, observed in one thread and read in any; NaN counts as larger than all."""

    def __init__(self, name: str, says: str, bounds: Sequence[float]) -> None:
        self._name, self._says, self._bounds = f"misgiving_{name}", says, bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        if math.isfinite(value):
            self._counts[bisect_left(self._bounds, value)] += 1
            self._sum += value
        else:
            self._counts[0 if value < 0 else -1] += 1

    def collect(self) -> Iterable[Metric]:
        bounds = map(floatToGoString, (*self._bounds, math.inf))
        buckets = list(zip(bounds, accumulate(self._counts), strict=True))
        yield HistogramMetricFamily(self._name, self._says, buckets, self._sum)


class Durations(Values):
    """Durations in seconds."""

    def __init__(self, name: str, says: str) -> None:
        super().__init__(f"{name}_seconds", says, BUCKETS_S)
