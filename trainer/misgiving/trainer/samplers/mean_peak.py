"""Lowest mean heatmap peak first: the pose net's own confidence, which costs nothing."""

import numpy as np

from misgiving.trainer.samplers.base import Candidates, highest_signal


def mean_peak(candidates: Candidates, budget: int, rng: np.random.Generator) -> list[int]:
    """The ``budget`` positions with the lowest mean peak; never one without.

    Raises:
        InvalidInput: fewer than ``budget`` persons have a finite one, or the bundle gives none.
    """
    return highest_signal(candidates, "mean_peak", budget)
