"""gRPC ↔ sessions: the FailureDetector service, its health and its reflection. Nothing else."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, get_args

import grpc
from grpc_health.v1 import health_pb2

from misgiving.runtime.engines.base import Kind
from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.net.grpc_server import add_health, bind, new_server
from misgiving.runtime.net.status import status_of
from misgiving.runtime.nouns import FrameFailure
from misgiving.runtime.serving.pipeline import Pipeline
from misgiving.runtime.serving.session import (
    Abort,
    ClientClosed,
    Draining,
    DropCounted,
    Event,
    Finish,
    FrameAnswered,
    FrameArrived,
    FrameFailed,
    Instruction,
    MessageEmpty,
    Mode,
    Opened,
    PauseReading,
    Reply,
    ReplyError,
    ReplySent,
    ResumeReading,
    Session,
    Submit,
)
from misgiving.runtime.wire.frames import to_frame
from misgiving.runtime.wire.results import fill_result, to_model, to_response
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1 import detector_pb2_grpc

log = logging.getLogger(__name__)

SERVICE = "misgiving.v1.FailureDetector"
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Larger requests are answered with RESOURCE_EXHAUSTED; raw RGB of 5000 × 4000 px fits."""
MAX_CALLS = 256
"""Calls and streams at once; gRPC answers more with RESOURCE_EXHAUSTED."""

_MODES = {wire.STREAM_MODE_LIVE: Mode.LIVE, wire.STREAM_MODE_IN_ORDER: Mode.IN_ORDER}


class Servicer(detector_pb2_grpc.FailureDetectorServicer):
    """Answers with a pipeline; UNAVAILABLE until there is one."""

    def __init__(self) -> None:
        self.pipeline: Pipeline | None = None
        self.calls = 0
        """Calls and streams whose answer is not out yet."""
        self._streams: set[_Stream] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    async def Infer(self, request: wire.InferRequest, context: Any) -> wire.InferResponse:
        pipeline = await self._begun(context)
        try:
            answer = await pipeline.answer_now(to_frame(request.frame))
            fill_result((response := wire.InferResponse()).result, answer)
        except Exception as error:
            await context.abort(*status_of(error))
        return response

    async def StreamInfer(
        self, request_iterator: Any, context: Any
    ) -> AsyncIterator[wire.StreamInferResponse]:
        stream = _Stream(await self._begun(context), request_iterator)
        self._streams.add(stream)
        try:
            async for response in stream.responses():
                yield response
        except Exception as error:
            await context.abort(*status_of(error))
        finally:
            self._streams.discard(stream)

    async def GetModel(self, request: wire.GetModelRequest, context: Any) -> wire.GetModelResponse:
        pipeline = await self._begun(context)
        return wire.GetModelResponse(model=to_model(pipeline.info))

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


class _Stream:
    """Carries events to one session and performs what it instructs."""

    def __init__(
        self, pipeline: Pipeline, requests: AsyncIterator[wire.StreamInferRequest]
    ) -> None:
        self._pipeline = pipeline
        self._requests = requests
        self._session = Session()
        self._may_read = asyncio.Event()
        self._may_read.set()
        # Bounded by the session's window: a frame holds its place until its reply was sent.
        self._outbox: asyncio.Queue[Reply | ReplyError | Finish | Exception] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    async def responses(self) -> AsyncIterator[wire.StreamInferResponse]:
        """Replies as they become ready, and the summary last."""
        self._start(self._read())
        try:
            while not isinstance(item := await self._outbox.get(), Finish):
                yield _response(item)
                self.handle(ReplySent())
            yield _response(item)
        finally:
            for task in self._tasks:
                task.cancel()

    def handle(self, event: Event) -> None:
        for instruction in self._session.handle(event):
            self._perform(instruction)

    def _perform(self, instruction: Instruction) -> None:
        match instruction:
            case Submit(ticket, (frame, arrived)):
                self._start(self._answer(ticket, frame, arrived))
            case Reply() | ReplyError() | Finish():
                self._outbox.put_nowait(instruction)
            case DropCounted((frame, _)):
                log.debug("stream %r dropped frame %r", frame.stream_id, frame.frame_id)
            case PauseReading():
                self._may_read.clear()
            case ResumeReading():
                self._may_read.set()
            case Abort(message):
                self._outbox.put_nowait(InvalidInput(message))

    async def _read(self) -> None:
        async for request in self._requests:
            self.handle(_event(request))
            await self._may_read.wait()
        self.handle(ClientClosed())

    async def _answer(self, ticket: int, message: Any, arrived: int) -> None:
        try:
            answer = await self._pipeline.answer_in_turn(to_frame(message), arrived)
        except Exception as error:
            code, why = status_of(error)
            number, _ = code.value
            self.handle(FrameFailed(ticket, FrameFailure(message.frame_id, number, why)))
        else:
            self.handle(FrameAnswered(ticket, answer))

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._outbox.put_nowait(error if isinstance(error, Exception) else Exception(error))


def _event(request: wire.StreamInferRequest) -> Event:
    match request.WhichOneof("message"):
        case "open":
            return Opened(_MODES.get(request.open.mode))
        case "frame":
            return FrameArrived((request.frame, time.monotonic_ns()))
    return MessageEmpty()


def _response(item: Reply | ReplyError | Finish | Exception) -> wire.StreamInferResponse:
    match item:
        case Reply(answer, dropped) | ReplyError(answer, dropped):
            return to_response(replace(answer, dropped_before=dropped))
        case Finish(summary):
            return to_response(summary)
    raise item


class Server:
    """A gRPC server with one Servicer: bound, then started, then ready, then drained."""

    def __init__(self) -> None:
        self.servicer = Servicer()
        self._server = new_server(
            [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)], MAX_CALLS
        )
        detector_pb2_grpc.add_FailureDetectorServicer_to_server(self.servicer, self._server)
        self._health = add_health(self._server, SERVICE)

    async def start(self, listen: str) -> str:
        """Bind and answer NOT_SERVING; the address with the port that was really taken.

        Raises:
            InvalidInput: ``listen`` is not HOST:PORT.
            FailedPrecondition: the port is in use, or not ours to take.
        """
        address = bind(self._server, listen)
        await self._set_health(None)
        await self._server.start()
        return address

    async def ready(self, pipeline: Pipeline) -> None:
        """Answer with this pipeline from now on; also when its engine has changed."""
        self.servicer.pipeline = pipeline
        await self._set_health(pipeline.provider.kind)

    async def stop(self, grace_s: float) -> None:
        """Say NOT_SERVING, refuse new calls, finish what was accepted, hang up."""
        await self._health.enter_graceful_shutdown()
        self.servicer.drain()
        stopping = asyncio.create_task(self._server.stop(grace_s))
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.servicer.idle(), grace_s)
        # A health watch never ends by itself; it alone is not worth the whole grace.
        await self._server.stop(min(1.0, grace_s))
        await stopping

    async def _set_health(self, kind: Kind | None) -> None:
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
