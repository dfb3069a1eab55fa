"""Micro-batching: whatever waits goes through the engine together, up to ``max_batch`` crops,
and no more than its engine takes in one pass.

An idle engine never waits for company. Frames with many crops take turns with the others, a crop
at a time, so that a crowd delays nobody else. The engine runs in one thread of its own, so that the
event loop keeps reading and answering. Axis: B batch.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from threading import Thread
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.engines.base import Engine, Prediction, joined, rows
from misgiving.runtime.errors import EngineError, MisgivingError
from misgiving.runtime.serving.vitals import Vitals

log = logging.getLogger(__name__)

MAX_BATCH = 8
"""Crops that go through an engine together, at most."""


class Turns:
    """One at a time of each name; first come, first served."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, name: str) -> asyncio.Lock:
        """Held by whoever's turn it is; forgotten once nobody holds it or waits."""
        return self._locks.setdefault(name, asyncio.Lock())


@dataclass(frozen=True, slots=True)
class Timing:
    """When a crop's batch ran, on the monotonic clock, in ns."""

    started: int
    finished: int


_Outcome = tuple[Prediction, Timing]
_Outcomes = list[_Outcome] | BaseException
_Work = Callable[[], list[_Outcome]]
_Tell = Callable[[_Outcomes], object]


@dataclass(frozen=True, slots=True)
class _Item:
    crop: NDArray[np.uint8]
    outcome: "asyncio.Future[_Outcome]"


@dataclass(frozen=True, slots=True)
class _Group:
    """What is left of one frame's crops, and whom to tell that none is."""

    engine: Engine
    items: deque[_Item]
    begun: Callable[[], None]


class EngineThread:
    """Runs what it is given, in order. An executor's future costs a frame more than this does,
    and keeps the interpreter busy after the event loop was told."""

    def __init__(self) -> None:
        self._given: SimpleQueue[tuple[_Work, _Tell] | None] = SimpleQueue()
        self._thread = Thread(target=self._loop, name="engine", daemon=True)
        self._thread.start()

    def run(self, work: _Work, tell: _Tell) -> None:
        """Do some work there, and tell its outcome, there as well."""
        self._given.put((work, tell))

    def shutdown(self) -> None:
        """Finish what was given, and end."""
        self._given.put(None)
        self._thread.join()

    def _loop(self) -> None:
        while (given := self._given.get()) is not None:
            work, tell = given
            try:
                outcome: _Outcomes = work()
            except BaseException as error:  # whatever it is, those who wait hear of it
                outcome = error
            with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody waits
                tell(outcome)
            del given, work, tell, outcome  # the crops need not live until the next batch


class Batcher:
    """Forms batches and runs them, one at a time.

    How much waits here is bounded by whoever submits, see ``places.py``. An item whose
    caller was cancelled (its deadline passed, its client is gone) is not run.
    """

    def __init__(self, max_batch: int = MAX_BATCH) -> None:
        self._max_batch = max_batch
        self.crop_s = 0.0
        """What a crop of the last batch took."""
        self.vitals = Vitals()
        self.judged: Engine | None = None
        """Whose failures count; None for every engine's."""
        self._queue: deque[_Group] = deque()
        self._thread = EngineThread()
        self._idle = asyncio.Event()
        self._idle.set()

    async def infer(
        self,
        engine: Engine,
        crops: Sequence[NDArray[np.uint8]],
        begun: Callable[[], None] = lambda: None,
    ) -> tuple[Prediction, Timing]:
        """Answer some crops, at least one; they may travel in different batches.

        Args:
            engine: runs them; a batch has crops of one engine only.
            crops: of the engine's size.
            begun: called as soon as none of them waits for the engine.

        Raises:
            MisgivingError: the engine failed on a batch with one of these crops.
        """
        loop = asyncio.get_running_loop()
        items = [_Item(crop, loop.create_future()) for crop in crops]
        self._queue.append(_Group(engine, deque(items), begun))
        if self._idle.is_set():
            self._idle.clear()
            self._run_next(loop)
        if len(items) == 1:  # the usual case, without a task of its own
            return await items[0].outcome
        try:
            outcomes = await asyncio.gather(*(item.outcome for item in items))
        finally:
            for item in items:
                item.outcome.cancel()
        predictions, timings = zip(*outcomes, strict=True)
        return joined(predictions), Timing(
            min(timing.started for timing in timings), max(timing.finished for timing in timings)
        )

    async def close(self) -> None:
        """Finish what waits, and stop the thread."""
        await self._idle.wait()
        self._thread.shutdown()

    def _run_next(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give the engine what waits; its thread calls back, so that it stands still no longer
        than that takes."""
        engine, batch = self._form()
        if engine is None:
            self._idle.set()
            return
        self.vitals.began(time.monotonic())
        crops = [item.crop for item in batch]

        def tell(outcomes: _Outcomes) -> None:
            loop.call_soon_threadsafe(self._finished, loop, engine, batch, outcomes)

        self._thread.run(partial(_infer, engine, crops), tell)

    def _finished(
        self,
        loop: asyncio.AbstractEventLoop,
        engine: Engine,
        batch: list[_Item],
        outcomes: _Outcomes,
    ) -> None:
        counts = self.judged is None or engine is self.judged
        self.vitals.ended(well=not isinstance(outcomes, BaseException), counts=counts)
        self._run_next(loop)
        if isinstance(outcomes, BaseException):
            first = counts and self.vitals.failures == 1
            _fail(batch, outcomes, logging.ERROR if first else logging.DEBUG)
            return
        _, timing = outcomes[0]
        self.crop_s = (timing.finished - timing.started) / 1e9 / len(batch)
        for item, outcome in zip(batch, outcomes, strict=True):
            if not item.outcome.done():
                item.outcome.set_result(outcome)

    def _form(self) -> tuple[Engine | None, list[_Item]]:
        """The next batch, of whichever engine is first; None where nothing waits."""
        engine: Engine | None = None
        batch: list[_Item] = []
        others: list[_Group] = []
        while self._queue and len(batch) < self._limit(engine):
            group = self._queue.popleft()
            if batch and group.engine is not engine:
                others.append(group)
                continue
            item = group.items.popleft()
            if group.items:
                self._queue.append(group)
            else:
                group.begun()
            if not item.outcome.cancelled():
                engine = group.engine
                batch.append(item)
        self._queue.extendleft(reversed(others))
        return engine, batch

    def _limit(self, engine: Engine | None) -> int:
        return min(self._max_batch, engine.max_batch) if engine else self._max_batch


def _infer(engine: Engine, crops: Sequence[NDArray[np.uint8]]) -> list[_Outcome]:
    """One row for each crop."""
    started = time.monotonic_ns()
    single = len(crops) == 1  # the usual case: nothing to put together, nothing to take apart
    prediction = engine.infer(crops[0][None] if single else np.stack(crops))
    timing = Timing(started, time.monotonic_ns())
    if len(prediction) != len(crops):
        raise EngineError(f"graph answered {len(prediction)} rows; expected {len(crops)}")
    if single:
        return [(prediction, timing)]
    return [(rows(prediction, slice(i, i + 1)), timing) for i in range(len(crops))]


def _fail(batch: Sequence[_Item], error: BaseException, level: int) -> None:
    """Of failures in a row the first is told: at a camera's rate the others would fill the disk."""
    log.log(level, "engine failed on a batch of %d", len(batch), exc_info=error)
    first_line = (str(error).splitlines() or [type(error).__name__])[0]
    for item in batch:
        if not item.outcome.done():
            failure = MisgivingError(
                f"engine failed on a batch of {len(batch)}: {first_line}; the server goes on. "
                "Send the frame again"
            )
            failure.__cause__ = error
            item.outcome.set_exception(failure)
