"""Highest predicted loss first (Yoo & Kweon, CVPR 2019; Shukla & Ahmed, CVPR Workshops 2021).

Over the whole pool, as the latter do, not over a random part of it as the former.
"""

import numpy as np

from misgiving.trainer.samplers.base import Candidates, highest


def learned_loss(candidates: Candidates, budget: int, rng: np.random.Generator) -> list[int]:
    """The ``budget`` positions with the highest predicted loss, highest first; never one without.

    Raises:
        InvalidInput: fewer than ``budget`` persons have a finite predicted loss.
    """
    return highest(candidates.predicted_loss, budget, "predicted loss")
