"""Uniformly without replacement: what every other rule is compared with."""

import numpy as np

from misgiving.trainer.samplers.base import Candidates


def random(candidates: Candidates, budget: int, rng: np.random.Generator) -> list[int]:
    """``budget`` positions at random."""
    return [int(i) for i in rng.choice(len(candidates), budget, replace=False)]
