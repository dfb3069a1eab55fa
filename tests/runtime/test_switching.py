"""While frames come, a server goes over to another engine: none is lost, none answered wrongly."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray

from misgiving.runtime.answer.answerer import Model
from misgiving.runtime.engines.base import Engine, Prediction, Provider
from misgiving.runtime.engines.probation import Probation
from misgiving.runtime.errors import EngineError
from misgiving.runtime.settings.model import Settings
from misgiving.runtime.telemetry.metrics import Metrics
from misgiving.runtime.verbs.exchanging import Exchanger
from misgiving.runtime.verbs.serve import upgraded
from misgiving.v1 import detector_pb2 as wire
from shared import tiny
from shared.serving import (
    Gated,
    Requests,
    Running,
    asked_meanwhile,
    infer,
    named,
    serving,
    wire_frame,
)


class Counted:
    """The tiny engine under a name of its own."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.rows = 0
        self._engine = tiny.engine()
        self.max_batch = self._engine.max_batch

    def infer(self, images: NDArray[np.uint8]) -> Prediction:
        self.rows += len(images)
        return self._engine.infer(images)


class Building:
    """An engine that is there when a test says so."""

    def __init__(self, server: Running, engine: Engine | None = None) -> None:
        self._outcome: Future[Engine] = Future()
        self._engine = engine
        pipeline = server.server.servicer.pipeline
        assert pipeline is not None
        exchanger = Exchanger(pipeline, Settings(), Probation(), server.server, Metrics())
        self._upgrade = server.begin(upgraded(exchanger, self._later))

    async def _later(self) -> Engine:
        return await asyncio.wrap_future(self._outcome)

    def done(self, error: Exception | None = None) -> None:
        """The build has ended; returns when the server has taken it."""
        if error:
            self._outcome.set_exception(error)
        else:
            self._outcome.set_result(self._engine)
        self._upgrade.result(60)


def engines_serving(server: Running) -> list[str]:
    """The names of engines that the health service calls SERVING."""
    stub = health_pb2_grpc.HealthStub(server.channel)
    names = ("", "engine.onnxruntime", "engine.tensorrt")
    status = {n: stub.Check(health_pb2.HealthCheckRequest(service=n)).status for n in names}
    return [name for name in names if status[name] == health_pb2.HealthCheckResponse.SERVING]


def engine_of(server: Running) -> str:
    return server.stub.GetModel(wire.GetModelRequest()).model.engine


def columns_of(number: int) -> list[int]:
    """Where the bright spots of a frame are; no two frames in a row have the same."""
    return [(5 * number + 3 * joint) % (tiny.WIDTH - 2) + 1 for joint in range(tiny.JOINTS)]


def assert_right(result: wire.FrameResult, number: int) -> None:
    assert result.frame_id == str(number)
    (person,) = result.persons
    points = np.array([(k.x_px, k.y_px) for k in person.keypoints])
    np.testing.assert_allclose(points, tiny.spot_points(columns_of(number)), atol=0.51)


@pytest.fixture
def first() -> Counted:
    return Counted(Provider("onnxruntime", "onnxruntime", "CPUExecutionProvider", "fp32"))


@pytest.fixture
def second() -> Counted:
    return Counted(Provider("tensorrt", "tensorrt 10.3.0", "Orin (SM87)", "fp16"))


@pytest.fixture
def server(first: Counted) -> Iterator[Running]:
    with serving(first) as running:
        yield running


def test_health_and_model_name_the_engine(
    server: Running, second: Counted, capsys: pytest.CaptureFixture[str]
) -> None:
    building = Building(server, second)
    assert engines_serving(server) == ["", "engine.onnxruntime"]
    assert engine_of(server) == "onnxruntime CPUExecutionProvider fp32"
    building.done()
    assert engines_serving(server) == ["", "engine.tensorrt"]
    assert engine_of(server) == "tensorrt 10.3.0 Orin (SM87) fp16"
    assert capsys.readouterr().err.splitlines() == [
        "building TensorRT's engine; onnxruntime CPUExecutionProvider fp32 answers meanwhile",
        "tensorrt 10.3.0 Orin (SM87) fp16 answers now",
    ]


def test_no_call_is_lost_or_wrong(server: Running, first: Counted, second: Counted) -> None:
    """Four clients ask all the while; before and after the switch ten frames are answered."""
    building = Building(server, second)

    def ask(number: int) -> None:
        frame = wire_frame(tiny.spots(columns_of(number)), frame_id=str(number))
        assert_right(infer(server, frame), number)

    total = sum(map(len, asked_meanwhile(ask, building.done)))
    assert first.rows + second.rows == total
    assert first.rows >= 10
    assert second.rows >= 6  # four may still have been with the first


def test_no_frame_of_a_stream_is_lost_or_out_of_order(
    server: Running, first: Counted, second: Counted
) -> None:
    building = Building(server, second)
    requests = Requests(wire.STREAM_MODE_IN_ORDER)
    answers = server.stub.StreamInfer(iter(requests), timeout=60)
    for number in range(20):
        if number == 10:
            building.done()
        frame = wire_frame(tiny.spots(columns_of(number)), frame_id=str(number))
        requests.put(frame=frame)
        assert_right(next(answers).result, number)
    requests.close()
    assert (first.rows, second.rows) == (10, 10)


def test_a_batch_under_way_ends_where_it_began(second: Counted) -> None:
    gated = Gated()
    with serving(gated) as server, ThreadPoolExecutor(2) as clients:
        building = Building(server, second)
        old = clients.submit(infer, server, named("old"))
        assert gated.entered.acquire(timeout=60)
        building.done()
        new = clients.submit(infer, server, named("new"))
        gated.permits.release()
        assert (old.result(60).frame_id, new.result(60).frame_id) == ("old", "new")
    assert gated.sizes == [1]
    assert second.rows == 1


def test_an_engine_of_a_bundle_that_has_been_exchanged_is_left(
    server: Running, first: Counted, second: Counted
) -> None:
    building, other = Building(server, second), exchanged(server, first)
    building.done()
    infer(server, named("0"))
    assert server.pipeline.model is other
    assert (first.rows, second.rows) == (0, 0)


def exchanged(server: Running, first: Counted) -> Model:
    """What answers instead of the first engine's bundle from now on."""
    other = tiny.model(Counted(first.provider))

    async def exchange() -> None:
        server.pipeline.exchange(other, tiny.policy())

    server.call(exchange())
    return other


def test_a_build_that_fails_after_an_exchange_leaves_the_new_bundle(
    server: Running, first: Counted, caplog: pytest.LogCaptureFixture
) -> None:
    building, other = Building(server), exchanged(server, first)
    building.done(EngineError("misgiving build ended with -9: it said nothing"))
    infer(server, named("0"))
    assert server.pipeline.model is other
    assert engines_serving(server) == ["", "engine.onnxruntime"]
    assert f"it said nothing; {first.provider} goes on" in caplog.text


@pytest.mark.parametrize(
    ("error", "traced"),
    [
        (EngineError("misgiving build ended with -9: it said nothing"), False),  # killed
        (OSError("cannot start a process"), True),  # not foreseen
    ],
)
def test_a_failed_build_leaves_the_first_engine(
    error: Exception,
    traced: bool,
    server: Running,
    first: Counted,
    caplog: pytest.LogCaptureFixture,
) -> None:
    Building(server).done(error)
    assert engines_serving(server) == ["", "engine.onnxruntime"]
    assert engine_of(server) == str(first.provider)
    infer(server, named("0"))
    assert first.rows == 1
    assert f"{error}; onnxruntime CPUExecutionProvider fp32 goes on" in caplog.text
    assert ("Traceback" in caplog.text) == traced
