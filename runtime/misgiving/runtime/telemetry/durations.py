"""A histogram that costs a frame next to nothing: plain numbers until somebody asks."""

import math
from bisect import bisect_left
from collections.abc import Iterable
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


class Durations(Collector):
    """Durations in seconds, observed in one thread and read in any."""

    def __init__(self, name: str, says: str) -> None:
        self._name, self._says = f"misgiving_{name}_seconds", says
        self._counts = [0] * (len(BUCKETS_S) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(BUCKETS_S, seconds)] += 1
        self._sum += seconds

    def collect(self) -> Iterable[Metric]:
        bounds = map(floatToGoString, (*BUCKETS_S, math.inf))
        buckets = list(zip(bounds, accumulate(self._counts), strict=True))
        yield HistogramMetricFamily(self._name, self._says, buckets, self._sum)
