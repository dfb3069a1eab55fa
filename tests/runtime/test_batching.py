"""A real engine behind a gate: the test decides when it runs, and sees what went through it."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from misgiving.runtime.engines.base import Prediction
from misgiving.runtime.errors import MisgivingError
from misgiving.runtime.serving.batching import Batcher
from shared.serving import DEADLINE_S, Gated
from shared.tiny import HEIGHT, WIDTH


def crop(brightness: int = 0) -> NDArray[np.uint8]:
    return np.full((HEIGHT, WIDTH, 3), brightness, np.uint8)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


@dataclass
class Batching:
    """A batcher and the engine that all crops are for, but where a test says otherwise."""

    batcher: Batcher
    engine: Gated

    def infer(self, crops: Sequence[NDArray[np.uint8]]) -> Coroutine[Any, Any, Any]:
        return self.batcher.infer(self.engine, crops)


@asynccontextmanager
async def batching(gate: Gated, max_batch: int = 4) -> AsyncIterator[Batching]:
    batcher = Batcher(max_batch)
    try:
        yield Batching(batcher, gate)
    finally:
        gate.permits.release(100)
        await batcher.close()


async def entered(gate: Gated) -> None:
    await asyncio.to_thread(gate.entered.acquire)


def start(batcher: Batching, *brightness: int) -> "asyncio.Task[Any]":
    return asyncio.create_task(batcher.infer([crop(b) for b in brightness]))


def losses(prediction: Prediction) -> list[float]:
    return [round(float(x), 3) for x in prediction.predicted_loss]


def test_what_waits_travels_together_and_answers_go_home() -> None:
    async def test() -> None:
        async with batching(gate := Gated()) as batcher:
            first = start(batcher, 255)
            await entered(gate)  # an idle engine did not wait for company
            others = [start(batcher, b) for b in (0, 51, 102, 153, 204)]
            await asyncio.sleep(0)  # lets the tasks submit
            gate.permits.release(3)
            answers = [losses((await task)[0]) for task in (first, *others)]
            assert answers == [[0.0], [1.0], [0.8], [0.6], [0.4], [0.2]]
            assert gate.sizes == [1, 4, 1]
            assert len(gate.threads) == 1
            assert threading.get_ident() not in gate.threads

    run(test())


def test_many_crops_of_a_frame_come_back_in_order() -> None:
    async def test() -> None:
        async with batching(gate := Gated(permits=100)) as batcher:
            prediction, timing = await batcher.infer([crop(b) for b in range(0, 255, 51)])
            assert losses(prediction) == [1.0, 0.8, 0.6, 0.4, 0.2]
            assert gate.sizes == [4, 1]
            assert prediction.keypoints.shape == (5, 14, 3)
            assert timing.finished > timing.started

    run(test())


def test_the_loop_runs_while_the_engine_does() -> None:
    async def test() -> None:
        async with batching(gate := Gated()) as batcher:
            task = start(batcher, 255)
            await entered(gate)
            assert not task.done()
            gate.permits.release(1)  # which nobody could give from a loop that waits itself
            assert losses((await task)[0]) == [0.0]
            assert threading.get_ident() not in gate.threads

    run(test())


def test_an_item_whose_caller_is_gone_is_not_run() -> None:
    async def test() -> None:
        async with batching(gate := Gated()) as batcher:
            first = start(batcher, 0)
            await entered(gate)
            gone, stays = start(batcher, 1, 2, 3), start(batcher, 255)
            await asyncio.sleep(0)
            gone.cancel()
            gate.permits.release(2)
            assert losses((await stays)[0]) == [0.0]
            await first
            assert gate.sizes == [1, 1]
            assert gone.cancelled()

    run(test())


def test_a_deadline_that_passes_while_the_engine_runs() -> None:
    async def test() -> None:
        async with batching(gate := Gated()) as batcher:
            task = start(batcher, 0)
            await entered(gate)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            gate.permits.release(2)  # its answer finds nobody; the next one is served
            assert losses((await batcher.infer([crop(255)]))[0]) == [0.0]

    run(test())


def test_an_idle_engine_is_given_a_crop_at_once() -> None:
    """Not in the loop's next round: small frames would wait for it."""

    async def test() -> None:
        async with batching(gate := Gated(permits=1)) as batcher:
            asked = batcher.infer([crop(255)])
            asked.send(None)  # up to its first wait
            assert gate.entered.acquire(timeout=DEADLINE_S)  # the loop stands still
            asked.close()

    run(test())


def test_an_engine_error_fails_its_batch_only(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with batching(gate := Gated(permits=1), max_batch=2) as batcher:
            first = start(batcher, 255)
            bad = [start(batcher, 0), start(batcher, 0)]
            good = start(batcher, 255)
            await first
            gate.error = RuntimeError("out of memory\nand a long story")
            gate.permits.release(2)
            for task in bad:
                with pytest.raises(MisgivingError) as caught:
                    await task
                assert str(caught.value) == (
                    "engine failed on a batch of 2: out of memory; the server goes on. "
                    "Send the frame again"
                )
                assert caught.value.status == "INTERNAL"
            assert losses((await good)[0]) == [0.0]

    run(test())
    assert "long story" in caplog.text  # the whole of it goes into the log


def test_a_crop_that_does_not_fit_fails_and_the_next_is_served() -> None:
    async def test() -> None:
        async with batching(Gated(permits=100)) as batcher:
            with pytest.raises(MisgivingError, match="engine failed"):
                await batcher.infer([np.zeros((3, 3, 3), np.uint8)])
            assert losses((await batcher.infer([crop(255)]))[0]) == [0.0]

    run(test())


def test_of_failures_in_a_row_the_first_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with batching(Gated(permits=100)) as batcher:
            for fits in (False, False, False, True, False):
                asked = batcher.infer([crop(0) if fits else np.zeros((3, 3, 3), np.uint8)])
                with nullcontext() if fits else pytest.raises(MisgivingError):
                    await asked

    with caplog.at_level(logging.ERROR):
        run(test())
    assert [one.getMessage() for one in caplog.records] == ["engine failed on a batch of 1"] * 2


def test_a_batch_is_of_one_engine() -> None:
    """Two that wait at once, as during a switch, run one after the other."""

    async def test() -> None:
        other = Gated(permits=100)
        async with batching(gate := Gated()) as batcher:
            first = start(batcher, 255)
            await entered(gate)
            second = start(batcher, 0)
            third = asyncio.create_task(batcher.batcher.infer(other, [crop(51), crop(102)]))
            fourth = start(batcher, 255)
            await asyncio.sleep(0)
            gate.permits.release(100)
            answers = [losses((await task)[0]) for task in (first, second, third, fourth)]
            assert answers == [[0.0], [1.0], [0.8, 0.6], [0.0]]
            assert (gate.sizes, other.sizes) == ([1, 2], [2])

    run(test())


def test_a_crowd_and_a_single_person_take_turns() -> None:
    async def test() -> None:
        async with batching(gate := Gated()) as batcher:
            first = start(batcher, 255)
            await entered(gate)
            crowd, single = start(batcher, *[51] * 9), start(batcher, 204)
            await asyncio.sleep(0)
            gate.permits.release(2)
            assert losses((await single)[0]) == [0.2]  # with the crowd's first three
            assert not crowd.done()
            gate.permits.release(100)
            assert losses((await crowd)[0]) == [0.8] * 9
            await first
            assert gate.sizes == [1, 4, 4, 2]

    run(test())


def test_closing_finishes_what_waits() -> None:
    async def test() -> None:
        batcher = Batching(Batcher(max_batch=1), Gated(permits=100))
        tasks = [start(batcher, 255) for _ in range(3)]
        await asyncio.sleep(0)
        await batcher.batcher.close()
        assert [losses((await task)[0]) for task in tasks] == [[0.0]] * 3

    run(test())
