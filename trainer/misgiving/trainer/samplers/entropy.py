"""Highest entropy of the heatmaps first (uncertainty sampling; Lewis & Gale, SIGIR 1994)."""

import numpy as np

from misgiving.trainer.samplers.base import Candidates, highest_signal


def entropy(candidates: Candidates, budget: int, rng: np.random.Generator) -> list[int]:
    """The ``budget`` positions with the highest mean entropy of the heatmaps; never one without.

    Raises:
        InvalidInput: fewer than ``budget`` persons have a finite one, or the bundle gives none.
    """
    return highest_signal(candidates, "entropy", budget)
