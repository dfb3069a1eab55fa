"""Persons read and cut on a thread of their own, while the caller's network computes."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.geometry import CropRule, Window
from misgiving.trainer.data.base import Sample
from misgiving.trainer.data.crops import evaluation_crop

BATCH = 64
AHEAD = 2 * BATCH
"""Crops that wait for the network at most."""


@dataclass(frozen=True, slots=True)
class Person:
    """What is kept of a sample: whole images of a batch would not fit."""

    id: str
    crop: NDArray[np.uint8]
    """(H, W, 3), as the runtime would cut it."""
    window: Window
    points: NDArray[np.float32]
    """(K, 2), image px; meaningless where not labelled."""
    labelled: NDArray[np.bool_]
    """(K,)"""


def batches(samples: Iterable[Sample], rule: CropRule, size: int) -> Iterator[tuple[Person, ...]]:
    """Persons in order, ``size`` at a time, read while the caller is busy with those before.

    ``samples`` is drawn from on another thread, at most AHEAD persons before the caller needs
    them. What it raises, the caller gets after the whole batches before it.
    """
    persons = _ahead((_cut(sample, rule) for sample in samples), AHEAD)
    while batch := tuple(islice(persons, size)):
        yield batch


def _cut(sample: Sample, rule: CropRule) -> Person:
    crop, window = evaluation_crop(sample, rule)
    return Person(sample.id, crop, window, sample.points, sample.labelled)


def _ahead(persons: Iterator[Person], limit: int) -> Iterator[Person]:
    """The same persons, drawn by another thread, which has ended when this has."""
    reader = ThreadPoolExecutor(1, "reader")

    def ask() -> "Future[Person | None]":
        return reader.submit(next, persons, None)

    try:
        asked = deque(ask() for _ in range(limit))
        while person := asked.popleft().result():
            asked.append(ask())
            yield person
    finally:
        reader.shutdown(cancel_futures=True)
