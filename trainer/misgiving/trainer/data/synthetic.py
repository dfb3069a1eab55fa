"""The synthetic data set: rendered people with exact labels, made from a seed when read."""

import numpy as np

from misgiving.runtime import keypoints
from misgiving.trainer.data.base import PoseSet, Sample
from misgiving.trainer.data.rendering import render_person


def open_synthetic(seed: int, count: int, difficulty: tuple[float, float] = (0.0, 1.0)) -> PoseSet:
    """``count`` synthetic people; number i depends on the seed, i and the difficulty alone.

    Args:
        seed: another seed gives other people.
        count: how many.
        difficulty: each person's is uniform between these two, within 0 and 1.
    """
    low, high = difficulty

    def read(index: int) -> Sample:
        rng = np.random.default_rng([seed, index])
        drawn = render_person(rng, low + (high - low) * rng.random())
        return Sample(_id(seed, index), drawn.image, drawn.points, np.ones(len(drawn.points), bool))

    spec = f"synthetic:{seed},{count},{low:g}-{high:g}"
    ids = tuple(_id(seed, i) for i in range(count))
    labelled = np.broadcast_to(np.True_, (count, len(keypoints.LSP)))
    return PoseSet(spec, keypoints.LSP, ids, read, labelled)


def _id(seed: int, index: int) -> str:
    return f"synthetic/{seed}/{index:05d}"
