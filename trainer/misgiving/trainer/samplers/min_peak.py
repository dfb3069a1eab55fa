"""Lowest peak of any joint's heatmap first: the least sure joint decides."""

import numpy as np

from misgiving.trainer.samplers.base import Candidates, highest_signal


def min_peak(candidates: Candidates, budget: int, rng: np.random.Generator) -> list[int]:
    """The ``budget`` positions whose least sure joint has the lowest peak; never one without.

    Raises:
        InvalidInput: fewer than ``budget`` persons have a finite one, or the bundle gives none.
    """
    return highest_signal(candidates, "min_peak", budget)
