"""Persons read and cut on a thread of their own, while the caller's network computes."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.geometry import CropRule, Window
from misgiving.trainer import progress
from misgiving.trainer.data.base import Collected, PoseSet, Sample
from misgiving.trainer.data.crops import evaluation_crop
from misgiving.trainer.data.readable import Readable, asked_window

BATCH = 64
AHEAD = 2 * BATCH
"""Crops that wait for the network at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """What is kept of a sample: whole images of a batch would not fit."""

    id: str
    image: str
    """The file that the person is in, or the person's own id."""
    crop: NDArray[np.uint8]
    """(H, W, 3), as the runtime would cut it."""
    window: Window
    points: NDArray[np.float32]
    """(K, 2), image px; meaningless where not labelled."""
    labelled: NDArray[np.bool_]
    """(K,)"""
    area: float
    """px²; NaN where the data set has none."""
    head_diagonal: float
    """px, of the head's box; NaN where the data set has none."""
    collected: Collected | None
    """How the fleet came to keep the person, where it did."""


def read_all(data: PoseSet, rule: CropRule) -> tuple[PoseSet, tuple[Person, ...]]:
    """Everybody who can be read, cut once, and the set without the others; shows progress.

    The crops of all are kept, in one array.

    Raises:
        DataError: too many cannot be read.
    """
    reader = Readable(data, lambda sample: asked_window(sample, rule))
    samples = reader.samples(progress.counted(len(data), "reading"))
    crops = np.empty((len(data), rule.height, rule.width, 3), np.uint8)
    persons = []
    for sample, room in zip(samples, crops, strict=False):
        person = _cut(sample, rule)
        room[:] = person.crop
        persons.append(replace(person, crop=room))
    return reader.kept(), tuple(persons)


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
    head = sample.head_box
    return Person(
        id=sample.id,
        image=str(sample.path or sample.id),
        crop=crop,
        window=window,
        points=sample.points,
        labelled=sample.labelled,
        area=np.nan if sample.area is None else sample.area,
        head_diagonal=np.nan if head is None else float(np.hypot(head.width, head.height)),
        collected=sample.collected,
    )


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
