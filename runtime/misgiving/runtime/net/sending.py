"""The frames of one stream on their way: read in a thread of our own, kept until answered.

gRPC takes a stream's requests in a thread that nobody can wait for. It only fetches here; what
reads the frames, which may be deep in a decoder, is waited for before the stream is left.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from misgiving.runtime.net.slots import Slots
from misgiving.runtime.nouns import Answer, Frame, FrameFailure, StreamSummary
from misgiving.runtime.wire.requests import StreamRequest, frame_request, opening
from misgiving.runtime.wire.results import Reply
from misgiving.runtime.wire.sharing import Slot

READER, LIVE_READER = "frames", "source"
"""Names of the threads that read, this one and that of ``live.py``; see ``command.py``."""
END_S = 2.0
"""How long the end waits for a frame that is being read."""
_POLL_S = 0.1
_NOT_AGAIN = Frame(b"")
"""In place of a live frame once it is sent: its pixels are not kept."""


@contextmanager
def threads_ended() -> Iterator[None]:
    """Wait for the threads that gRPC starts meanwhile: at Python's end they abort the process.

    One that does not end in time is named as a reader, so that ``command.py`` knows of it.
    """
    before = set(threading.enumerate())
    try:
        yield
    finally:
        until = time.monotonic() + END_S
        for thread in set(threading.enumerate()) - before:
            if thread.daemon and thread.name not in (READER, LIVE_READER):
                thread.join(max(0.0, until - time.monotonic()))
                thread.name = READER


@dataclass(slots=True)
class _Sent:
    """A frame without its reply."""

    frame: Frame
    slot: Slot | None = None


class Outbox:
    """What is still to be sent, over as many calls as it takes.

    In order, frames are held back while ``in_flight`` are unanswered, since more would only lie
    in the connection's buffers; what a lost call leaves unanswered is sent again in the next.
    Live, a lost call's frames are lost, and so is what comes until there is another.
    """

    def __init__(
        self, frames: Iterable[Frame], in_flight: int | None, slots: Slots | None = None
    ) -> None:
        self._frames = frames
        self._in_flight = in_flight
        self._slots = slots or Slots("", None, 0.0)
        self._state = threading.Condition()
        self._call = 0  # number of the one that may fetch
        self._wanted = self._passing = self._closed = False
        self._next: deque[Frame] = deque()
        self._unanswered: deque[_Sent] = deque()
        self.ended = False
        """There are no more frames to read."""
        self.error: Exception | None = None
        """What reading ended with."""
        self._missed = 0
        self._gap = 0  # of these, since the last call
        self.answered = self.failed = self.dropped = 0
        self._thread = threading.Thread(target=self._read, name=READER, daemon=True)
        self._thread.start()

    @property
    def live(self) -> bool:
        return self._in_flight is None

    @property
    def done(self) -> bool:
        """Every frame is settled: nothing is left to be read, sent or answered."""
        return self.ended and not (self._next or self._unanswered or self._gap)

    @property
    def missed(self) -> int:
        """Live frames that were under way when a call was lost, or came while there was none."""
        return self._missed + self._gap

    def requests(self) -> Iterator[StreamRequest]:
        """Of one call; those of an earlier call end, and take no more frames."""
        with self._state:
            self._call += 1
            self._passing = False
            self._missed, self._gap = self.missed, 0
        return self._requests(self._call)

    def reply(self, reply: Reply) -> None:
        """Count a reply, and forget the frames that it settles."""
        with self._state:
            match reply:
                case Answer():
                    self.answered += 1
                    self._settle(reply.dropped_before)
                case FrameFailure():
                    self.failed += 1
                    self._settle(reply.dropped_before)
            self._state.notify_all()

    def leave(self) -> None:
        """The call is over: what it did not answer is sent again or, live, lost."""
        with self._state:
            self._call += 1
            for sent in self._unanswered:
                if sent.slot:
                    self._slots.abandon(sent.slot)
            if self.live:
                self._gap += len(self._unanswered) + len(self._next)
                self._next.clear()
                self._passing = True
            else:
                self._next.extendleft(sent.frame for sent in reversed(self._unanswered))
                self._wanted = not self._next  # there may be no more
            self._unanswered.clear()
            self._state.notify_all()

    def wait_for_next(self, stopped: Callable[[], bool]) -> None:
        """Wait until a recording has a frame to send, or is known to have none."""
        with self._state:
            while not (self.live or self._next or self.ended or stopped()):
                self._state.wait(_POLL_S)

    def nothing_to_wait(self) -> bool:
        """A live source that has ended waits for no server."""
        return self.live and self.ended

    def close(self) -> None:
        """End every thread that waits here, and wait for the one that reads."""
        with self._state:
            self._closed = True
            self._call += 1
            self._state.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(END_S)

    def summary(self) -> StreamSummary:
        """What became of the frames of all calls."""
        received = self.answered + self.failed + self.dropped
        return StreamSummary(received, self.answered, self.dropped, self.failed)

    def _settle(self, dropped: int) -> None:
        self.dropped += dropped
        for _ in range(min(dropped + 1, len(self._unanswered))):
            if slot := self._unanswered.popleft().slot:
                self._slots.free(slot)

    def _requests(self, call: int) -> Iterator[StreamRequest]:
        yield opening(self.live)
        while (sent := self._fetch(call)) is not None:
            self._place(sent, call)
            request = frame_request(sent.frame, sent.slot)
            if self.live:
                sent.frame = _NOT_AGAIN
            yield request

    def _place(self, sent: _Sent, call: int) -> None:
        """Put the pixels where the server reads them, unless they have to travel."""
        if (slot := self._slots.place(sent.frame.image)) is None:
            return
        with self._state:
            if call == self._call:
                sent.slot = slot
            else:
                self._slots.free(slot)

    def _fetch(self, call: int) -> _Sent | None:
        """The next frame to send; None where there is none, or the call is over."""
        with self._state:
            self._state.wait_for(lambda: call != self._call or self._has_place())
            if call == self._call and not self._next:
                self._wanted = True
                self._state.notify_all()
            self._state.wait_for(lambda: call != self._call or self._next or self.ended)
            if call != self._call or not self._next:
                return None
            self._unanswered.append(sent := _Sent(self._next.popleft()))
            return sent

    def _has_place(self) -> bool:
        return self._in_flight is None or len(self._unanswered) < self._in_flight

    def _read(self) -> None:
        frames = iter(self._frames)
        try:
            while self._may_read() and (frame := next(frames, None)) is not None:
                self._offer(frame)
        except Exception as error:  # raised where the replies are taken
            self.error = error
        finally:
            with self._state:
                self.ended = True
                self._state.notify_all()

    def _may_read(self) -> bool:
        with self._state:
            self._state.wait_for(lambda: self._closed or self._wanted or self._passing)
            return not self._closed

    def _offer(self, frame: Frame) -> None:
        with self._state:
            if self._passing:
                self._gap += 1
            else:
                self._next.append(frame)
                self._wanted = False
            self._state.notify_all()
