"""A span of OpenTelemetry for each answered frame, where a provider of traces is set up.

``opentelemetry-instrument misgiving serve`` sets one up, by the variables ``OTEL_*``.
"""

import time
from collections.abc import Callable, Iterable

from misgiving.runtime.nouns import Answer

try:
    from opentelemetry import propagate, trace
except ImportError:  # the extra otel is not installed
    INSTALLED = False
else:
    INSTALLED = True


Metadata = Iterable[tuple[str, str | bytes]]


def record(answer: Answer, stream_id: str, metadata: Callable[[], Metadata | None]) -> None:
    """Report a frame from its receipt until now.

    Args:
        answer: to the frame.
        stream_id: of the frame.
        metadata: asked for that of its call, which may name the span that this one belongs to.
    """
    if not INSTALLED or type(trace.get_tracer_provider()) is trace.ProxyTracerProvider:
        return
    named = {key: value for key, value in metadata() or () if isinstance(value, str)}
    now = time.time_ns()
    span = trace.get_tracer("misgiving").start_span(
        "misgiving.frame",
        propagate.extract(named),
        trace.SpanKind.SERVER,
        {
            "misgiving.frame_id": answer.frame_id,
            "misgiving.stream_id": stream_id,
            "misgiving.bundle_digest": answer.bundle_digest,
            "misgiving.queue_seconds": answer.queue_nano / 1e9,
            "misgiving.inference_seconds": answer.inference_nano / 1e9,
            "misgiving.persons": len(answer.persons),
            "misgiving.flagged": answer.flagged,
        },
        start_time=now - answer.server_age_nano,
    )
    span.end(now)
