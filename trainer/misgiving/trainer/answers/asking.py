"""Ask a bundle about a data set: what the vehicle would answer, person by person.

Axes: N persons, K keypoints, S signals, D embedding.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime import geometry
from misgiving.runtime.estimator import Estimator
from misgiving.trainer.answers.reading import BATCH, Person, batches
from misgiving.trainer.data.base import Sample


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
    keypoint_loss: NDArray[np.float32]
    """(N, K), or (N, 0) of a bundle that does not tell joints apart."""

    def __len__(self) -> int:
        return len(self.ids)


def ask(estimator: Estimator, samples: Iterable[Sample], batch: int = BATCH) -> Iterator[Answers]:
    """Answer persons in order, ``batch`` at a time; see :func:`reading.batches`.

    Args:
        estimator: with the bundle and its engine.
        samples: the persons, on the crops that the runtime would cut; drawn from on another thread.
        batch: persons of one pass.
    """
    for persons in batches(samples, estimator.bundle.manifest.crop, batch):
        yield answer(estimator, persons)


def answer(estimator: Estimator, persons: tuple[Person, ...]) -> Answers:
    """Answer persons who are cut already, in one pass."""
    rule = estimator.bundle.manifest.crop
    got = estimator.engine.infer(np.stack([person.crop for person in persons]))
    points, windows = got.keypoints[..., :2], [person.window for person in persons]
    return Answers(
        ids=tuple(person.id for person in persons),
        points=geometry.inputs_to_images(points, windows, rule.height, rule.width),
        confidence=got.keypoints[..., 2],
        predicted_loss=got.predicted_loss,
        signals=got.signals,
        embedding=got.embedding,
        keypoint_loss=got.keypoint_loss,
    )
