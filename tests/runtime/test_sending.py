"""The frames of a stream over several calls: which are sent, sent again, dropped or held back."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from misgiving.runtime.net.sending import READER, Outbox, threads_ended
from misgiving.runtime.nouns import Answer, Frame, FrameFailure, StreamSummary, make_frame
from misgiving.v1 import detector_pb2 as wire

BLACK = np.zeros((4, 6, 3), np.uint8)
IN_ORDER, LIVE = wire.STREAM_MODE_IN_ORDER, wire.STREAM_MODE_LIVE


def frames(number: int) -> Iterator[Frame]:
    return (make_frame(BLACK, frame_id=str(i)) for i in range(number))


@pytest.fixture
def outboxes() -> Iterator[list[Outbox]]:
    made: list[Outbox] = []
    yield made
    for outbox in made:
        outbox.close()
    assert readers() == []


def readers() -> list[threading.Thread]:
    """The threads that read frames for an outbox, and have not ended."""
    return [thread for thread in threading.enumerate() if thread.name == READER]


def sent(requests: Iterator[wire.StreamInferRequest], number: int) -> list[str]:
    return [next(requests).frame.frame_id for _ in range(number)]


def opened(outbox: Outbox) -> Iterator[wire.StreamInferRequest]:
    requests = outbox.requests()
    assert next(requests).open.mode == (LIVE if outbox.live else IN_ORDER)
    return requests


def answer(outbox: Outbox, dropped: int = 0) -> None:
    outbox.reply(Answer("", (), "", dropped_before=dropped))


def fail(outbox: Outbox) -> None:
    outbox.reply(FrameFailure("", 3, "cut short"))


def test_what_a_call_left_unanswered_is_sent_again(outboxes: list[Outbox]) -> None:
    outboxes.append(outbox := Outbox(frames(6), in_flight=3))
    first = opened(outbox)
    assert sent(first, 3) == ["0", "1", "2"]
    answer(outbox)
    assert sent(first, 1) == ["3"]
    outbox.leave()
    assert list(first) == []  # the call that was left takes nothing more
    second = opened(outbox)
    assert sent(second, 3) == ["1", "2", "3"]
    outbox.leave()  # again, before anything was answered
    third = opened(outbox)
    assert sent(third, 3) == ["1", "2", "3"]
    for _ in range(2):
        answer(outbox)
    fail(outbox)
    assert sent(third, 2) == ["4", "5"]
    assert list(third) == []
    assert not outbox.done
    answer(outbox)
    answer(outbox)
    assert outbox.done
    assert outbox.summary() == StreamSummary(received=6, answered=5, dropped=0, failed=1)


@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_call_lost_after_the_last_answer_is_not_missed(
    outboxes: list[Outbox], number: int
) -> None:
    outboxes.append(outbox := Outbox(frames(number), in_flight=8))
    requests = opened(outbox)
    assert sent(requests, number) == [str(i) for i in range(number)]
    for _ in range(number):
        answer(outbox)
    outbox.leave()
    outbox.wait_for_next(lambda: False)
    assert outbox.done


def test_a_recording_that_has_more_is_not_done(outboxes: list[Outbox]) -> None:
    outboxes.append(outbox := Outbox(frames(2), in_flight=8))
    requests = opened(outbox)
    sent(requests, 1)
    answer(outbox)
    outbox.leave()
    outbox.wait_for_next(lambda: False)
    assert not outbox.done
    assert not outbox.nothing_to_wait()
    assert sent(opened(outbox), 1) == ["1"]


def test_live_frames_are_dropped_while_there_is_no_call(outboxes: list[Outbox]) -> None:
    """Two are under way, of which one was replaced; five come without a call."""
    gates = [threading.Semaphore(0) for _ in range(2)]

    def camera() -> Iterator[Frame]:
        for i in range(10):
            if i == 8:
                gates[0].release()
                gates[1].acquire()
            yield make_frame(BLACK, frame_id=str(i))

    outboxes.append(outbox := Outbox(camera(), None))
    first = opened(outbox)
    assert sent(first, 3) == ["0", "1", "2"]
    answer(outbox, dropped=1)  # of 1, in the place of 0
    outbox.leave()
    assert list(first) == []
    gates[0].acquire()  # 3 to 7 went by
    second = opened(outbox)
    gates[1].release()
    assert sent(second, 2) == ["8", "9"]
    assert list(second) == []
    answer(outbox)
    answer(outbox)
    assert outbox.done
    assert outbox.missed == 6
    assert outbox.summary() == StreamSummary(received=4, answered=3, dropped=1, failed=0)


def test_a_live_source_that_ends_without_a_call_is_not_done(outboxes: list[Outbox]) -> None:
    outboxes.append(outbox := Outbox(frames(3), None))
    sent(opened(outbox), 1)
    outbox.leave()
    for reader in readers():
        reader.join(60)
    assert outbox.nothing_to_wait()
    assert not outbox.done
    assert outbox.missed == 3


def test_an_error_of_the_source_ends_the_requests(outboxes: list[Outbox]) -> None:
    def broken() -> Iterator[Frame]:
        yield make_frame(BLACK)
        raise OSError("disk gone")

    outboxes.append(outbox := Outbox(broken(), in_flight=8))
    assert len(list(opened(outbox))) == 1
    assert str(outbox.error) == "disk gone"


def test_the_end_waits_for_a_frame_that_is_being_read(outboxes: list[Outbox]) -> None:
    reading, read = threading.Event(), threading.Event()

    def slow() -> Iterator[Frame]:
        reading.set()
        threading.Timer(0.05, read.set).start()
        read.wait()
        yield make_frame(BLACK)

    outboxes.append(outbox := Outbox(slow(), in_flight=8))
    requests = opened(outbox)
    fetching = threading.Thread(target=lambda: list(requests))
    fetching.start()
    reading.wait()
    outbox.close()
    assert read.is_set()
    fetching.join(60)
    assert readers() == []


def test_threads_started_meanwhile_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("misgiving.runtime.net.sending.END_S", 1.0)
    gates = [threading.Event() for _ in range(2)]
    older = threading.Thread(target=gates[1].wait, name="older", daemon=True)
    older.start()
    with threads_ended():
        short = threading.Thread(target=gates[0].wait, daemon=True)
        endless = threading.Thread(target=gates[1].wait, daemon=True)
        short.start()
        endless.start()
        gates[0].set()
    assert not short.is_alive()
    assert (endless.is_alive(), endless.name) == (True, READER)
    assert older.name == "older"
    gates[1].set()
    endless.join()
