"""Counters that cost a frame next to nothing: plain numbers until somebody asks."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


class Count:
    """Counted in one thread and read in any."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, count: int = 1) -> None:
        self.value += count


class Counts(Collector):
    """A counter by the values of a label, all of them known before; without one, a single count."""

    def __init__(
        self, name: str, says: str, label: str = "", values: Iterable[str] = ("",)
    ) -> None:
        self._name, self._says, self._label = f"misgiving_{name}", says, label
        self.of = {value: Count() for value in values}

    def collect(self) -> Iterable[Metric]:
        labels = [self._label] if self._label else []
        family = CounterMetricFamily(self._name, self._says, labels=labels)
        for value, one in self.of.items():
            family.add_metric([value] if labels else [], one.value)
        yield family
