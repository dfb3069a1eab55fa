"""Highest predicted loss first (Yoo & Kweon, CVPR 2019; Shukla & Ahmed, CVPR Workshops 2021).

Over the whole pool, as the latter do, not over a random part of it as the former.
"""

import numpy as np

from misgiving.trainer.scoring import Scores


def learned_loss(scores: Scores, budget: int, rng: np.random.Generator) -> list[int]:
    """The ``budget`` positions with the highest predicted loss, highest first."""
    order = np.argsort(-scores.predicted_loss, kind="stable")
    return [int(i) for i in order[:budget]]
