"""What a server counts of its shadow, the bundle that answers silently, and what it logs of it."""

import logging
import math
import time
from collections import Counter as Tally
from collections.abc import Iterable

from prometheus_client import Counter, Histogram, Info

from misgiving.runtime.flags.disagreement import Agreement, Comparison
from misgiving.runtime.nouns import Reason, Withheld
from misgiving.runtime.telemetry.durations import BUCKETS_S
from misgiving.runtime.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

_OUTCOMES = ("compared", "busy", "failed")
_TORSOS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_SUMMARY_S = 60.0
_WARN_S = 600.0


class ShadowCounts:
    """The numbers of one shadow, beside those of its server."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._since: Tally[str] = Tally()
        """Since the last line of the log, which came at:"""
        self._said_s = time.monotonic()
        self._warned_s = -math.inf
        self._frames = self._counter("frames", "Frames drawn for the shadow.", "outcome", _OUTCOMES)
        self._persons = self._counter(
            "persons",
            "Persons whom the shadow answered too.",
            "agreement",
            [one.value for one in Agreement],
        )
        self._withheld = self._counter(
            "frames_withheld",
            "Frames on which the two disagree, not to be kept, by the rule that said so.",
            "reason",
            [one.value for one in Withheld if one is not Withheld.BELOW_THRESHOLD],
        )
        self._distance = self._histogram(
            "distance_torsos",
            "Median of a person's joints, from answer to answer, in torso lengths.",
            _TORSOS,
        )
        self._seconds = self._histogram(
            "seconds", "What the shadow took for a frame, decoding included.", BUCKETS_S
        )

    def loaded(self, name: str, version: str, digest: str) -> None:
        """Say which bundle is the shadow; any thread may."""
        info = Info(
            "misgiving_shadow", "Which bundle answers silently.", registry=self._metrics.registry
        )
        info.info({"name": name, "version": version, "bundle_digest": digest})
        log.info("shadow: %s %s, bundle %s", name, version, digest)

    def compared(self, took_s: float, found: list[Comparison], limit: float) -> None:
        """Count a frame that both have answered, and log a summary once a minute."""
        self._count("compared")
        self._seconds.observe(took_s)
        for one in found:
            self._persons.labels(agreement := one.agreement(limit).value).inc()
            self._since[agreement] += 1
            if math.isfinite(one.distance):
                self._distance.observe(one.distance)
        if time.monotonic() - self._said_s >= _SUMMARY_S:
            self.summarise()

    def busy(self) -> None:
        """Count a frame that the shadow has no room for."""
        self._count("busy")

    def failed(self, why: object) -> None:
        """Count a frame that the shadow could not answer; of many, few are told."""
        self._count("failed")
        self.warn(why)

    def warn(self, why: object) -> None:
        """Tell what is wrong with the shadow, but not again and again."""
        if (now := time.monotonic()) - self._warned_s >= _WARN_S:
            self._warned_s = now
            log.warning("shadow: %s; answers go out as ever", why)

    def kept(self) -> None:
        """Count a frame that is kept because the two disagree."""
        self._metrics.kept(Reason.SHADOW)

    def withheld(self, rule: Withheld) -> None:
        """Count a frame on which the two disagree, and which a rule withholds."""
        self._withheld.labels(rule.value).inc()

    def summarise(self) -> None:
        """Log what came since the last summary."""
        now = self._since
        frames = ", ".join(f"{now[one]} {one}" for one in _OUTCOMES)
        persons = ", ".join(f"{now[one.value]} {one.value}" for one in Agreement if now[one.value])
        log.info("shadow: frames %s; persons %s", frames, persons or "none")
        self._since.clear()
        self._said_s = time.monotonic()

    def _count(self, outcome: str) -> None:
        self._frames.labels(outcome).inc()
        self._since[outcome] += 1

    def _counter(self, name: str, says: str, label: str, values: Iterable[str]) -> Counter:
        name = f"misgiving_shadow_{name}"
        counter = Counter(name, says, [label], registry=self._metrics.registry)
        for value in values:  # a series that is not there yet has no rate
            counter.labels(value)
        return counter

    def _histogram(self, name: str, says: str, buckets: tuple[float, ...]) -> Histogram:
        name = f"misgiving_shadow_{name}"
        return Histogram(name, says, buckets=buckets, registry=self._metrics.registry)
