"""Micro-batching: whatever waits goes through the engine together, up to ``max_batch`` crops,
and no more than its engine takes in one pass.

An idle engine never waits for company. The engine runs in one thread of its own, so that the
event loop keeps reading and answering. Axis: B batch.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.engines.base import Engine, Prediction, joined, rows
from misgiving.runtime.errors import EngineError, MisgivingError, ResourceExhausted

log = logging.getLogger(__name__)


class Places:
    """A bounded number of places, taken some at a time; first come, first served."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.taken = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def take(self, count: int) -> None:
        """Take places now.

        Raises:
            ResourceExhausted: that many are not free, or others wait for some.
        """
        if self._waiting or self.taken + count > self.capacity:
            raise ResourceExhausted(
                f"queue holds {self.taken} crops and {len(self._waiting)} more frames wait; "
                f"at most {self.capacity} crops are taken. Send fewer at a time, or try again later"
            )
        self.taken += count

    async def wait_for(self, count: int) -> None:
        """Take places as soon as they are free."""
        if not self._waiting and self.taken + count <= self.capacity:
            self.taken += count
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((count, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # granted in the same moment
                self.give_back(count)
            else:
                self._grant()
            raise

    def give_back(self, count: int) -> None:
        self.taken -= count
        self._grant()

    def _grant(self) -> None:
        while self._waiting:
            count, turn = self._waiting[0]
            if not turn.cancelled() and self.taken + count > self.capacity:
                return
            self._waiting.popleft()
            if not turn.cancelled():
                self.taken += count
                turn.set_result(None)


@dataclass(frozen=True, slots=True)
class Timing:
    """When a crop's batch ran, on the monotonic clock, in ns."""

    started: int
    finished: int


@dataclass(frozen=True, slots=True)
class _Item:
    engine: Engine
    crop: NDArray[np.uint8]
    outcome: "asyncio.Future[tuple[Prediction, Timing]]"


class Batcher:
    """Forms batches and runs them, one at a time.

    How much waits here is bounded by whoever submits, with :class:`Places`. An item whose
    caller was cancelled (its deadline passed, its client is gone) is not run.
    """

    def __init__(self, max_batch: int = 8) -> None:
        self._max_batch = max_batch
        self._queue: deque[_Item] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._idle = asyncio.Event()
        self._idle.set()

    async def infer(
        self, engine: Engine, crops: Sequence[NDArray[np.uint8]]
    ) -> tuple[Prediction, Timing]:
        """Answer some crops, at least one; they may travel in different batches.

        Args:
            engine: runs them; a batch has crops of one engine only.
            crops: of the engine's size.

        Raises:
            MisgivingError: the engine failed on a batch with one of these crops.
        """
        loop = asyncio.get_running_loop()
        items = [_Item(engine, crop, loop.create_future()) for crop in crops]
        self._queue.extend(items)
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
        if not (batch := self._form()):
            self._idle.set()
            return
        running = self._thread.submit(_run, batch[0].engine, [item.crop for item in batch])
        running.add_done_callback(
            lambda done: loop.call_soon_threadsafe(self._finished, loop, batch, done)
        )

    def _finished(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: "list[_Item]",
        done: "Future[list[tuple[Prediction, Timing]]]",
    ) -> None:
        self._run_next(loop)
        if (error := done.exception()) is not None:
            _fail(batch, error)
            return
        for item, outcome in zip(batch, done.result(), strict=True):
            if not item.outcome.done():
                item.outcome.set_result(outcome)

    def _form(self) -> list[_Item]:
        batch: list[_Item] = []
        while self._queue and len(batch) < self._max_batch:
            engine = self._queue[0].engine
            if batch and (engine is not batch[0].engine or len(batch) >= engine.max_batch):
                break
            item = self._queue.popleft()
            if not item.outcome.cancelled():
                batch.append(item)
        return batch


def _run(engine: Engine, crops: Sequence[NDArray[np.uint8]]) -> list[tuple[Prediction, Timing]]:
    """In the engine's thread: one row for each crop."""
    started = time.monotonic_ns()
    prediction = engine.infer(np.stack(crops))
    timing = Timing(started, time.monotonic_ns())
    if len(prediction) != len(crops):
        raise EngineError(f"graph answered {len(prediction)} rows; expected {len(crops)}")
    return [(rows(prediction, slice(i, i + 1)), timing) for i in range(len(crops))]


def _fail(batch: Sequence[_Item], error: BaseException) -> None:
    log.error("engine failed on a batch of %d", len(batch), exc_info=error)
    first_line = (str(error).splitlines() or [type(error).__name__])[0]
    for item in batch:
        if not item.outcome.done():
            failure = MisgivingError(
                f"engine failed on a batch of {len(batch)}: {first_line}; the server goes on. "
                "Send the frame again"
            )
            failure.__cause__ = error
            item.outcome.set_exception(failure)
