"""A span for each answered frame, once somebody has set up where they go."""

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from misgiving.v1 import detector_pb2 as wire
from shared.serving import BLACK, Requests, Running, wire_frame

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = (("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01"),)


def test_spans_of_a_call_and_of_a_stream(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    spans, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    frame = wire_frame(BLACK, frame_id="7", stream_id="front")
    running.stub.Infer(wire.InferRequest(frame=frame))  # nobody listens yet
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    result = running.stub.Infer(wire.InferRequest(frame=frame), metadata=PARENT).result
    requests = Requests(wire.STREAM_MODE_IN_ORDER)
    requests.put(frame=frame)
    requests.close()
    list(running.stub.StreamInfer(iter(requests)))
    of_call, of_stream = spans.get_finished_spans()
    assert f"{of_call.context.trace_id:032x}" == TRACE
    assert of_call.end_time - of_call.start_time == result.server_age_nano
    assert of_stream.parent is None
    for span in (of_call, of_stream):
        assert span.name == "misgiving.frame"
        assert span.attributes["misgiving.frame_id"] == "7"
        assert span.attributes["misgiving.stream_id"] == "front"
        assert span.attributes["misgiving.inference_seconds"] > 0
