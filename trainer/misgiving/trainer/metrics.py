"""How good poses are, and how good a score is at telling which of them are not.

Axes: N persons, K keypoints. Points in image px.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from misgiving.runtime.keypoints import KeypointSet

Floats = NDArray[np.floating]

PCK_THRESHOLD = 0.2
"""Of the torso's length."""
FAILURE_BELOW = 0.5
"""A person of whose labelled joints less than this share is found has failed."""


def hits(
    predicted: Floats, true: Floats, labelled: NDArray[np.bool_], keypoints: KeypointSet
) -> Floats:
    """Which joints are found: nearer than PCK_THRESHOLD torso lengths to their label.

    Args:
        predicted: (N, K, 2).
        true: (N, K, 2).
        labelled: (N, K).
        keypoints: says which diagonals make the torso.

    Returns:
        (N, K) of 1 and 0, NaN where a joint is not labelled, and for the whole person where a
        torso joint is not: the measure is then undefined.
    """
    torso = np.array(
        [keypoints.torso_size(p, mask) for p, mask in zip(true, labelled, strict=True)], float
    ).reshape(-1, 1)
    distance = np.linalg.norm(predicted - true, axis=-1)
    found = (distance < PCK_THRESHOLD * torso).astype(float)
    return np.where(labelled & np.isfinite(torso), found, np.nan)


def pck(found: Floats) -> float:
    """Mean over joints of the share found, from (N, K) hits; NaN where nothing is defined."""
    counts = np.isfinite(found).sum(0)
    if not counts.any():
        return float("nan")
    rates = np.nansum(found, axis=0)[counts > 0] / counts[counts > 0]
    return float(rates.mean())


def person_pck(found: Floats) -> Floats:
    """Each person's share of labelled joints found, (N,); NaN where undefined."""
    counts = np.isfinite(found).sum(1)
    shares = np.nansum(found, axis=1) / np.maximum(counts, 1)
    return np.where(counts > 0, shares, np.nan)


def auroc(score: Floats, failed: NDArray[np.bool_]) -> float:
    """Probability that a failed person scores above another, ties half; NaN without both kinds."""
    failures, rest = int(failed.sum()), int((~failed).sum())
    if failures == 0 or rest == 0:
        return float("nan")
    ranks = stats.rankdata(score)[failed].sum()
    return float((ranks - failures * (failures + 1) / 2) / (failures * rest))


def spearman(first: Floats, second: Floats) -> float:
    """Spearman's rank correlation of two vectors (N,); NaN where one is constant."""
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(stats.spearmanr(first, second).statistic)
