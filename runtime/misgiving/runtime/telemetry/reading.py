"""A server's status, from the same registry that Prometheus reads."""

import time
from collections.abc import Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample

from misgiving.runtime.flags.disagreement import Agreement
from misgiving.runtime.nouns import ModelInfo
from misgiving.runtime.status import Quantiles, ServerStatus, ShadowStatus, SpoolStatus
from misgiving.runtime.telemetry.gauges import release
from misgiving.runtime.telemetry.metrics import Metrics
from misgiving.runtime.wire.reports import BudgetLeft, CampaignState, Histogram, Report, Running


def read_status(metrics: Metrics, model: ModelInfo | None) -> ServerStatus:
    """What the metrics say now; ``model`` is None while none is loaded."""
    now = Reading(metrics.registry)
    return ServerStatus(
        serving=bool(now.sum("serving")),
        uptime_s=time.monotonic() - metrics.started_s,
        model=model,
        received=now.count("frames_received"),
        answered=now.count("frames_answered"),
        dropped=now.count("frames_dropped"),
        failed=now.count("frames_failed"),
        persons=now.count("persons"),
        flagged=now.count("persons_flagged"),
        kept=now.count("frames_kept"),
        age=now.quantiles("frame_age"),
        server_age=now.quantiles("frame_server_age"),
        queue=now.quantiles("queue"),
        inference=now.quantiles("inference"),
        shadow=_shadow(now) if now.has("shadow_frames_total") else None,
        spool=_spool(now) if now.has("spool_pending_frames") else None,
        last_exchange=metrics.last_exchange,
        drifting=bool(now.sum("drift_alarm")),
    )


def read_report(
    metrics: Metrics, device_id: str, run_id: str, sequence: int, campaign: CampaignState | None
) -> Report:
    """What the metrics say now, as the fleet side gets it.

    Args:
        metrics: of the process.
        device_id: its name.
        run_id: of the process.
        sequence: how many reports it has made, with this one.
        campaign: that it was given.
    """
    now = Reading(metrics.registry)
    left = now.samples("budget_left")
    return Report(
        device_id=device_id,
        run_id=run_id,
        sequence=sequence,
        taken_time_unix_nano=time.time_ns(),
        uptime_s=time.monotonic() - metrics.started_s,
        software_version=release(),
        running=_running(now),
        drifting=bool(now.sum("drift_alarm")),
        last_exchange=metrics.last_exchange,
        received=now.count("frames_received"),
        answered=now.count("frames_answered"),
        dropped=now.count("frames_dropped"),
        failed=now.by("frames_failed_total", "reason"),
        persons=now.count("persons"),
        flagged=now.count("persons_flagged"),
        kept=now.by("frames_kept_total", "reason"),
        withheld=now.by("persons_withheld_total", "reason"),
        answered_in=now.histogram("frame_server_age_seconds"),
        predicted_loss=now.histogram("predicted_loss"),
        spool=_spool(now) if now.has("spool_pending_frames") else None,
        budgets=tuple(
            BudgetLeft(one.labels["unit"], one.labels["period"], int(one.value)) for one in left
        ),
        campaign=campaign,
    )


def _running(now: "Reading") -> Running | None:
    for sample in now.samples("model_info"):
        return Running(**sample.labels, threshold=now.sum("threshold"))
    return None


def _spool(now: "Reading") -> SpoolStatus:
    return SpoolStatus(
        pending=int(now.sum("spool_pending_frames")),
        refused=int(now.sum("spool_refused_frames")),
        size_bytes=int(now.sum("spool_bytes")),
        oldest_age_s=now.sum("spool_oldest_age_seconds"),
        lost=now.count("spool_lost_frames"),
        evicted=now.count("spool_evicted_frames"),
        uploaded=now.count("upload_frames"),
        uploaded_bytes=now.count("upload_bytes"),
    )


def _shadow(now: "Reading") -> ShadowStatus:
    frames = now.by("shadow_frames_total", "outcome")
    persons = now.by("shadow_persons_total", "agreement")
    return ShadowStatus(
        **frames,
        persons=sum(persons.values()),
        disagreed=sum(persons[one.value] for one in Agreement if one.disagrees),
    )


class Reading:
    """Everything that a registry holds, at one moment."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._samples: dict[str, list[Sample]] = {}
        for family in registry.collect():
            for sample in family.samples:
                self._samples.setdefault(sample.name, []).append(sample)

    def has(self, name: str) -> bool:
        return f"misgiving_{name}" in self._samples

    def samples(self, name: str) -> Sequence[Sample]:
        """Of a metric."""
        return self._samples.get(f"misgiving_{name}", ())

    def sum(self, name: str) -> float:
        """Of a metric, over its labels."""
        return sum(sample.value for sample in self.samples(name))

    def count(self, name: str) -> int:
        """Of a counter."""
        return int(self.sum(f"{name}_total"))

    def by(self, name: str, label: str) -> dict[str, int]:
        """Of a metric, by a label's value."""
        return {sample.labels[label]: int(sample.value) for sample in self.samples(name)}

    def histogram(self, name: str) -> Histogram:
        """Of a histogram, what is in each bucket."""
        samples = self.samples(f"{name}_bucket")
        upto = [int(sample.value) for sample in samples]
        return Histogram(
            tuple(float(sample.labels["le"]) for sample in samples[:-1]),
            tuple(now - before for before, now in zip([0, *upto], upto, strict=False)),
        )

    def quantiles(self, name: str) -> Quantiles:
        """Of a histogram in seconds."""
        one = self.histogram(f"{name}_seconds")
        return Quantiles(sum(one.counts), one.quantile(0.5), one.quantile(0.99))
