"""Highest multi-peak entropy first (Liu & Ferrari, ICCV 2017).

The uncertainty part of theirs; their influence and diversity terms are not here. How the score is
taken from a heatmap: ``heatmaps.multi_peak_entropy``.
"""

import numpy as np

from misgiving.trainer.samplers.base import Candidates, highest_signal


def multi_peak_entropy(candidates: Candidates, budget: int, rng: np.random.Generator) -> list[int]:
    """The ``budget`` positions whose heatmaps' peaks compete most; never one without.

    Raises:
        InvalidInput: fewer than ``budget`` persons have a finite one, or the bundle gives none.
    """
    return highest_signal(candidates, "multi_peak_entropy", budget)
