"""One source on its way through the pipeline: read in a thread, answered newest first, counted."""

import asyncio
import logging
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

from misgiving.runtime.errors import MisgivingError
from misgiving.runtime.net.backoff import wait_s
from misgiving.runtime.nouns import Answer, Collection, Frame, FrameFailure, make_frame
from misgiving.runtime.serving.pipeline import Pipeline
from misgiving.runtime.serving.session import (
    Event,
    FrameArrived,
    Mode,
    Opened,
    ReplyError,
)
from misgiving.runtime.serving.streams import Stream
from misgiving.runtime.sources.pictures import Picture
from misgiving.runtime.telemetry.metrics import Metrics
from misgiving.runtime.watching.watchdog import Watchdog

log = logging.getLogger(__name__)

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
"""Before a camera that gave nothing yet is tried again."""


class Onlooker(Protocol):
    """Is told of one camera's frames, on the event loop: it returns at once."""

    def arrived(self, frame: Frame, arrived_nano: int) -> None:
        """A frame has come; it may be dropped."""

    def answered(self, frame: Frame, answer: Answer, arrived_nano: int) -> None:
        """A frame has its answer."""


@dataclass(slots=True)
class Counts:
    """What became of a camera's frames, beyond what its stream counts."""

    flagged: int = 0
    kept: int = 0
    lost: int = 0
    """To be kept, but the spool could not take them."""

    def take(self, answer: Answer) -> None:
        self.flagged += answer.flagged
        self.kept += answer.collection is Collection.QUEUED
        self.lost += answer.collection is Collection.LOST


class Camera:
    """A live source and its stream.

    Args:
        name: goes with each frame, and into every message.
        opening: opens the source, waits for its first frame, and gives its frames as they come.
        pipeline: answers.
        metrics: count the frames.
        stop: ends the source, whatever it waits for.
        again: open it again where it does not open; a recording is opened once.
        frozen_s: seconds without a frame after which the camera is frozen.
        onlookers: are told of every frame.
    """

    def __init__(
        self,
        name: str,
        opening: Callable[[], Iterable[Picture]],
        pipeline: Pipeline,
        metrics: Metrics,
        stop: threading.Event,
        *,
        again: bool = True,
        frozen_s: float = 10.0,
        onlookers: Sequence[Onlooker] = (),
    ) -> None:
        self.name = name
        self.counts = Counts()
        self.error: Exception | None = None
        """Why the source does not open, or why it ended."""
        self.tried = asyncio.Event()
        """Its first frame has come, or it did not open at the first time."""
        self.watchdog = Watchdog(name, frozen_s if again else float("inf"), time.monotonic())
        self.again = again
        self._opening = opening
        self._stop = stop
        self._onlookers = onlookers
        self._last_failed = False
        self._stream = Stream(
            pipeline, metrics, self._events(), lambda frame: frame, self._answered
        )

    async def run(self) -> None:
        """Answer until the source ends; what it accepted is answered before."""
        async for outcome in self._stream.outcomes():
            if isinstance(outcome, ReplyError):
                self._failed(outcome.error)

    @property
    def failed(self) -> bool:
        """A frame was not answered, or the source did not open or broke off."""
        return self.error is not None or self._stream.so_far.failed > 0

    def line(self) -> str:
        """What became of its frames, for people."""
        so_far, counts = self._stream.so_far, self.counts
        return (
            f"{self.name}: {so_far.received} received, {so_far.answered} answered, "
            f"{so_far.dropped} dropped, {so_far.failed} failed; {counts.flagged} flagged, "
            f"{counts.kept} kept, {counts.lost} lost; {self.watchdog.freezes} times frozen"
        )

    async def _events(self) -> AsyncIterator[Event]:
        yield Opened(Mode.LIVE)
        loop = asyncio.get_running_loop()
        reader = ThreadPoolExecutor(1, thread_name_prefix="camera")
        pictures = self._pictures(loop)
        try:
            while (picture := await loop.run_in_executor(reader, next, pictures, None)) is not None:
                yield self._arrived(picture)
        except Exception as error:  # whatever it is, the other cameras go on
            self.error = error
            ours = isinstance(error, MisgivingError)
            log.error("%s is left: %s", self.name, error, exc_info=not ours)
        finally:
            self.tried.set()
            reader.shutdown(wait=False)

    def _arrived(self, picture: Picture) -> FrameArrived:
        self.error = None
        self.tried.set()
        self.watchdog.see(time.monotonic())
        captured = picture.captured_unix_nano or time.time_ns()
        frame = make_frame(picture.image, (), picture.name, captured, self.name)
        arrived = time.monotonic_ns()
        for onlooker in self._onlookers:
            onlooker.arrived(frame, arrived)
        return FrameArrived((frame, arrived))

    def _pictures(self, loop: asyncio.AbstractEventLoop) -> Iterator[Picture]:
        """In the reader's thread: opens the source until it gives frames."""
        tries = 0
        while not self._stop.is_set():
            try:
                yield from takewhile(lambda _: not self._stop.is_set(), self._opening())
                return
            except Exception as error:  # whatever it is, a camera may come back
                if not self.again:
                    raise
                if not isinstance(error, MisgivingError):
                    log.exception("%s broke off; trying again", self.name)
                self.error = error
                loop.call_soon_threadsafe(self.tried.set)
            tries += 1
            self._stop.wait(wait_s(tries, _FIRST_WAIT_S, _LONGEST_WAIT_S, random.random()))

    def _answered(self, frame: Frame, answer: Answer, arrived_nano: int) -> None:
        self._last_failed = False
        self.counts.take(answer)
        for onlooker in self._onlookers:
            onlooker.answered(frame, answer, arrived_nano)

    def _failed(self, failure: FrameFailure) -> None:
        """Of failures in a row the first is told: an engine that fails would fill the log."""
        if not self._last_failed:
            log.warning("%s: frame %s: %s", self.name, failure.frame_id, failure.message)
        self._last_failed = True
