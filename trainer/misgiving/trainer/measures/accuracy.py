"""How good poses are by measures other than PCK@0.2: PCK at other thresholds, and PCKh.

Axes: N persons, K keypoints, R weightings. Points in image px.

PCKh (Andriluka et al., CVPR 2014) tells distances in head sizes, which come of the head's box. A
person without one has no PCKh, and is left out and counted. Joints that the keypoint set lacks do
not count: only a set with all of MPII's is held against its published numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.keypoints import KeypointSet
from misgiving.trainer.measures import metrics, ranking
from misgiving.trainer.measures.bootstrap import Estimate, estimates

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]

PCK_THRESHOLDS = (0.1, 0.5)
PCKH_THRESHOLD = 0.5
_SEGMENT = 0.8


@dataclass(frozen=True, slots=True)
class PCKh:
    """One way to tell PCKh."""

    scale: float
    """The head size, in diagonals of the head's box."""
    left_out: tuple[str, ...]
    """Joints that do not count."""
    border: bool
    """Whether a joint at the very threshold is found."""
    pooled: bool
    """Mean over all labelled joints of all persons; else the mean over joints of their means."""


OFFICIAL = PCKh(scale=0.6, left_out=("pelvis", "thorax"), border=True, pooled=True)
"""As MPII's own evaluation has it (evalMPII: util_get_head_size.m, computePCK.m), and HRNet's
``mpii.py`` after it: ``<=``, 14 joints, every labelled one weighing the same."""
AUTHORS = PCKh(scale=1.0, left_out=(), border=False, pooled=False)
"""As the code of Shukla & Ahmed (CVPRW 2021) has it: the whole diagonal, ``<``, all 16 joints
weighing the same. Its 0.5 is the official 0.833. It drops occluded joints as well, which the common
JSON does not tell from the others."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """One measure of the poses of some persons; see :func:`evaluate`."""

    persons: int
    """Those who have the length that distances are measured in; the others are left out."""
    left_out: int
    rate: Estimate
    """Share of joints found."""


def pckh_hits(
    predicted: Floats,
    true: Floats,
    labelled: Bools,
    keypoints: KeypointSet,
    diagonal: Floats,
    measure: PCKh = OFFICIAL,
    threshold: float = PCKH_THRESHOLD,
) -> Floats:
    """Which joints are found, told in head sizes.

    Args:
        predicted: (N, K, 2).
        true: (N, K, 2).
        labelled: (N, K).
        keypoints: names the joints.
        diagonal: (N,), px, of each person's head box; not above 0, or NaN, where there is none.
        measure: which way.
        threshold: in head sizes.

    Returns:
        (N, K) of 1 and 0, NaN where a joint does not count or is not labelled, and for the whole
        person where there is no head size.
    """
    reach = (threshold * measure.scale * diagonal)[:, None]
    counts = labelled & ~np.isin(keypoints.names, measure.left_out) & (reach > 0)
    distance = np.linalg.norm(predicted - true, axis=-1)
    found = distance <= reach if measure.border else distance < reach
    return np.where(counts, found.astype(float), np.nan)


def weighted_pckh(found: Floats, weights: Floats, measure: PCKh = OFFICIAL) -> Floats:
    """Share of joints found for each way, (R,), to count the persons with weights (N, R)."""
    if not measure.pooled:
        return metrics.weighted_pck(found, weights)
    counts = np.isfinite(found).sum(1) @ weights
    return ranking.ratio(np.nansum(found, axis=1) @ weights, counts)


def head_diagonals(true: Floats, labelled: Bools, keypoints: KeypointSet) -> Floats:
    """Diagonals of head boxes as the joints tell them: |head_top − upper_neck| / 0.8, (N,).

    MPII placed these two joints by the box: of all five persons of our sample the square of this
    length is the sum of two square numbers within 0.03 px², as that of a box of whole px. Labels of
    other people keep no such rule, so this is an approximation, and named one where it is shown.

    NaN where a joint is not labelled, or unknown to the keypoint set.
    """
    if not {"head_top", "upper_neck"} <= set(keypoints.names):
        return np.full(len(true), np.nan)
    top, neck = (keypoints.names.index(name) for name in ("head_top", "upper_neck"))
    length = np.linalg.norm(true[:, top] - true[:, neck], axis=-1) / _SEGMENT
    return np.where(labelled[:, top] & labelled[:, neck], length, np.nan)


def accuracies(
    predicted: Floats,
    true: Floats,
    labelled: Bools,
    keypoints: KeypointSet,
    diagonal: Floats,
    images: Sequence[str],
) -> dict[str, Accuracy]:
    """Every measure by its name, with intervals over images.

    Arguments as :func:`pckh_hits`; ``images``: (N,), the image of each person.
    """
    truth = predicted, true, labelled, keypoints
    measured = {}
    for threshold in PCK_THRESHOLDS:
        found = metrics.hits(*truth, threshold)
        measured[f"PCK@{threshold}"] = _accuracy(found, metrics.weighted_pck, images)
    by_joints = head_diagonals(true, labelled, keypoints)
    for name, measure, length in (
        ("", OFFICIAL, diagonal),
        (" (authors' variant)", AUTHORS, diagonal),
        (" (head box by its joints)", OFFICIAL, by_joints),
    ):
        found = pckh_hits(*truth, length, measure)
        rate = partial(weighted_pckh, measure=measure)
        measured[f"PCKh@{PCKH_THRESHOLD}{name}"] = _accuracy(found, rate, images)
    return measured


def _accuracy(
    found: Floats, rate: Callable[[Floats, Floats], Floats], images: Sequence[str]
) -> Accuracy:
    defined: Bools = np.isfinite(found).sum(axis=1) > 0
    kept = [image for image, keep in zip(images, defined, strict=True) if keep]
    numbers = estimates(lambda weights: {"rate": rate(found[defined], weights)}, kept)
    return Accuracy(len(kept), len(found) - len(kept), numbers["rate"])
