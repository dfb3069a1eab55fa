"""Ask a bundle about a data set: what the vehicle would answer, person by person.

Axes: N persons, K keypoints, S signals, D embedding.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime import geometry
from misgiving.runtime.estimator import Estimator
from misgiving.trainer.data.base import Sample
from misgiving.trainer.data.crops import evaluation_crop

BATCH = 64

_Waiting = tuple[str, NDArray[np.uint8], geometry.Window]
"""A person's id, crop and window."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a bundle says of some persons; the manifest names keypoints and signals."""

    ids: tuple[str, ...]
    points: NDArray[np.float32]
    """(N, K, 2), image px."""
    confidence: NDArray[np.float32]
    """(N, K)"""
    predicted_loss: NDArray[np.float32]
    """(N,)"""
    signals: NDArray[np.float32]
    """(N, S)"""
    embedding: NDArray[np.float32]
    """(N, D)"""

    def __len__(self) -> int:
        return len(self.ids)


def ask(estimator: Estimator, samples: Iterable[Sample], batch: int = BATCH) -> Iterator[Answers]:
    """Answer persons in order, ``batch`` at a time; no more than these are in memory.

    Args:
        estimator: with the bundle and its engine.
        samples: the persons, on the crops that the runtime would cut.
        batch: persons of one pass.
    """
    rule = estimator.bundle.manifest.crop
    waiting: list[_Waiting] = []
    for sample in samples:  # whole images would not fit, so they are cut at once
        waiting.append((sample.id, *evaluation_crop(sample, rule)))
        if len(waiting) == batch:
            yield _answer(estimator, waiting)
            waiting = []
    if waiting:
        yield _answer(estimator, waiting)


def _answer(estimator: Estimator, waiting: list[_Waiting]) -> Answers:
    rule = estimator.bundle.manifest.crop
    ids, crops, windows = zip(*waiting, strict=True)
    got = estimator.engine.infer(np.stack(crops))
    points = [
        geometry.input_to_image(row, window, rule.height, rule.width)
        for row, window in zip(got.keypoints[..., :2], windows, strict=True)
    ]
    return Answers(
        ids=ids,
        points=np.stack(points).astype(np.float32),
        confidence=got.keypoints[..., 2],
        predicted_loss=got.predicted_loss,
        signals=got.signals,
        embedding=got.embedding,
    )
