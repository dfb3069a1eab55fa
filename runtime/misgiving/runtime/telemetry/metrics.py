"""The numbers of a running server, in the manner of Prometheus.

No series has a stream's name: clients choose it, and series must be bounded. Every label is of an
enum: a gRPC status, a reason to keep. Frames are counted on the event loop, beside the engine's
thread.
"""

import time
from collections.abc import Iterable
from types import TracebackType

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from misgiving.runtime.errors import MisgivingError
from misgiving.runtime.nouns import Answer, Reason, Withheld
from misgiving.runtime.telemetry.counts import Count, Counts
from misgiving.runtime.telemetry.durations import SCORES, Durations, Values

_STATUSES = (
    "INVALID_ARGUMENT",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "INTERNAL",
    "CANCELLED",
)


class Metrics:
    """What one server counts, in a registry of its own.

    When nothing is under way, received = answered + dropped + failed.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.started_s = time.monotonic()
        ProcessCollector(registry=self.registry)
        self.received = self._count("frames_received", "Frames that came in.")
        self.answered = self._count("frames_answered", "Frames that were answered.")
        self.dropped = self._count("frames_dropped", "Live frames that a newer one replaced.")
        self._failed = Counter(
            "misgiving_frames_failed",
            "Frames that were not answered, by gRPC status.",
            ["reason"],
            registry=self.registry,
        )
        for status in _STATUSES:  # a series that is not there yet has no rate
            self._failed.labels(status)
        self._persons = self._count("persons", "Persons that were answered.")
        self._flagged = self._count("persons_flagged", "Persons whose score flags them.")
        kept = self._counts(
            "frames_kept",
            "Frames to be kept, by the strongest reason of their persons.",
            "reason",
            [one.value for one in Reason],
        )
        withheld = self._counts(
            "persons_withheld",
            "Persons not to be kept, by the rule that said so.",
            "reason",
            [one.value for one in Withheld],
        )
        self._withheld = {reason: withheld.of[reason.value] for reason in Withheld}
        self._kept = {reason: kept.of[reason.value] for reason in Reason}
        self._age = self._histogram("frame_age", "From capture, by the sender's clock, to answer.")
        self._server_age = self._histogram("frame_server_age", "From receipt to answer.")
        self._queue = self._histogram("queue", "From receipt to the start of inference.")
        self._inference = self._histogram("inference", "Inference of a frame, all its looks.")
        self._scores = Values("predicted_loss", "Predicted losses of persons.", SCORES)
        self.registry.register(self._scores)
        self.serving = Gauge(
            "misgiving_serving", "1 while frames are answered.", registry=self.registry
        )
        self.exchanges = self._counts(
            "bundle_exchanges",
            "Bundles that came while it ran, by what became of them.",
            "outcome",
            ("taken", "refused", "back", "proved"),
        ).of
        self.probation = Gauge(
            "misgiving_bundle_on_probation",
            "1 while a bundle that came while it ran has not proved itself.",
            registry=self.registry,
        )
        self.last_exchange = ""
        """What became of the last one, in words."""
        self.call = Call(self)

    def failed(self, status: str, count: int = 1) -> None:
        """Count frames that got a gRPC status instead of an answer."""
        self._failed.labels(status).inc(count)

    def kept(self, reason: Reason) -> None:
        """Count a frame that is to be kept, which its answer did not say yet."""
        self._kept[reason].inc()

    def observe(self, answer: Answer) -> None:
        """Take an answer's clocks, and what was decided of its persons."""
        if answer.age_nano is not None:
            # Negative by a clock that is behind the sender's; a sum that sinks reads as a restart.
            self._age.observe(max(0.0, answer.age_nano / 1e9))
        self._server_age.observe(answer.server_age_nano / 1e9)
        self._queue.observe(answer.queue_nano / 1e9)
        self._inference.observe(answer.inference_nano / 1e9)
        self._persons.inc(len(answer.persons))
        for person in answer.persons:
            flag = person.flag
            self._flagged.inc(flag.raised)
            self._scores.observe(person.predicted_loss)
            if flag.withheld:
                self._withheld[flag.withheld].inc()
        reasons = [decision.kept for decision in answer.decisions]
        if any(reasons):
            next(count for reason, count in self._kept.items() if reason in reasons).inc()

    def _count(self, name: str, says: str) -> Count:
        (one,) = self._counts(name, says).of.values()
        return one

    def _counts(
        self, name: str, says: str, label: str = "", values: Iterable[str] = ("",)
    ) -> Counts:
        self.registry.register(counts := Counts(name, says, label, values))
        return counts

    def _histogram(self, name: str, says: str) -> Durations:
        self.registry.register(one := Durations(name, says))
        return one


class Call:
    """Counts a unary call: received, and then answered or failed."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def __enter__(self) -> None:
        self._metrics.received.inc()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._metrics.answered.inc()
        else:
            self._metrics.failed(status_name(error))


def status_name(error: BaseException) -> str:
    """The gRPC status of a frame that was not answered; CANCELLED where nobody waits for it."""
    if isinstance(error, MisgivingError):
        return error.status
    return "INTERNAL" if isinstance(error, Exception) else "CANCELLED"
