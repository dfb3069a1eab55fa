"""A live source: a camera or a network stream, read in a thread so that the newest frame wins."""

import logging
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.errors import DataError
from misgiving.runtime.net.backoff import wait_s
from misgiving.runtime.net.sending import LIVE_READER
from misgiving.runtime.sources.feeds import SILENCE_S, Capture, Feed
from misgiving.runtime.sources.pictures import Picture

log = logging.getLogger(__name__)

_POLL_S = 0.1
_AT_ONCE_S = 0.005
_TRIES = 25
"""Failed reads that came at once, in a row, before a feed is taken for lost: one that lives has its
next picture waited for, broken or not."""
_END_S = 2.0
"""How long the end waits for a frame that is being read; the process need not wait for a freeze."""


class Live:
    """A source: the newest frame of a feed, and nothing older.

    One frame waits to be taken; a newer one replaces it. A feed that ends or freezes is opened
    again until the source is told to stop.
    """

    def __init__(
        self,
        feed: Feed,
        stop: threading.Event,
        *,
        first_wait_s: float = 0.5,
        longest_wait_s: float = 30.0,
    ) -> None:
        """Open a feed and wait for its first frame.

        Args:
            feed: a camera or a network stream.
            stop: ends the source, whatever it is waiting for.
            first_wait_s: before the feed is opened again; doubles with each failure.
            longest_wait_s: between any two attempts.

        Raises:
            DataError: it gives no frame. Only once it has, a feed is waited for.
        """
        self.name = feed.name
        self.frames_read = 0
        self.broken = 0
        self.reconnects = 0
        self._feed = feed
        self._stop = stop
        self._first_wait_s = first_wait_s
        self._longest_wait_s = longest_wait_s
        self._failures = 0  # in a row
        self._waited_s = 0.0  # before the last attempt
        self._error: Exception | None = None
        self._newest: tuple[str, int, NDArray[Any]] | None = None
        self._arrived = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=LIVE_READER, daemon=True)
        self._thread.start()
        with self._arrived:
            self._wait()

    def __iter__(self) -> Iterator[Picture]:
        """Frames until the source is told to stop, RGB (H, W, 3), named by their place."""
        while (newest := self._take()) is not None:
            name, captured, bgr = newest
            rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
            yield Picture(name, np.asarray(rgb, np.uint8), captured)

    def close(self) -> None:
        """Stop reading, and let go of the camera."""
        self._stop.set()
        self._thread.join(_END_S)

    def line(self, sent: int) -> str:
        """What became of its frames, for people."""
        return (
            f"source: {self.frames_read} read, {self.broken} broken, "
            f"{self.frames_read - sent} dropped before sending, {self.reconnects} reconnects"
        )

    def _take(self) -> tuple[str, int, NDArray[Any]] | None:
        with self._arrived:
            self._wait()
            newest, self._newest = self._newest, None
            return None if self._stop.is_set() else newest

    def _wait(self) -> None:
        """Wait for a frame or the end. Polls: a signal handler may set an event, not notify."""
        while not (self._newest or self._stop.is_set() or not self._thread.is_alive()):
            self._arrived.wait(_POLL_S)
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            capture = self._connect()
            if capture is None:
                raise DataError(f"{self.name} gives no frame: {self._feed.why()}")
            while capture is not None:
                self._read_all(capture)
                capture = self._reconnect()
        except Exception as error:  # raised where the frames are taken
            self._error = error

    def _connect(self) -> Capture | None:
        """Open the feed up to its first fresh frame; None where that does not come."""
        began = time.monotonic()
        capture = self._feed.open()
        if capture is None:
            return None
        if self._skip_backlog(capture, time.monotonic() - began):
            return capture
        capture.release()
        return None

    def _skip_backlog(self, capture: Capture, opening_s: float) -> bool:
        """Read past what piled up while a stream was opened (25 frames are usual).

        A frame is fresh when it had to be waited for. A feed that declares too low a rate never
        lets one wait that long: no more piles up than comes while it is opened.
        """
        fps = capture.get(cv2.CAP_PROP_FPS)
        waited_s = 0.5 / (fps if 0 < fps < 1000 else 25)
        last = time.monotonic() + opening_s
        while True:
            began = time.monotonic()
            bgr = self._read(capture)
            if bgr is None:
                return False
            now = time.monotonic()
            if now - began > waited_s or now > last:
                self._offer(bgr)
                return True

    def _read_all(self, capture: Capture) -> None:
        """Read until the feed is lost; one that outlasted its wait has earned a quick return."""
        began = time.monotonic()
        try:
            while not self._stop.is_set() and (bgr := self._read(capture)) is not None:
                self._offer(bgr)
        finally:
            capture.release()
        if time.monotonic() - began > self._waited_s:
            self._failures = 0

    def _read(self, capture: Capture) -> NDArray[Any] | None:
        """The next frame, past pictures that are broken; None where the feed is silent."""
        failures = at_once = 0
        while at_once < _TRIES and not self._stop.is_set():
            began = time.monotonic()
            there, bgr = capture.read()
            if there:
                self.frames_read += 1
                self.broken += failures
                return bgr
            took_s = time.monotonic() - began
            if took_s > SILENCE_S:
                return None
            failures += 1
            at_once += took_s < _AT_ONCE_S
        return None

    def _offer(self, bgr: NDArray[Any]) -> None:
        with self._arrived:
            self._newest = (f"{self.frames_read - 1:06d}", time.time_ns(), bgr)
            self._arrived.notify()

    def _reconnect(self) -> Capture | None:
        """Try until the feed is back; None where the source is told to stop meanwhile."""
        if self._stop.is_set():
            return None
        log.warning("%s is lost; trying again until it is back", self.name)
        lost = time.monotonic()
        while not self._stop.wait(self._next_wait_s()):
            if (capture := self._connect()) is not None:
                self.reconnects += 1
                log.warning("%s is back after %.1f s", self.name, time.monotonic() - lost)
                return capture
        return None

    def _next_wait_s(self) -> float:
        self._failures += 1
        self._waited_s = wait_s(
            self._failures, self._first_wait_s, self._longest_wait_s, random.random()
        )
        return self._waited_s
