"""A server's life: not serving yet, serving, drained; and the addresses it cannot have."""

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from misgiving.runtime.errors import FailedPrecondition, InvalidInput
from misgiving.runtime.serving.open_inference import OPEN_SERVICE
from misgiving.runtime.serving.server import SERVICE, Server
from misgiving.v1 import detector_pb2 as wire
from shared import tiny
from shared.serving import Gated, Requests, Running, infer, named, serving, wire_frame

GOOD = wire_frame(tiny.spots([7] * 14), frame_id="good")
LIVE, IN_ORDER = wire.STREAM_MODE_LIVE, wire.STREAM_MODE_IN_ORDER


def check_health(server: Running, service: str) -> int:
    stub = health_pb2_grpc.HealthStub(server.channel)
    return stub.Check(health_pb2.HealthCheckRequest(service=service)).status


def test_not_serving_until_the_engine_is_there() -> None:
    with serving(ready=False) as server:
        for service in ("", SERVICE):
            assert check_health(server, service) == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError) as caught:
            infer(server, GOOD)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "still loading" in caught.value.details()
        with pytest.raises(grpc.RpcError) as caught:
            list(server.stub.StreamInfer(iter([])))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_serving_and_reflection(running: Running) -> None:
    for service in ("", SERVICE):
        assert check_health(running, service) == health_pb2.HealthCheckResponse.SERVING
    stub = reflection_pb2_grpc.ServerReflectionStub(running.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (reply,) = stub.ServerReflectionInfo(iter([request]))
    names = {service.name for service in reply.list_services_response.service}
    assert {SERVICE, OPEN_SERVICE, "grpc.health.v1.Health"} <= names


def test_stopping_answers_the_pending_frame_of_an_open_stream() -> None:
    gate, requests = Gated(), Requests(IN_ORDER)
    with serving(gate) as server:
        replies = server.stub.StreamInfer(iter(requests))
        requests.put(frame=named("0"))
        gate.entered.acquire()
        stopping = server.begin(server.server.stop(3600))
        gate.permits.release(1)
        first, last = replies  # though the client has not closed its side
        stopping.result()
        requests.close()
    assert first.result.frame_id == "0"
    assert last.summary == wire.StreamSummary(received=1, answered=1)


def test_stopping_answers_a_pending_call_and_does_not_wait_for_watchers() -> None:
    gate = Gated()
    with serving(gate) as server:
        watch = health_pb2_grpc.HealthStub(server.channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        call = server.stub.Infer.future(wire.InferRequest(frame=GOOD))
        gate.entered.acquire()
        stopping = server.begin(server.server.stop(3600))
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        gate.permits.release(1)
        assert call.result().result.frame_id == "good"
        stopping.result()


def test_a_port_in_use(running: Running) -> None:
    async def second() -> None:
        await Server().start(running.address)

    with pytest.raises(FailedPrecondition, match="cannot be bound; .* --listen"):
        running.call(second())


@pytest.mark.parametrize("listen", ["", "50051", "localhost", ":50051", "a:b", "a:70000", "a:-1"])
def test_an_address_that_is_none(running: Running, listen: str) -> None:
    async def start() -> None:
        await Server().start(listen)

    with pytest.raises(InvalidInput, match="expected HOST:PORT"):
        running.call(start())
