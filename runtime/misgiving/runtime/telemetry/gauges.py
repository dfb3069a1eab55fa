"""What is asked when somebody looks, and costs nothing until then."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from misgiving.runtime.flags.budgets import Budget
from misgiving.runtime.nouns import ModelInfo
from misgiving.runtime.outbox.counts import SpoolCounts
from misgiving.runtime.privacy.policy import Barred

THERMAL = Path("/sys/class/thermal")
"""Where Linux tells temperatures, on boards too."""


class Asked(Collector):
    """Metrics that a function gives anew at each look."""

    def __init__(self, ask: Callable[[], Iterable[Metric]]) -> None:
        self._ask = ask

    def collect(self) -> Iterable[Metric]:
        return self._ask()


def of_spool(counts: Callable[[], SpoolCounts]) -> Asked:
    """The spool and what is uploaded of it."""

    def ask() -> Iterator[Metric]:
        now = counts()
        gauges = {
            "pending_frames": (now.pending, "Frames that wait for their upload."),
            "refused_frames": (now.refused, "Frames that the collector does not want."),
            "bytes": (now.bytes, "Size of all of them."),
            "oldest_age_seconds": (now.oldest_age_s, "Since the oldest pending one was stored."),
            "queued_frames": (now.queued, "Frames in memory, not yet on disk."),
            "queued_age_seconds": (now.queued_age_s, "Since the oldest of these was queued."),
        }
        for name, (value, says) in gauges.items():
            yield GaugeMetricFamily(f"misgiving_spool_{name}", says, value)
        counters = {
            "spool_stored_frames": (now.stored, "Frames made durable."),
            "spool_lost_frames": (now.lost, "Frames to be kept that were never stored."),
            "spool_declined_frames": (now.declined, "Frames that the collector has declined."),
            "upload_frames": (now.uploaded, "Frames that the collector has acknowledged."),
            "upload_bytes": (now.uploaded_bytes, "Size of these."),
        }
        for name, (value, says) in counters.items():
            yield CounterMetricFamily(f"misgiving_{name}", says, value)
        says = "Frames deleted to keep the quota, or because they were too old."
        evicted = CounterMetricFamily("misgiving_spool_evicted_frames", says, labels=["reason"])
        evicted.add_metric(["quota"], now.evicted - now.expired)
        evicted.add_metric(["age"], now.expired)
        yield evicted

    return Asked(ask)


def of_barred(counts: Callable[[], Mapping[Barred, int]]) -> Asked:
    """Frames that a policy of privacy has not let be kept."""

    def ask() -> Iterator[Metric]:
        says = "Frames that were to be kept and are not, by the rule of privacy."
        family = CounterMetricFamily("misgiving_frames_barred", says, labels=["reason"])
        for why, count in counts().items():
            family.add_metric([why.value], count)
        yield family

    return Asked(ask)


def of_cameras(frozen: Callable[[], Mapping[str, bool]]) -> Asked:
    """Which cameras of ``watch`` give no frames."""

    def ask() -> Iterator[Metric]:
        says = "1 where a camera of watch has given no frame for longer than its frozen_after."
        gauge = GaugeMetricFamily("misgiving_camera_frozen", says, labels=["camera"])
        for name, value in frozen().items():
            gauge.add_metric([name], float(value))
        yield gauge

    return Asked(ask)


def of_model(info: Callable[[], ModelInfo | None]) -> Asked:
    """Which model answers, on which engine, and how it flags; nothing while it loads."""

    def ask() -> Iterator[Metric]:
        if (model := info()) is None:
            return
        labels = {
            "name": model.name,
            "version": model.version,
            "bundle_digest": model.bundle_digest,
            "engine": model.engine,
        }
        yield InfoMetricFamily("misgiving_model", "What is loaded, and what runs it.", labels)
        yield GaugeMetricFamily(
            "misgiving_threshold", "The predicted_loss that flags a person.", model.threshold
        )

    return Asked(ask)


def of_drift(drifting: Callable[[], bool]) -> Asked:
    """Whether live scores have left the bundle's reference."""

    def ask() -> Iterator[Metric]:
        says = "1 while predicted losses are not distributed as the bundle's reference has them."
        yield GaugeMetricFamily("misgiving_drift_alarm", says, drifting())

    return Asked(ask)


def of_budgets(left: Callable[[], Mapping[Budget, int]]) -> Asked:
    """What the device may still keep."""

    def ask() -> Iterator[Metric]:
        says = "Kept frames, or their bytes, that a budget still allows."
        gauge = GaugeMetricFamily("misgiving_budget_left", says, labels=["unit", "period"])
        for budget, amount in left().items():
            gauge.add_metric([budget.unit, budget.period], amount)
        yield gauge

    return Asked(ask)


def of_machine(thermal: Path = THERMAL) -> Asked:
    """The release that runs, and the temperatures that the board tells."""

    def ask() -> Iterator[Metric]:
        yield InfoMetricFamily("misgiving_build", "The release that runs.", {"version": release()})
        family = GaugeMetricFamily(
            "misgiving_temperature_celsius", "As the board tells it.", labels=["zone", "type"]
        )
        for zone, kind, celsius in temperatures(thermal):
            family.add_metric([zone, kind], celsius)
        yield family

    return Asked(ask)


@cache
def release() -> str:
    """Which misgiving runs."""
    try:
        return metadata.version("misgiving")
    except metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"


def temperatures(folder: Path) -> Iterator[tuple[str, str, float]]:
    """Zone, its type and °C; a zone that cannot be read, because its part sleeps, is left out."""
    for zone in sorted(folder.glob("thermal_zone*")):
        try:
            kind = (zone / "type").read_text("utf-8").strip()
            yield zone.name, kind, int((zone / "temp").read_text("utf-8")) / 1000
        except (OSError, ValueError):
            continue
