"""Highest predicted loss first (Yoo & Kweon, CVPR 2019; Shukla & Ahmed, CVPR Workshops 2021).

Over the whole pool, as the latter do, not over a random part of it as the former.
"""

import numpy as np

from misgiving.trainer.samplers.base import Candidates, check_budget


def learned_loss(candidates: Candidates, budget: int, rng: np.random.Generator) -> list[int]:
    """The ``budget`` positions with the highest predicted loss, highest first; never one without.

    Raises:
        InvalidInput: fewer than ``budget`` persons have a finite predicted loss.
    """
    losses = candidates.predicted_loss
    usable = np.flatnonzero(np.isfinite(losses))
    check_budget(budget, len(usable), "with a finite predicted loss")
    order = usable[np.argsort(-losses[usable], kind="stable")]
    return [int(i) for i in order[:budget]]
