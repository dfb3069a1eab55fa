"""Events go in, whole instruction lists are compared; on teardown every session must add up."""

from collections.abc import Callable, Iterator
from weakref import WeakSet

import pytest

from misgiving.runtime.nouns import StreamSummary
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

Start = Callable[..., Session]


class Checked(Session):
    """A session that checks itself after every event."""

    def handle(self, event: Event) -> list:  # type: ignore[type-arg]
        instructions = super().handle(event)
        waiting = self.waiting is not None
        open_frames = self.received - self.answered - self.dropped - self.failed - waiting
        unsent = self.in_flight - open_frames  # replies that were given and not yet sent
        assert 0 <= unsent <= self.in_flight <= self._window or self.finished
        assert self.mode is Mode.LIVE or self.dropped == 0
        assert len(self._done) <= self._window
        return instructions


@pytest.fixture
def start() -> Iterator[Start]:
    sessions: list[Session] = []

    def begin(mode: Mode | None = None, **windows: int) -> Session:
        session = Checked(**windows)
        sessions.append(session)
        if mode is not None:
            assert session.handle(Opened(mode)) == []
        return session

    yield begin
    for session in sessions:
        if session.finished:
            assert session.handle(FrameArrived("late")) == []
            assert session.handle(Draining()) == []


def test_live_answers_a_frame_that_comes_alone(start: Start) -> None:
    session = start(Mode.LIVE)
    assert session.handle(FrameArrived("a")) == [Submit(0, "a")]
    assert session.handle(FrameAnswered(0, "A")) == [Reply("A", 0)]
    assert session.handle(ReplySent()) == []
    assert session.handle(ClientClosed()) == [Finish(StreamSummary(1, 1, 0, 0))]


def test_live_keeps_the_newest_and_counts_the_rest(start: Start) -> None:
    session = start(Mode.LIVE)
    assert session.handle(FrameArrived("a")) == [Submit(0, "a")]
    assert session.handle(FrameArrived("b")) == []
    assert session.handle(FrameArrived("c")) == [DropCounted("b")]
    assert session.handle(FrameArrived("d")) == [DropCounted("c")]
    assert session.handle(FrameAnswered(0, "A")) == [Reply("A", 2)]
    assert session.handle(ReplySent()) == [Submit(1, "d")]
    assert session.handle(FrameAnswered(1, "D")) == [Reply("D", 0)]
    assert session.handle(ReplySent()) == []
    assert session.handle(ClientClosed()) == [Finish(StreamSummary(4, 2, 2, 0))]


def test_live_drops_while_the_client_does_not_read(start: Start) -> None:
    session = start(Mode.LIVE)
    session.handle(FrameArrived("a"))
    assert session.handle(FrameAnswered(0, "A")) == [Reply("A", 0)]
    assert session.handle(FrameArrived("b")) == []  # the reply is not sent: no place yet
    assert session.handle(FrameArrived("c")) == [DropCounted("b")]
    assert session.handle(ReplySent()) == [Submit(1, "c")]
    assert session.handle(FrameAnswered(1, "C")) == [Reply("C", 1)]


def test_a_live_frame_gives_way_until_its_turn_has_come(start: Start) -> None:
    session = start(Mode.LIVE)
    session.handle(FrameArrived("a"))
    assert session.at_turn(0, "a") == ("a", [])
    session.handle(FrameArrived("b"))
    assert session.handle(FrameAnswered(0, "A")) == [Reply("A", 0)]
    assert session.handle(ReplySent()) == [Submit(1, "b")]
    session.handle(FrameArrived("c"))
    assert session.at_turn(1, "b") == ("c", [DropCounted("b")])
    assert session.handle(FrameAnswered(1, "C")) == [Reply("C", 1)]


@pytest.mark.parametrize(("mode", "window"), [(Mode.IN_ORDER, 2), (Mode.LIVE, 2)])
def test_a_frame_gives_way_to_no_frame_that_would_overtake(
    start: Start, mode: Mode, window: int
) -> None:
    session = start(mode, live_window=window, in_order_window=window)
    for name in "abc":
        session.handle(FrameArrived(name))
    assert session.at_turn(0, "a") == ("a", [])  # b was submitted after it


def test_live_never_pauses_reading(start: Start) -> None:
    session = start(Mode.LIVE)
    said = [one for i in range(100) for one in session.handle(FrameArrived(i))]
    assert said == [Submit(0, 0), *(DropCounted(i) for i in range(1, 99))]


def test_live_answers_the_waiting_frame_after_the_client_closed(start: Start) -> None:
    session = start(Mode.LIVE)
    session.handle(FrameArrived("a"))
    session.handle(FrameArrived("b"))
    assert session.handle(ClientClosed()) == []
    session.handle(FrameAnswered(0, "A"))
    assert session.handle(ReplySent()) == [Submit(1, "b")]
    assert session.handle(FrameFailed(1, "B!")) == [ReplyError("B!", 0)]
    assert session.handle(ReplySent()) == [Finish(StreamSummary(2, 1, 0, 1))]


def test_live_with_two_places(start: Start) -> None:
    session = start(Mode.LIVE, live_window=2)
    assert session.handle(FrameArrived("a")) == [Submit(0, "a")]
    assert session.handle(FrameArrived("b")) == [Submit(1, "b")]
    assert session.handle(FrameArrived("c")) == []
    assert session.handle(FrameAnswered(1, "B")) == []  # a's answer goes first
    assert session.handle(FrameAnswered(0, "A")) == [Reply("A", 0), Reply("B", 0)]
    assert session.handle(ReplySent()) == [Submit(2, "c")]


def test_in_order_pauses_the_reader_and_drops_nothing(start: Start) -> None:
    session = start(Mode.IN_ORDER, in_order_window=2)
    assert session.handle(FrameArrived("a")) == [Submit(0, "a")]
    assert session.handle(FrameArrived("b")) == [Submit(1, "b"), PauseReading()]
    assert session.handle(FrameAnswered(0, "A")) == [Reply("A", 0)]
    assert session.handle(ReplySent()) == [ResumeReading()]
    assert session.handle(FrameArrived("c")) == [Submit(2, "c"), PauseReading()]
    assert session.handle(FrameAnswered(2, "C")) == []
    assert session.handle(FrameAnswered(1, "B")) == [Reply("B", 0), Reply("C", 0)]
    assert session.handle(ReplySent()) == [ResumeReading()]
    assert session.handle(ReplySent()) == []
    assert session.handle(ClientClosed()) == [Finish(StreamSummary(3, 3, 0, 0))]


def test_in_order_errors_keep_their_turn(start: Start) -> None:
    session = start(Mode.IN_ORDER)
    for name in "abc":
        session.handle(FrameArrived(name))
    assert session.handle(FrameFailed(1, "B!")) == []
    assert session.handle(FrameAnswered(2, "C")) == []
    answers = [Reply("A", 0), ReplyError("B!", 0), Reply("C", 0)]
    assert session.handle(FrameAnswered(0, "A")) == answers


def test_an_empty_stream_ends_with_a_summary(start: Start) -> None:
    assert start(Mode.LIVE).handle(ClientClosed()) == [Finish(StreamSummary(0, 0, 0, 0))]
    assert start().handle(ClientClosed()) == [Finish(StreamSummary(0, 0, 0, 0))]


@pytest.mark.parametrize("mode", Mode)
def test_draining_finishes_what_was_accepted(start: Start, mode: Mode) -> None:
    session = start(mode)
    session.handle(FrameArrived("a"))
    session.handle(FrameArrived("b"))
    assert session.handle(Draining()) == [PauseReading()]
    assert session.handle(FrameArrived("late")) == []  # was on its way: not accepted
    for ticket in range(2):
        session.handle(FrameAnswered(ticket, "x"))
        last = session.handle(ReplySent())
    assert last == [Finish(StreamSummary(2, 2, 0, 0))]


def test_draining_an_idle_and_a_paused_stream(start: Start) -> None:
    assert start(Mode.LIVE).handle(Draining()) == [
        PauseReading(),
        Finish(StreamSummary(0, 0, 0, 0)),
    ]
    paused = start(Mode.IN_ORDER, in_order_window=1)
    assert paused.handle(FrameArrived("a")) == [Submit(0, "a"), PauseReading()]
    assert paused.handle(Draining()) == []
    paused.handle(FrameAnswered(0, "A"))
    assert paused.handle(ReplySent()) == [Finish(StreamSummary(1, 1, 0, 0))]


@pytest.mark.parametrize(
    ("before", "misuse", "said"),
    [
        # a frame where the opening is expected
        ([], FrameArrived("a"), "first message is a frame"),
        # an opening without a mode
        ([], Opened(None), "STREAM_MODE_UNSPECIFIED"),
        # a message with neither, first
        ([], MessageEmpty(), "message is empty"),
        # a message with neither, later
        ([Opened(Mode.LIVE)], MessageEmpty(), "message is empty"),
        # opened twice
        ([Opened(Mode.LIVE)], Opened(Mode.IN_ORDER), "open already"),
        # opened twice, with frames between
        ([Opened(Mode.LIVE), FrameArrived("a")], Opened(Mode.LIVE), "open already"),
    ],
)
def test_misuse_ends_the_stream(
    start: Start, before: list[Event], misuse: Event, said: str
) -> None:
    session = start()
    for event in before:
        session.handle(event)
    (abort,) = session.handle(misuse)
    assert isinstance(abort, Abort)
    assert said in abort.message
    assert "expected" in abort.message
    assert session.handle(FrameAnswered(0, "too late")) == []


def test_a_long_stream_keeps_no_history(start: Start) -> None:
    class Result:
        """Something whose end can be seen."""

    session, kept = start(Mode.IN_ORDER), WeakSet[Result]()
    for ticket in range(10_000):
        kept.add(frame := Result())
        kept.add(result := Result())
        session.handle(FrameArrived(frame))
        session.handle(FrameAnswered(ticket, result))
        session.handle(ReplySent())
    del frame, result
    assert not kept
    assert session.handle(ClientClosed()) == [Finish(StreamSummary(10_000, 10_000, 0, 0))]
