"""How well the score of a joint tells that this very joint is missed.

Axes: N persons, K keypoints, R weightings.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from misgiving.trainer.measures.bootstrap import Estimate, Key, estimates
from misgiving.trainer.measures.ranking import Failures, Ranking, ratio

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class JointReport:
    """Mean over the joints of the AUROC of a joint's miss; see :func:`evaluate`."""

    joints: int
    """Whose misses can be told from hits: that have both."""
    measured: int
    """Joints of persons with a labelled torso."""
    misses: int
    """Of the measured."""
    learned: Estimate
    """By keypoint_loss."""
    own_peak: Estimate
    """By minus the joint's confidence, which is free."""


def joint_report(
    keypoint_loss: Floats, confidence: Floats, found: Floats, images: Sequence[str]
) -> JointReport | None:
    """Measure a bundle's per-joint scores.

    Args:
        keypoint_loss: (N, K), or (N, 0).
        confidence: (N, K).
        found: (N, K), as ``metrics.hits`` gives it.
        images: (N,), the image of each person: those of one image are resampled together.

    Returns:
        None without keypoint_loss, or where no joint is both missed and found.
    """
    known = np.isfinite(found)
    missed = known & (found == 0)
    both = missed.any(0) & (known & ~missed).any(0)
    if not keypoint_loss.shape[1] or not both.any():
        return None
    scores = {"learned": keypoint_loss, "own_peak": -confidence}
    columns = {
        (name, joint): (Ranking.of(score[rows, joint].astype(float)), missed[rows, joint], rows)
        for name, score in scores.items()
        for joint in np.flatnonzero(both)
        for rows in [np.flatnonzero(known[:, joint])]
    }

    def measure(weights: Floats) -> dict[Key, Floats]:
        aurocs: dict[str, list[Floats]] = {name: [] for name in scores}
        for (name, _), (ranking, failed, rows) in columns.items():
            aurocs[name].append(Failures.of(ranking, failed, weights[rows]).auroc())
        return {name: _mean(np.array(each)) for name, each in aurocs.items()}

    numbers = estimates(measure, images)
    return JointReport(
        joints=int(both.sum()),
        measured=int(known.sum()),
        misses=int(missed.sum()),
        learned=numbers["learned"],
        own_peak=numbers["own_peak"],
    )


def _mean(aurocs: Floats) -> Floats:
    """Over the joints, (K, R) → (R,). A resample may lack a joint's misses: the others count."""
    return ratio(np.nansum(aurocs, axis=0), np.isfinite(aurocs).sum(0))
