"""A live source over a scripted capture: what a camera and a network stream share."""

import logging
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from misgiving.runtime.errors import DataError
from misgiving.runtime.net.sending import LIVE_READER
from misgiving.runtime.sources.feeds import Feed
from misgiving.runtime.sources.live import Live

CAMERA = "/dev/video9"


class Script:
    """One opening of a camera. Frame i is i everywhere; each is read when it is permitted."""

    def __init__(
        self, frames: int, permits: int | None = None, broken: frozenset[int] = frozenset()
    ) -> None:
        self._left = frames
        self._broken = broken
        self._permits = threading.Semaphore(frames + 1 if permits is None else permits)
        self.asked = threading.Semaphore(0)
        self.released = False
        self._count = 0
        self._ended = False

    def permit(self, frames: int) -> None:
        self._permits.release(frames)

    def read(self) -> tuple[bool, NDArray[np.uint8]]:
        self.asked.release()
        if self._ended:  # as a decoder: it goes on saying so
            return False, np.zeros(0, np.uint8)
        assert self._permits.acquire(timeout=60)
        if self._count == self._left:
            self._ended = True
            return False, np.zeros(0, np.uint8)
        self._count += 1
        if self._count in self._broken:
            return False, np.zeros(0, np.uint8)
        frame = np.full((4, 6, 3), self._count, np.uint8)
        frame[..., 0] = 200  # blue, in OpenCV's order
        return True, frame

    def get(self, property_id: int, /) -> float:
        return 25.0

    def release(self) -> None:
        self.released = True


@pytest.fixture
def start() -> Iterator[Callable[..., Live]]:
    sources: list[Live] = []

    def open_live(*openings: Script | None, why: str = "unplugged") -> Live:
        """A source whose n-th opening is the n-th script; None does not open, nor does the end."""
        following = iter(openings)
        feed = Feed(CAMERA, lambda: next(following, None), lambda: why)
        stop = threading.Event()
        sources.append(Live(feed, stop, first_wait_s=0.001, longest_wait_s=0.01))
        return sources[-1]

    yield open_live
    for source in sources:
        source.close()
    assert LIVE_READER not in [thread.name for thread in threading.enumerate()]


def wait_until_asked(script: Script, times: int) -> None:
    for _ in range(times):
        assert script.asked.acquire(timeout=60)


def test_the_newest_frame_is_handed_out_and_the_rest_counted(start: Callable[..., Live]) -> None:
    script = Script(9, permits=5)
    source = start(script)
    wait_until_asked(script, 6)  # five have been offered, the sixth is waited for
    pictures = iter(source)
    first = next(pictures)
    assert first.name == "000004"
    assert isinstance(first.image, np.ndarray)
    assert first.image[0, 0].tolist() == [5, 5, 200]  # RGB
    script.permit(1)
    second = next(pictures)
    assert second.name == "000005"
    assert 0 < first.captured_unix_nano < second.captured_unix_nano
    assert source.line(sent=2) == "source: 6 read, 0 broken, 4 dropped before sending, 0 reconnects"
    script.permit(4)


def test_a_lost_feed_is_found_again(
    start: Callable[..., Live], caplog: pytest.LogCaptureFixture
) -> None:
    first, dead, last = Script(3), Script(0), Script(2, permits=2)
    with caplog.at_level(logging.WARNING):
        # Lost; then it does not open three times, then it opens and gives nothing; then it is back.
        source = start(first, None, None, None, dead, last)
        wait_until_asked(last, 3)
    assert [picture.name for _, picture in zip(range(1), source, strict=False)] == ["000004"]
    lost, back = (record.getMessage() for record in caplog.records)
    assert lost == f"{CAMERA} is lost; trying again until it is back"
    assert back.startswith(f"{CAMERA} is back after ")
    assert (first.released, dead.released, last.released) == (True, True, False)
    assert source.line(1) == "source: 5 read, 0 broken, 4 dropped before sending, 1 reconnects"
    last.permit(1)


def test_broken_pictures_are_passed_over(
    start: Callable[..., Live], caplog: pytest.LogCaptureFixture
) -> None:
    script = Script(59, permits=59, broken=frozenset({1, 2, 3, 20, *range(30, 50)}))
    source = start(script)
    wait_until_asked(script, 60)
    assert next(iter(source)).name == "000034"
    assert source.line(1) == ("source: 35 read, 24 broken, 34 dropped before sending, 0 reconnects")
    assert not script.released
    assert caplog.records == []
    script.permit(1)


def test_a_read_that_fails_after_a_silence_ends_a_connection(
    start: Callable[..., Live], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("misgiving.runtime.sources.live.SILENCE_S", -1.0)  # any wait is one
    frozen, last = Script(9, broken=frozenset({3})), Script(2, permits=2)
    source = start(frozen, last)
    wait_until_asked(last, 3)
    assert source.line(0) == "source: 4 read, 0 broken, 4 dropped before sending, 1 reconnects"
    assert frozen.released
    last.permit(1)


@pytest.mark.parametrize(
    ("lasted_s", "waits"), [(0.3, [0.5, 1.0, 2.0]), (0.7, [0.5, 0.5, 0.5])], ids=["less", "longer"]
)
def test_a_feed_that_outlasts_its_wait_is_opened_soon(
    monkeypatch: pytest.MonkeyPatch, lasted_s: float, waits: list[float]
) -> None:
    """Each opening gives a frame and lasts as long; nothing is really waited for."""
    clock = [0.0]
    monkeypatch.setattr("misgiving.runtime.sources.live.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("misgiving.runtime.sources.live.random.random", lambda: 0.0)
    waited: list[float] = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            waited.append(timeout)
            if len(waited) == len(waits):
                self.set()
            return self.is_set()

    class Short(Script):
        def read(self) -> tuple[bool, NDArray[np.uint8]]:
            there, frame = super().read()
            clock[0] += 0.04 * there  # so that it is fresh
            return there, frame

        def release(self) -> None:
            clock[0] += lasted_s

    source = Live(Feed(CAMERA, lambda: Short(1), lambda: ""), Stop())
    list(source)
    source.close()
    assert waited == waits


@pytest.mark.parametrize("openings", [[], [Script(0)]], ids=["does not open", "gives nothing"])
def test_a_feed_that_never_was_is_an_error(
    start: Callable[..., Live], openings: list[Script]
) -> None:
    with pytest.raises(DataError, match=f"{CAMERA} gives no frame: unplugged"):
        start(*openings)
    assert all(script.released for script in openings)


def test_stopping_while_it_reads_waits_or_opens(start: Callable[..., Live]) -> None:
    script = Script(1)
    source = start(script)
    pictures = iter(source)
    next(pictures)
    source.close()  # lost by now: it waits to open again
    assert list(pictures) == []
    assert script.released

    stop, gate = threading.Event(), threading.Event()
    stop.set()

    def closed() -> None:
        gate.wait(60)

    source = Live(Feed(CAMERA, closed, lambda: ""), stop)
    assert list(source) == []  # at once, though it still opens
    gate.set()
    source.close()


def test_a_capture_that_breaks_is_told_where_frames_are_taken(start: Callable[..., Live]) -> None:
    script = Script(1)
    source = start(script)
    pictures = iter(source)
    next(pictures)

    other = Script(5, permits=1)
    source = start(other)
    pictures = iter(source)
    next(pictures)
    other.read = None
    other.permit(1)
    with pytest.raises(TypeError):
        list(pictures)
    assert other.released


def test_what_piled_up_while_opening_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening took 1 s; frames that are there at once are old, the first waited for is fresh."""
    clock = [0.0]
    monkeypatch.setattr("misgiving.runtime.sources.live.time.monotonic", lambda: clock[0])
    script, opened = Script(8, permits=7), threading.Event()
    waits = iter([0.001] * 4 + [0.03] + [0.04] * 4)
    read = script.read

    def timed() -> tuple[bool, NDArray[np.uint8]]:
        clock[0] += next(waits)
        return read()

    def open_slowly() -> Script:
        clock[0] += 1.0
        opened.set()
        return script

    script.read = timed
    offered: list[int] = []
    offer = Live._offer
    monkeypatch.setattr(
        Live, "_offer", lambda self, bgr: (offered.append(bgr[0, 0, 1]), offer(self, bgr))
    )
    stop = threading.Event()
    source = Live(Feed(CAMERA, open_slowly, lambda: ""), stop)
    wait_until_asked(script, 8)
    assert offered == [5, 6, 7]
    assert source.frames_read == 7
    stop.set()
    script.permit(1)
    source.close()
