"""One stream's state machine: events in, instructions out, no socket and no clock.

- **Live**: ``live_window`` frames are being answered (one, so that an answer is never older than
  it must be), at most one waits; a newer frame replaces the waiting one, which is dropped and
  counted, and the waiting one replaces the submitted one, until the engine has room.
- **In order**: nothing is dropped; up to ``in_order_window`` frames are being answered, and
  while that many are, reading pauses, so that the client is slowed down.

Answers leave in the order of their frames. A frame holds its place in the window until its
answer has been *sent*: a client that does not read its answers slows its own stream down (or has
its live frames dropped) and grows no queue here.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from misgiving.runtime.nouns import StreamSummary


class Mode(Enum):
    LIVE = "live"
    IN_ORDER = "in_order"


# Events.


@dataclass(frozen=True, slots=True)
class Opened:
    """The client opened the stream; ``None`` where it named no mode."""

    mode: Mode | None


@dataclass(frozen=True, slots=True)
class FrameArrived:
    frame: Any


@dataclass(frozen=True, slots=True)
class MessageEmpty:
    """A message that is neither an opening nor a frame."""


@dataclass(frozen=True, slots=True)
class FrameAnswered:
    ticket: int
    answer: Any


@dataclass(frozen=True, slots=True)
class FrameFailed:
    ticket: int
    error: Any


@dataclass(frozen=True, slots=True)
class ReplySent:
    """A Reply or ReplyError has left."""


@dataclass(frozen=True, slots=True)
class ClientClosed:
    """The client will send nothing more."""


@dataclass(frozen=True, slots=True)
class Draining:
    """The server stops: answer what was accepted, accept nothing more."""


Event = (
    Opened
    | FrameArrived
    | MessageEmpty
    | FrameAnswered
    | FrameFailed
    | ReplySent
    | ClientClosed
    | Draining
)


# Instructions.


@dataclass(frozen=True, slots=True)
class Submit:
    """Answer this frame, and report under its ticket."""

    ticket: int
    frame: Any


@dataclass(frozen=True, slots=True)
class Reply:
    answer: Any
    dropped_before: int


@dataclass(frozen=True, slots=True)
class ReplyError:
    error: Any
    dropped_before: int


@dataclass(frozen=True, slots=True)
class DropCounted:
    """This frame was replaced by a newer one; the next reply says so."""

    frame: Any


@dataclass(frozen=True, slots=True)
class PauseReading:
    pass


@dataclass(frozen=True, slots=True)
class ResumeReading:
    pass


@dataclass(frozen=True, slots=True)
class Finish:
    summary: StreamSummary


@dataclass(frozen=True, slots=True)
class Abort:
    """End the stream at once with INVALID_ARGUMENT: the client does not speak the protocol."""

    message: str


Instruction = (
    Submit | Reply | ReplyError | DropCounted | PauseReading | ResumeReading | Finish | Abort
)


@dataclass(slots=True)
class Session:
    """State of one stream. Feed it every event; perform what it returns, in order."""

    live_window: int = 1
    in_order_window: int = 4
    mode: Mode | None = None
    received: int = 0
    answered: int = 0
    dropped: int = 0
    failed: int = 0
    in_flight: int = 0
    """Frames submitted whose reply has not been sent."""
    waiting: Any = None
    """The live frame that waits for a place, None where none does."""
    closing: bool = False
    finished: bool = False
    paused: bool = False
    _next_ticket: int = 0
    _next_reply: int = 0
    _done: dict[int, FrameAnswered | FrameFailed] = field(default_factory=dict)
    """Outcomes that wait for an earlier frame's."""
    _unreported: int = 0
    """Frames dropped since the last reply."""

    def handle(self, event: Event) -> list[Instruction]:
        """Take one event; what is to be done now. Nothing, once the stream has finished."""
        if self.finished:
            return []
        match event:
            case FrameArrived(frame):
                return self._arrive(frame)
            case FrameAnswered() | FrameFailed():
                self._done[event.ticket] = event
                return self._replies()
            case ReplySent():
                return self._free_place()
            case Opened(mode):
                return self._open(mode)
            case MessageEmpty():
                return self._abort("message is empty; expected 'open' first and then 'frame'")
            case ClientClosed():
                self.closing = True
                return self._finish_if_done()
            case Draining():
                return self._drain()

    def at_turn(self, ticket: int, frame: Any) -> tuple[Any, list[Instruction]]:
        """The engine has room for a submitted frame: the one to answer under its ticket.

        A live frame gives way to the newer one that waits.
        """
        newest = ticket == self._next_ticket - 1
        if self.mode is not Mode.LIVE or self.waiting is None or not newest:
            return frame, []
        newer, self.waiting = self.waiting, None
        return newer, [self._drop(frame)]

    @property
    def open_frames(self) -> int:
        """Frames that came in and whose outcome is not out."""
        return self.received - self.answered - self.dropped - self.failed

    @property
    def summary(self) -> StreamSummary:
        """What became of the frames until now."""
        return StreamSummary(self.received, self.answered, self.dropped, self.failed)

    @property
    def _window(self) -> int:
        return self.live_window if self.mode is Mode.LIVE else self.in_order_window

    def _open(self, mode: Mode | None) -> list[Instruction]:
        if self.mode is not None:
            return self._abort("stream is open already; expected 'open' once. Send frames only")
        if mode is None:
            return self._abort(
                "mode is STREAM_MODE_UNSPECIFIED; "
                "expected STREAM_MODE_LIVE or STREAM_MODE_IN_ORDER. Set it in 'open'"
            )
        self.mode = mode
        return []

    def _arrive(self, frame: Any) -> list[Instruction]:
        if self.mode is None:
            return self._abort(
                "first message is a frame; expected 'open' with a mode. Send it first"
            )
        if self.closing:  # it was on its way when the server began to drain: not accepted
            return []
        self.received += 1
        if self.in_flight < self._window:
            return [self._submit(frame), *self._pause_if_full()]
        replaced, self.waiting = self.waiting, frame
        return [] if replaced is None else [self._drop(replaced)]

    def _submit(self, frame: Any) -> Submit:
        ticket = self._next_ticket
        self._next_ticket += 1
        self.in_flight += 1
        return Submit(ticket, frame)

    def _drop(self, frame: Any) -> DropCounted:
        self.dropped += 1
        self._unreported += 1
        return DropCounted(frame)

    def _pause_if_full(self) -> list[Instruction]:
        if self.mode is Mode.LIVE or self.paused or self.in_flight < self._window:
            return []
        self.paused = True
        return [PauseReading()]

    def _replies(self) -> list[Instruction]:
        """Replies for every outcome whose turn it is."""
        replies: list[Instruction] = []
        while (outcome := self._done.pop(self._next_reply, None)) is not None:
            self._next_reply += 1
            dropped, self._unreported = self._unreported, 0
            if isinstance(outcome, FrameAnswered):
                self.answered += 1
                replies.append(Reply(outcome.answer, dropped))
            else:
                self.failed += 1
                replies.append(ReplyError(outcome.error, dropped))
        return replies

    def _free_place(self) -> list[Instruction]:
        self.in_flight -= 1
        if self.waiting is not None:
            frame, self.waiting = self.waiting, None
            return [self._submit(frame)]
        if self.paused and not self.closing:
            self.paused = False
            return [ResumeReading()]
        return self._finish_if_done()

    def _drain(self) -> list[Instruction]:
        stop: list[Instruction] = [] if self.closing or self.paused else [PauseReading()]
        self.closing = self.paused = True
        return stop + self._finish_if_done()

    def _finish_if_done(self) -> list[Instruction]:
        if not self.closing or self.in_flight or self.waiting is not None:
            return []
        self.finished = True
        return [Finish(self.summary)]

    def _abort(self, message: str) -> list[Instruction]:
        self.finished = True
        return [Abort(message)]
