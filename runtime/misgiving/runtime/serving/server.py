"""gRPC ↔ sessions: the FailureDetector service, its health and its reflection. Nothing else."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import grpc
from grpc_health.v1 import health_pb2

from misgiving.runtime.engines.base import Kind
from misgiving.runtime.flags.budgets import Budget
from misgiving.runtime.net.grpc_server import add_health, bind, new_server
from misgiving.runtime.net.roles import Roles
from misgiving.runtime.net.room import Limits
from misgiving.runtime.net.status import refuse
from misgiving.runtime.nouns import ModelInfo
from misgiving.runtime.serving.open_inference import OPEN_SERVICE, add_open_inference
from misgiving.runtime.serving.pipeline import Pipeline
from misgiving.runtime.serving.session import (
    Draining,
    Event,
    Finish,
    FrameArrived,
    MessageEmpty,
    Mode,
    Opened,
    Reply,
    ReplyError,
    Session,
)
from misgiving.runtime.serving.shared_memory import SharedMemory, sweep
from misgiving.runtime.serving.streams import Stream
from misgiving.runtime.telemetry import traces
from misgiving.runtime.telemetry.gauges import of_budgets, of_drift, of_model
from misgiving.runtime.telemetry.metrics import Metrics
from misgiving.runtime.telemetry.reading import read_status
from misgiving.runtime.wire.frames import received
from misgiving.runtime.wire.results import fill_result, to_model, to_response
from misgiving.runtime.wire.sharing import to_memory
from misgiving.runtime.wire.status import to_status_message
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1 import detector_pb2_grpc

SERVICE = "misgiving.v1.FailureDetector"
LIMITS = Limits(kept=Session().in_order_window, setting="server.max_in_flight_bytes")
"""Unless settings say otherwise."""
MAX_MESSAGE_BYTES = LIMITS.message_bytes
"""Larger requests are answered with RESOURCE_EXHAUSTED."""
_MODES = {wire.STREAM_MODE_LIVE: Mode.LIVE, wire.STREAM_MODE_IN_ORDER: Mode.IN_ORDER}


class Servicer(detector_pb2_grpc.FailureDetectorServicer):
    """Answers with a pipeline; UNAVAILABLE until there is one."""

    def __init__(self, metrics: Metrics, shared: SharedMemory) -> None:
        self.metrics = metrics
        self.shared = shared
        self.pipeline: Pipeline | None = None
        self.calls = 0
        """Calls and streams whose answer is not out yet."""
        self._streams: set[Stream] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    async def Infer(self, request: wire.InferRequest, context: Any) -> wire.InferResponse:
        pipeline = await self._begun(context)
        try:
            with self.metrics.call:
                frame = received(request.frame, self.shared.read)
                answer = await pipeline.answer_now(frame, context.peer())
            self.metrics.observe(answer)
            traces.record(answer, request.frame.stream_id, context.invocation_metadata)
            fill_result((response := wire.InferResponse()).result, answer)
        except Exception as error:
            await refuse(context, error)
        return response

    async def StreamInfer(
        self, request_iterator: Any, context: Any
    ) -> AsyncIterator[wire.StreamInferResponse]:
        pipeline, metadata = await self._begun(context), context.invocation_metadata
        stream = Stream(
            pipeline,
            self.metrics,
            events_of(request_iterator),
            partial(received, read=self.shared.read),
            lambda frame, answer, _: traces.record(answer, frame.stream_id, metadata),
        )
        self._streams.add(stream)
        try:
            async for outcome in stream.outcomes():
                yield response_of(outcome)
        except Exception as error:
            await refuse(context, error)
        finally:
            self._streams.discard(stream)

    async def ShareMemory(
        self, request: wire.ShareMemoryRequest, context: Any
    ) -> AsyncIterator[wire.ShareMemoryResponse]:
        try:
            asked = self.shared.lent(request.slots, request.slot_bytes, context.peer())
            async with asked as lent:
                yield to_memory(lent)
                await self.shared.ended.wait()  # or until the client leaves, which cancels this
        except Exception as error:
            await refuse(context, error)

    async def GetModel(self, request: wire.GetModelRequest, context: Any) -> wire.GetModelResponse:
        pipeline = await self._begun(context)
        return wire.GetModelResponse(model=to_model(pipeline.info))

    async def GetStatus(
        self, request: wire.GetStatusRequest, context: Any
    ) -> wire.GetStatusResponse:
        status = read_status(self.metrics, self.info())
        return wire.GetStatusResponse(status=to_status_message(status))

    def info(self) -> ModelInfo | None:
        """What is loaded; None while nothing is."""
        return self.pipeline.info if self.pipeline else None

    def drifting(self) -> bool:
        """Whether live scores have left the bundle's reference; False while nothing is loaded."""
        return self.pipeline is not None and self.pipeline.drifting

    def budgets(self) -> dict[Budget, int]:
        """What the device may still keep; nothing is known while nothing is loaded."""
        return self.pipeline.budgets if self.pipeline else {}

    def drain(self) -> None:
        """Let every stream finish what it has accepted, and end with its summary."""
        for stream in self._streams:
            stream.handle(Draining())

    async def idle(self) -> None:
        """Wait until no call is being answered."""
        await self._idle.wait()

    async def _begun(self, context: Any) -> Pipeline:
        """Before every answer: there is a pipeline, and the call counts until it is out."""
        if self.pipeline is None:
            await context.abort(
                grpc.StatusCode.UNAVAILABLE, "engine is still loading; watch health and try again"
            )
        assert self.pipeline is not None  # abort raises
        self.calls += 1
        self._idle.clear()
        context.add_done_callback(self._call_ended)
        return self.pipeline

    def _call_ended(self, context: Any) -> None:
        """The answer and its status are out: only now may the server hang up."""
        self.calls -= 1
        if not self.calls:
            self._idle.set()


async def events_of(requests: AsyncIterable[wire.StreamInferRequest]) -> AsyncIterator[Event]:
    """What a client's messages are to a stream."""
    async for request in requests:
        yield _event(request)


def _event(request: wire.StreamInferRequest) -> Event:
    match request.WhichOneof("message"):
        case "open":
            return Opened(_MODES.get(request.open.mode))
        case "frame":
            return FrameArrived((request.frame, time.monotonic_ns()))
    return MessageEmpty()


def response_of(item: Reply | ReplyError | Finish) -> wire.StreamInferResponse:
    """What a stream's outcomes are to a client."""
    match item:
        case Reply(answer, dropped) | ReplyError(answer, dropped):
            return to_response(replace(answer, dropped_before=dropped) if dropped else answer)
        case Finish(summary):
            return to_response(summary)


class Server:
    """A gRPC server with one Servicer: bound, then started, then ready, then drained."""

    def __init__(
        self,
        metrics: Metrics | None = None,
        roles: Roles = Roles(),
        limits: Limits = LIMITS,
        shared_bytes: int = 0,
    ) -> None:
        """Prepare; nothing listens yet.

        Args:
            metrics: are counted in; None for some of its own.
            roles: what each client may ask for.
            limits: of what may be under way.
            shared_bytes: of shared memory that clients on this machine may have.
        """
        self.metrics = metrics or Metrics()
        self.servicer = Servicer(self.metrics, SharedMemory(shared_bytes))
        self.metrics.registry.register(of_model(self.servicer.info))
        self.metrics.registry.register(of_drift(self.servicer.drifting))
        self.metrics.registry.register(of_budgets(self.servicer.budgets))
        self._server = new_server(limits, roles)
        detector_pb2_grpc.add_FailureDetectorServicer_to_server(self.servicer, self._server)
        self._health = add_health(self._server, SERVICE, OPEN_SERVICE)
        add_open_inference(self._server, self.servicer, self._health)

    async def start(self, listen: str, tls: Path | None = None) -> str:
        """Bind and answer NOT_SERVING; the address with the port that was really taken.

        Args:
            listen: HOST:PORT; port 0 takes a free one.
            tls: folder of certificates, see ``net/tls.py``; None for none.

        Raises:
            InvalidInput: ``listen`` is not HOST:PORT.
            FailedPrecondition: the port is in use, or not ours to take.
        """
        address = bind(self._server, listen, tls)
        sweep()
        await self._set_health(None)
        await self._server.start()
        return address

    async def ready(self, pipeline: Pipeline) -> None:
        """Answer with this pipeline from now on; also when its engine has changed."""
        self.servicer.pipeline = pipeline
        await self._set_health(pipeline.provider.kind)

    async def fail(self) -> None:
        """Say NOT_SERVING until :meth:`ready`; whoever calls nevertheless is answered as it can."""
        await self._set_health(None)

    async def stop(self, grace_s: float) -> None:
        """Say NOT_SERVING, refuse new calls, finish what was accepted, hang up."""
        self.metrics.serving.set(0)
        await self._health.enter_graceful_shutdown()
        self.servicer.drain()
        stopping = asyncio.create_task(self._server.stop(grace_s))
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.servicer.idle(), grace_s)
        self.servicer.shared.ended.set()
        # A health watch never ends by itself; it alone is not worth the whole grace.
        await self._server.stop(min(1.0, grace_s))
        await stopping

    async def _set_health(self, kind: Kind | None) -> None:
        self.metrics.serving.set(kind is not None)
        status = health_pb2.HealthCheckResponse
        for name, answers in health_of(kind).items():
            await self._health.set(name, status.SERVING if answers else status.NOT_SERVING)


def health_of(kind: Kind | None) -> dict[str, bool]:
    """Name in the health service → whether it is SERVING, with an engine of a kind or none.

    Each kind of engine has a name of its own, so that a client can wait for the one it wants.
    """
    return {
        **dict.fromkeys(("", SERVICE), kind is not None),
        **{f"engine.{one}": one == kind for one in get_args(Kind)},
    }
