"""How good poses are, and how good a score is at telling which of them are not.

Axes: N persons, K keypoints. Points in image px.
"""

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.keypoints import KeypointSet
from misgiving.trainer.measures import ranking
from misgiving.trainer.measures.ranking import Failures, Ranking

Floats = NDArray[np.floating]

PCK_THRESHOLD = 0.2
"""Of the torso's length: PCK@0.2, by which failures are told (PCK: Yang & Ramanan, TPAMI 2013)."""
FAILURE_BELOW = 0.5
"""A person of whose labelled joints less than this share is found has failed."""


def hits(
    predicted: Floats,
    true: Floats,
    labelled: NDArray[np.bool_],
    keypoints: KeypointSet,
    threshold: float = PCK_THRESHOLD,
) -> Floats:
    """Which joints are found: nearer to their label than a threshold.

    Args:
        predicted: (N, K, 2).
        true: (N, K, 2).
        labelled: (N, K).
        keypoints: says which diagonals make the torso.
        threshold: in torso lengths.

    Returns:
        (N, K) of 1 and 0, NaN where a joint is not labelled, and for the whole person where a
        torso joint is not: the measure is then undefined.
    """
    torso = _torsos(true, labelled, keypoints)[:, None]
    distance = np.linalg.norm(predicted - true, axis=-1)
    found = (distance < threshold * torso).astype(float)
    return np.where(labelled & np.isfinite(torso), found, np.nan)


def person_error(
    predicted: Floats, true: Floats, labelled: NDArray[np.bool_], keypoints: KeypointSet
) -> Floats:
    """Each person's mean distance of labelled joints from their labels, in torso lengths, (N,).

    Arguments as :func:`hits`. NaN where that is, and infinite for a prediction that is no number
    or a torso without length.
    """
    torso = _torsos(true, labelled, keypoints)
    distance = np.linalg.norm(predicted - true, axis=-1)
    total = np.where(labelled, distance, 0.0).sum(1)
    whole = labelled.sum(1) * torso
    error = np.divide(total, whole, out=np.full(len(total), np.inf), where=whole > 0)
    error[np.isnan(error)] = np.inf
    return np.where(np.isfinite(torso), error, np.nan)


def _torsos(true: Floats, labelled: NDArray[np.bool_], keypoints: KeypointSet) -> Floats:
    pairs = zip(true, labelled, strict=True)
    return np.array([keypoints.torso_size(points, mask) for points, mask in pairs], float)


def pck(found: Floats) -> float:
    """Mean over joints of the share found, from (N, K) hits; NaN where nothing is defined."""
    return float(weighted_pck(found, np.ones((len(found), 1)))[0])


def weighted_pck(found: Floats, weights: Floats) -> Floats:
    """The same for each way, (R,), to count the persons with weights (N, R)."""
    counts = np.isfinite(found).astype(float).T @ weights
    rates = ranking.ratio(np.nan_to_num(found).T @ weights, counts)
    return ranking.ratio(np.nansum(rates, axis=0), (counts > 0).sum(0))


def person_pck(found: Floats) -> Floats:
    """Each person's share of labelled joints found, (N,); NaN where undefined."""
    counts = np.isfinite(found).sum(1)
    shares = np.nansum(found, axis=1) / np.maximum(counts, 1)
    return np.where(counts > 0, shares, np.nan)


def failed(
    found: Floats, below: float = FAILURE_BELOW
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Who has failed, of those for whom it is defined, (M,), and for whom it is, (N,).

    From (N, K) hits: of a failed person's labelled joints less than a share of ``below`` is found.
    """
    shares = person_pck(found)
    defined = np.isfinite(shares)
    return shares[defined] < below, defined


def auroc(score: Floats, failed: NDArray[np.bool_]) -> float:
    """Probability that a failed person scores above another, ties half; NaN without both kinds."""
    return float(Failures.of(Ranking.of(score), failed, np.ones((len(score), 1))).auroc()[0])


def spearman(first: Floats, second: Floats) -> float:
    """Spearman's rank correlation of two vectors (N,); NaN where one is constant or holds NaN."""
    if np.isnan(first).any() or np.isnan(second).any():
        return float("nan")
    one = np.ones((len(first), 1))
    return float(ranking.spearman(Ranking.of(first), Ranking.of(second), one)[0])
