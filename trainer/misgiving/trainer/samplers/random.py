"""Uniformly without replacement: what every other rule is compared with."""

import numpy as np

from misgiving.trainer.scoring import Scores


def random(scores: Scores, budget: int, rng: np.random.Generator) -> list[int]:
    """``budget`` positions at random."""
    return [int(i) for i in rng.choice(len(scores.ids), budget, replace=False)]
