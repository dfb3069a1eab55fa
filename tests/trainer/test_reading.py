"""Reading ahead: the same persons in the same batches, while the caller is busy."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from misgiving.runtime.errors import ImageError
from misgiving.runtime.geometry import CropRule
from misgiving.trainer.answers import reading
from misgiving.trainer.answers.reading import batches
from misgiving.trainer.data import PoseSet, Sample
from misgiving.trainer.data.crops import evaluation_crop
from shared.training import people

RULE = CropRule(height=32, width=24, padding=1.25)


@pytest.fixture(scope="module")
def pool() -> PoseSet:
    return people(3, 7)


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    yield
    assert [t.name for t in threading.enumerate() if t.name.startswith("reader")] == []


@pytest.mark.parametrize("ahead", [1, 3, 128])  # less than a batch, no multiple, more than all
@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [
        (0, 2, []),
        (1, 2, [1]),
        (4, 2, [2, 2]),
        (7, 3, [3, 3, 1]),
    ],
)
def test_every_person_in_order(
    pool: PoseSet,
    ahead: int,
    count: int,
    size: int,
    sizes: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "AHEAD", ahead)
    got = list(batches((pool[i] for i in range(count)), RULE, size))
    assert [len(batch) for batch in got] == sizes
    persons = [person for batch in got for person in batch]
    assert tuple(person.id for person in persons) == pool.ids[:count]
    for person, sample in zip(persons, (pool[i] for i in range(count)), strict=True):
        crop, window = evaluation_crop(sample, RULE)
        np.testing.assert_array_equal(person.crop, crop)
        np.testing.assert_array_equal(person.points, sample.points)
        np.testing.assert_array_equal(person.labelled, sample.labelled)
        assert person.window == window


def test_it_reads_while_the_caller_is_busy_and_no_further_than_it_may(
    pool: PoseSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders: list[object] = []

    class Counting(ThreadPoolExecutor):
        def submit(self, *arguments: Any, **options: Any) -> Any:
            orders.append(arguments)
            return super().submit(*arguments, **options)

    monkeypatch.setattr(reading, "ThreadPoolExecutor", Counting)
    monkeypatch.setattr(reading, "AHEAD", 3)
    asked: list[str] = []
    as_far_as_may = threading.Event()

    def samples() -> Iterator[Sample]:
        while True:  # nobody asks for all of them
            asked.append(threading.current_thread().name)
            if len(asked) == 2 + 3:
                as_far_as_may.set()
            yield pool[len(asked) % 7]

    read = batches(samples(), RULE, 2)
    next(read)
    assert as_far_as_may.wait(60)
    read.close()  # type: ignore[attr-defined]
    assert len(asked) == len(orders) == 2 + 3
    assert {name.partition("_")[0] for name in asked} == {"reader"}


@pytest.mark.parametrize(("bad", "whole"), [(0, 0), (1, 0), (2, 1), (6, 3)])
def test_an_error_comes_where_the_person_would(pool: PoseSet, bad: int, whole: int) -> None:
    def samples() -> Iterator[Sample]:
        for index in range(7):
            if index == bad:
                raise ImageError(f"image {index} is corrupt")
            yield pool[index]

    read = batches(samples(), RULE, 2)
    for number in range(whole):
        assert [person.id for person in next(read)] == list(pool.ids[2 * number : 2 * number + 2])
    with pytest.raises(ImageError, match=f"image {bad} is corrupt"):
        next(read)
