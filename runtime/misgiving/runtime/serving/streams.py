"""One stream in motion: events are carried to its session, and what that instructs is performed.

It knows no transport: gRPC's handler and the cameras of ``watching`` drive the same.
"""

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any

import grpc

from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.net.status import status_of
from misgiving.runtime.nouns import Answer, Frame, FrameFailure, StreamSummary
from misgiving.runtime.serving.pipeline import Pipeline
from misgiving.runtime.serving.session import (
    Abort,
    ClientClosed,
    DropCounted,
    Event,
    Finish,
    FrameAnswered,
    FrameFailed,
    Instruction,
    PauseReading,
    Reply,
    ReplyError,
    ReplySent,
    ResumeReading,
    Session,
    Submit,
)
from misgiving.runtime.telemetry.metrics import Metrics
from misgiving.runtime.wire.frames import MAX_NAME

log = logging.getLogger(__name__)

_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


class Stream:
    """Frames in, outcomes out, as the mode of its ``Opened`` says.

    Args:
        pipeline: answers.
        metrics: count the frames.
        events: what comes in, a frame as ``(frame, arrived)``; their end closes the stream.
        frame_of: a frame as it comes in → as it is answered; raises where it is none.
        answered: is told of each frame with its answer and its arrival, before it is replied.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        metrics: Metrics,
        events: AsyncIterable[Event],
        frame_of: Callable[[Any], Frame],
        answered: Callable[[Frame, Answer, int], None],
    ) -> None:
        self._pipeline = pipeline
        self._metrics = metrics
        self._events = events
        self._frame_of = frame_of
        self._answered = answered
        self._session = Session()
        self._may_read = asyncio.Event()
        self._may_read.set()
        # Bounded by the session's window: a frame holds its place until its reply was sent.
        self._outbox: asyncio.Queue[Reply | ReplyError | Finish | Exception] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._left = False

    @property
    def so_far(self) -> StreamSummary:
        """What became of the frames until now."""
        return self._session.summary

    async def outcomes(self) -> AsyncIterator[Reply | ReplyError | Finish]:
        """Replies as they become ready, and the summary last.

        Raises:
            InvalidInput: the events are not in order.
            Exception: what reading the events raised.
        """
        # Never cancelled: gRPC frees no call of which a message was left unread.
        reading = asyncio.create_task(self._read())
        reading.add_done_callback(self._ended)
        try:
            while not isinstance(item := await self._outbox.get(), Finish):
                if isinstance(item, Exception):
                    raise item
                yield item
                self.handle(ReplySent())
            yield item
        finally:
            self._left = True
            self._may_read.set()
            for task in self._tasks:
                task.cancel()
            self._metrics.failed("CANCELLED", self._session.open_frames)

    def handle(self, event: Event) -> None:
        """Take an event from elsewhere, such as Draining."""
        received = self._session.received
        for instruction in self._session.handle(event):
            self._perform(instruction)
        if self._session.received > received:
            self._metrics.received.inc()

    def _perform(self, instruction: Instruction) -> None:
        match instruction:
            case Submit(ticket, (frame, arrived)):
                self._start(self._answer(ticket, frame, arrived))
            case Reply() | ReplyError() | Finish():
                self._outbox.put_nowait(instruction)
                self._count(instruction)
            case DropCounted((frame, _)):
                self._metrics.dropped.inc()
                stream, name = frame.stream_id[:MAX_NAME], frame.frame_id[:MAX_NAME]
                ids = {"stream_id": stream, "frame_id": name}
                log.debug("stream %(stream_id)r dropped frame %(frame_id)r", ids, extra=ids)
            case PauseReading():
                self._may_read.clear()
            case ResumeReading():
                self._may_read.set()
            case Abort(message):
                self._outbox.put_nowait(InvalidInput(message))

    def _count(self, outcome: Reply | ReplyError | Finish) -> None:
        match outcome:
            case Reply():
                self._metrics.answered.inc()
            case ReplyError(failure):
                self._metrics.failed(_NAMES[failure.code])

    async def _read(self) -> None:
        async for event in self._events:
            if not self._left:
                self.handle(event)
                await self._may_read.wait()
        if not self._left:
            self.handle(ClientClosed())

    async def _answer(self, ticket: int, incoming: Any, arrived: int) -> None:
        asked = current = (incoming, arrived)
        frame: Frame

        def newest() -> tuple[Frame, int]:
            nonlocal current, frame
            current, dropped = self._session.at_turn(ticket, asked)
            for instruction in dropped:
                self._perform(instruction)
            if current is not asked:
                frame = self._frame_of(current[0])
            return frame, current[1]

        try:
            frame = self._frame_of(incoming)
            answer = await self._pipeline.answer_in_turn(frame, self, newest)
        except Exception as error:
            code, why = status_of(error)
            number, _ = code.value
            name = current[0].frame_id[:MAX_NAME]
            self.handle(FrameFailed(ticket, FrameFailure(name, number, why)))
        else:
            self._metrics.observe(answer)
            self._answered(frame, answer, current[1])
            self.handle(FrameAnswered(ticket, answer))

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._outbox.put_nowait(error if isinstance(error, Exception) else Exception(error))
