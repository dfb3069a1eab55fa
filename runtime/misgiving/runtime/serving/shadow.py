"""A second bundle that answers silently: after the reply has left, in a thread of its own.

Nothing waits for it. It holds two frames at most, one of which it answers; frames that come
meanwhile are left out and counted. Whatever goes wrong with it is counted and told, and touches
neither answers nor health. See docs/serve.md.
"""

import asyncio
import contextlib
import logging
import os
import queue
import random
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from misgiving.runtime.answer.answerer import Model, answer
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.errors import MisgivingError
from misgiving.runtime.flags.disagreement import Comparison, Shared, compared
from misgiving.runtime.geometry import Region
from misgiving.runtime.keypoints import KeypointSet
from misgiving.runtime.nouns import Answer, Frame
from misgiving.runtime.telemetry.shadowing import ShadowCounts

log = logging.getLogger(__name__)

_ROOM = 2
_NICENESS = 10
_HANG_S = 30.0


@dataclass(frozen=True, slots=True)
class Ruling:
    """What may change while a shadow runs."""

    share: float
    """Of the frames that it looks at, in [0, 1]."""
    limit: float
    """Share of a person's joints beyond which two answers disagree, in [0, 1]."""
    keep: bool
    """Whether a frame on which they disagree is kept."""
    threshold: float | str | None
    """By which the answers are flagged, as the settings say it."""


Then = Callable[[tuple[bool, ...]], None]
"""Is told of each person whether the two disagree."""


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    frame: Frame
    answer: Answer
    keypoints: KeypointSet
    """Of the bundle that answered."""
    ruling: Ruling
    then: Then | None
    loop: asyncio.AbstractEventLoop
    began_s: float


@dataclass(frozen=True, slots=True)
class _Found:
    comparisons: list[Comparison]
    took_s: float


class Shadow:
    """Loads and runs the second bundle; a pipeline starts, asks and closes it, on its event loop.

    Args:
        load: gives the bundle and its engine; called in the shadow's thread, so that the threads
            of that engine have its priority.
        ruling: to start with.
        counts: are counted in.
        draw: uniform random numbers in [0, 1) for the share.
        patience_s: how long :meth:`close` waits for the thread.
    """

    def __init__(
        self,
        load: Callable[[], Model],
        ruling: Ruling,
        counts: ShadowCounts,
        *,
        draw: Callable[[], float] = random.random,
        patience_s: float = 5.0,
    ) -> None:
        self.ruling = ruling
        self.counts = counts
        self._load = load
        self._draw = draw
        self._patience_s = patience_s
        self._jobs: list[_Job] = []
        """Not finished, the oldest first."""
        self._closed = False
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        """Begin to load; frames that come meanwhile wait, as far as there is room."""
        self._thread.start()

    def wants(self, answer: Answer) -> bool:
        """Draw whether to look at a frame, and say whether there is room for it."""
        if self._closed or not answer.persons or self._draw() >= self.ruling.share:
            return False
        if len(self._jobs) < _ROOM:
            return True
        self.counts.busy()
        if (waits_s := time.monotonic() - self._jobs[0].began_s) > _HANG_S:
            self.counts.warn(f"it has not answered a frame for {waits_s:.0f} s")
        return False

    def take(self, frame: Frame, answer: Answer, keypoints: KeypointSet, then: Then | None) -> None:
        """Look at a frame that is wanted, once its reply has left.

        Args:
            frame: that was answered.
            answer: to it, decided.
            keypoints: of the bundle that answered.
            then: called on the event loop in the end; where the shadow fails, as if they agreed.
        """
        loop = asyncio.get_running_loop()
        job = _Job(frame, answer, keypoints, self.ruling, then, loop, time.monotonic())
        self._jobs.append(job)
        loop.call_soon(self._queue.put, job)  # the reply goes first

    async def close(self) -> None:
        """Finish what is at hand, as far as it does not hang."""
        self._closed = True
        asyncio.get_running_loop().call_soon(self._queue.put, None)
        await asyncio.to_thread(self._thread.join, self._patience_s)
        for job in tuple(self._jobs):
            self._done(job, TimeoutError("it has not ended with the server"))
        self.counts.summarise()

    def _done(self, job: _Job, outcome: _Found | Exception) -> None:
        if job not in self._jobs:  # ended by close
            return
        self._jobs.remove(job)
        apart: tuple[bool, ...] = (False,) * len(job.answer.persons)
        if isinstance(outcome, Exception):
            self.counts.failed(outcome)
        else:
            limit = job.ruling.limit
            self.counts.compared(outcome.took_s, outcome.comparisons, limit)
            apart = tuple(one.agreement(limit).disagrees for one in outcome.comparisons)
            if any(apart):
                log.debug("the shadow disagrees on frame %s", job.frame.name, extra=job.frame.ids)
        if job.then:
            job.then(apart)

    def _run(self) -> None:
        """In the shadow's thread."""
        _step_back()
        model = self._loaded()
        while (job := self._queue.get()) is not None:
            outcome = _looked(model, job)
            with contextlib.suppress(RuntimeError):  # the loop has ended without waiting
                job.loop.call_soon_threadsafe(self._done, job, outcome)

    def _loaded(self) -> Model | Exception:
        try:
            model = self._load()
            manifest = model.bundle.manifest
            self.counts.loaded(manifest.name, manifest.version, model.bundle.digest)
            return model
        except Exception as error:  # whatever it is, frames are answered
            ours = isinstance(error, MisgivingError)
            log.error("shadow does not load: %s; answers go out as ever", error, exc_info=not ours)
            return error


def _looked(model: Model | Exception, job: _Job) -> _Found | Exception:
    """Answer a frame at the regions of its first answer, and compare the two."""
    if isinstance(model, Exception):
        return model
    began = time.monotonic()
    try:
        persons = job.answer.persons
        said = answer(model, _asked(job.frame, job.answer), rounds=0)
        took_s = time.monotonic() - began
        shared = Shared.of(job.keypoints, model.bundle.manifest.keypoints)
        flag_from = _flag_from(model.bundle, job.ruling.threshold)
        pairs = zip(persons, said.persons, strict=True)
        return _Found([compared(*pair, shared, flag_from) for pair in pairs], took_s)
    except Exception as error:  # whatever it is, the next frame gets its chance
        return error


def _asked(frame: Frame, answer: Answer) -> Frame:
    """With the regions of its answer; without any where that was the whole frame, which is looked
    at without the padding of a region."""
    regions = tuple(person.region for person in answer.persons)
    if not frame.regions:
        frame = replace(frame, image=frame.decoded())
        height, width = frame.decoded().shape[:2]
        if regions == (Region(0, 0, width, height),):
            return frame
    return replace(frame, regions=regions)


def _flag_from(bundle: Bundle, asked: float | str | None) -> float | None:
    """The shadow's own threshold of a name; a number means nothing in another bundle's units."""
    if asked is None:
        return bundle.default_threshold
    return bundle.manifest.calibration.by_name().get(str(asked))


def _step_back() -> None:
    """Let everything else on the machine go first; elsewhere than on Linux a thread cannot."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):
            os.setpriority(
                os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS
            )
