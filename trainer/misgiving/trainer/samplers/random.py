"""Uniformly without replacement: what every other rule is compared with."""

import numpy as np

from misgiving.trainer.samplers.base import Candidates, check_budget


def random(candidates: Candidates, budget: int, rng: np.random.Generator) -> list[int]:
    """``budget`` positions at random.

    Raises:
        InvalidInput: there are fewer than ``budget`` persons.
    """
    check_budget(budget, len(candidates), "to choose from")
    return [int(i) for i in rng.choice(len(candidates), budget, replace=False)]
