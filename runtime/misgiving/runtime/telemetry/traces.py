"""A span of OpenTelemetry for each answered frame, where a provider of traces is set up.

``opentelemetry-instrument misgiving serve`` sets one up, by the variables ``OTEL_*``.
"""

import time
from collections.abc import Iterable

from misgiving.runtime.nouns import Answer

try:
    from opentelemetry import propagate, trace
except ImportError:  # the extra otel is not installed
    INSTALLED = False
else:
    INSTALLED = True


def record(answer: Answer, stream_id: str, metadata: Iterable[tuple[str, str | bytes]]) -> None:
    """Report a frame from its receipt until now.

    Args:
        answer: to the frame.
        stream_id: of the frame.
        metadata: of its call, which may name the span that this one belongs to.
    """
    if not INSTALLED or isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return
    now = time.time_ns()
    span = trace.get_tracer("misgiving").start_span(
        "misgiving.frame",
        propagate.extract({key: value for key, value in metadata if isinstance(value, str)}),
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
