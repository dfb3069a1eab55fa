"""Core-set: k-centre greedy (Sener & Savarese, ICLR 2018).

Picks, again and again, the person whose embedding is farthest (Euclidean) from its nearest
labelled or picked one. Without anybody labelled the first is the one nearest to the pool's mean.

Axes: N persons of the pool, C centres, D embedding. Time is O((M + budget) · N · D); beside the
embeddings, which may be memory-mapped, there are O(N) distances and one block.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from misgiving.trainer.samplers.base import Candidates, Floats, check_budget, finite_rows

ROWS, CENTRES = 4096, 256
"""Of a block, 8 MiB of distances."""


def coreset(candidates: Candidates, budget: int, rng: np.random.Generator) -> list[int]:
    """``budget`` positions, farthest first, the pool's first among equals.

    Persons without a finite embedding are neither picked nor anybody's nearest.

    Raises:
        InvalidInput: fewer than ``budget`` persons have a finite embedding.
    """
    return k_centre(candidates.embedding(), candidates.labelled_embedding(), budget)


def k_centre(embedding: Floats, labelled: Floats, budget: int) -> list[int]:
    """As ``coreset``, of any rows (N, D) with (M, D) centres to begin with."""
    usable = finite_rows(embedding)
    check_budget(budget, int(usable.sum()), "with a finite embedding")
    centres = labelled[finite_rows(labelled)]
    distance = np.where(usable, to_nearest(embedding, centres), -np.inf)
    picked: list[int] = []
    while len(picked) < budget:
        begun = picked or len(centres)
        best = int(distance.argmax()) if begun else _nearest_to_mean(embedding, usable)
        picked.append(best)
        _approach(distance, embedding, embedding[best : best + 1])
        distance[best] = -np.inf  # below a duplicate's zero
    return picked


def to_nearest(embedding: Floats, centres: Floats) -> NDArray[np.float64]:
    """Squared distance (N,) of each row to the nearest of (C, D) centres; inf where C is 0."""
    distance = np.full(len(embedding), np.inf)
    for start in range(0, len(centres), CENTRES):
        _approach(distance, embedding, centres[start : start + CENTRES])
    return distance


def _approach(distance: NDArray[np.float64], embedding: Floats, centres: Floats) -> None:
    """Lower each squared distance (N,) to that of the nearest of some centres (C, D).

    From differences and not from products, so that a duplicate is at exactly zero.
    """
    for start in range(0, len(embedding), ROWS):
        rows = slice(start, start + ROWS)
        nearest = cdist(embedding[rows], centres, "sqeuclidean").min(axis=1)
        np.fmin(distance[rows], nearest, out=distance[rows])  # past rows that are not finite


def _nearest_to_mean(embedding: Floats, usable: NDArray[np.bool_]) -> int:
    mean = np.asarray(np.mean(embedding, axis=0, dtype=np.float64, where=usable[:, None]))
    return int(to_nearest(embedding, mean[None]).argmin())
