"""The worst frames, spread over what they show.

k-means cuts the frames into cells by their embeddings. The worst frame of each cell comes first,
the worst of these before the others, then the second of each cell, and so on. A cell that has
labelled frames waits for one turn.

Axes: N frames, M labelled frames, D embedding.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Places = NDArray[np.int64]

CELLS, MOST_CELLS = 2, 4096
"""For each frame picked; in all."""
ROUNDS, PER_CELL = 10, 64
"""Of k-means; how many frames for each cell it learns from."""
_BLOCK, _SEED = 65_536, 1
REPEAT, _UNKNOWN = 2**40, 2**41
"""Turns behind all others."""


def pick_diverse(
    embeddings: Floats, scores: Floats, count: int, labelled: Floats | None = None
) -> Places:
    """The worst frames, spread over what they show, away from what is labelled.

    The answer is the same each time. Beside the arguments it takes about 400 bytes for each frame,
    and up to 64 · 4096 · D · 4 bytes to learn from.

    >>> rng = np.random.default_rng(0)
    >>> pick_diverse(rng.normal(size=(1000, 64)), rng.random(1000), 20).shape
    (20,)

    Args:
        embeddings: (N, D), of one bundle; only their directions count.
        scores: (N,), the higher the worse.
        count: of the picks.
        labelled: (M, D), of the same bundle.

    Returns:
        Positions (min(count, N),) in the order of picking. Frames whose embedding is that of a
        worse or a labelled one come behind the others; those whose embedding or score is not
        finite come last.
    """
    return np.lexsort((-scores, turns_of(embeddings, scores, CELLS * count, labelled)))[:count]


def turns_of(
    embeddings: Floats, scores: Floats, cells: int, labelled: Floats | None = None
) -> Places:
    """In which turn (N,) each frame is picked, from 0 on; the worse ones of a turn go first.

    Args:
        embeddings: as in :func:`pick_diverse`, likewise the others.
        scores: see there.
        cells: into which the frames are cut; at most MOST_CELLS, and half as many as frames.
        labelled: see there.
    """
    labelled = np.empty((0, embeddings.shape[1])) if labelled is None else labelled
    labelled = labelled[_have_direction(labelled)]
    known = np.flatnonzero(_have_direction(embeddings) & np.isfinite(scores))
    worst = known[np.argsort(-scores[known], kind="stable")]
    names = _names(embeddings, worst)
    fresh = np.zeros(len(worst), bool)
    fresh[np.unique(names, return_index=True)[1]] = True
    fresh &= ~np.isin(names, _names(labelled, np.arange(len(labelled))))
    turns = np.full(len(embeddings), _UNKNOWN)
    turns[worst[~fresh]] = REPEAT
    if len(worst := worst[fresh]):
        cells = max(1, min(cells, MOST_CELLS, len(worst) // 2))
        index = _learned(embeddings, worst, cells)
        cell = _nearest(index, embeddings, worst)
        seen = np.isin(cell, _nearest(index, labelled, np.arange(len(labelled))))
        turns[worst] = _ranks(cell) + seen
    return turns


def _have_direction(rows: Floats) -> NDArray[np.bool_]:
    squares = np.einsum("nd,nd->n", rows, rows)
    has: NDArray[np.bool_] = np.isfinite(squares) & (squares > 0)
    return has


def _names(rows: Floats, places: Places) -> Places:
    """A number for each row, the same for rows that are the same."""
    return np.fromiter((hash(rows[at].tobytes()) for at in places), np.int64, len(places))


def _learned(rows: Floats, places: Places, cells: int) -> Any:
    """faiss's index of the cells' centres."""
    import faiss

    rng = np.random.default_rng(_SEED)
    some = rng.choice(places, min(len(places), PER_CELL * cells), replace=False)
    means = faiss.Kmeans(
        rows.shape[1], cells, niter=ROUNDS, seed=_SEED, spherical=True, min_points_per_centroid=1
    )
    means.train(_directions(rows[np.sort(some)]))
    return means.index


def _nearest(index: Any, rows: Floats, places: Places) -> Places:
    """The cell of each row."""
    found = np.empty(len(places), np.int64)
    for start in range(0, len(places), _BLOCK):
        part = places[start : start + _BLOCK]
        found[start : start + _BLOCK] = index.search(_directions(rows[part]), 1)[1][:, 0]
    return found


def _directions(rows: Floats) -> NDArray[np.float32]:
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return np.ascontiguousarray(rows / lengths, np.float32)


def _ranks(groups: Places) -> Places:
    """How many before it are of the same group, for each."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    ranks = np.empty(len(groups), np.int64)
    ranks[order] = np.arange(len(groups)) - np.searchsorted(ordered, ordered)
    return ranks
