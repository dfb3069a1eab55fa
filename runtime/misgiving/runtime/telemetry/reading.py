"""A server's status, from the same registry that Prometheus reads."""

import math
import time
from collections.abc import Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample

from misgiving.runtime.flags.disagreement import Agreement
from misgiving.runtime.nouns import ModelInfo
from misgiving.runtime.status import Quantiles, ServerStatus, ShadowStatus, SpoolStatus
from misgiving.runtime.telemetry.metrics import Metrics


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

    def sum(self, name: str) -> float:
        """Of a metric, over its labels."""
        return sum(sample.value for sample in self._samples.get(f"misgiving_{name}", ()))

    def count(self, name: str) -> int:
        """Of a counter."""
        return int(self.sum(f"{name}_total"))

    def by(self, name: str, label: str) -> dict[str, int]:
        """Of a metric, by a label's value."""
        samples = self._samples.get(f"misgiving_{name}", ())
        return {sample.labels[label]: int(sample.value) for sample in samples}

    def quantiles(self, name: str) -> Quantiles:
        """Of a histogram in seconds."""
        samples = self._samples[f"misgiving_{name}_seconds_bucket"]
        buckets = [(float(sample.labels["le"]), sample.value) for sample in samples]
        total = int(buckets[-1][1])
        return Quantiles(total, quantile(buckets, 0.5), quantile(buckets, 0.99))


def quantile(buckets: Sequence[tuple[float, float]], share: float) -> float:
    """A quantile of a histogram, as PromQL's histogram_quantile has it.

    Args:
        buckets: upper bound and cumulative count, ascending; the last bound is infinite.
        share: in [0, 1].

    Returns:
        Between the bounds of its bucket, in proportion; 0 of an empty histogram. Beyond the last
        finite bound it is that bound.
    """
    rank = share * buckets[-1][1]
    below, before = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank and count > before:
            if math.isinf(bound):
                return below
            return below + (bound - below) * (rank - before) / (count - before)
        below, before = bound, count
    return 0.0
