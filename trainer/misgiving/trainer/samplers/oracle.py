"""Highest true loss first: the mark that every prediction of the loss is held against.

It needs the pool's labels, so it exists in experiments alone: a cycle has them, a score file has
not.
"""

import numpy as np

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer.samplers.base import Candidates, highest


def oracle(candidates: Candidates, budget: int, rng: np.random.Generator) -> list[int]:
    """The ``budget`` positions with the highest true loss, highest first; never one without.

    Raises:
        InvalidInput: the pool's labels are not known, or fewer than ``budget`` persons have a
            finite true loss.
    """
    if candidates.true_loss is None:
        raise InvalidInput(
            "sampler oracle goes by the labels, and a score file has none; expected a pool with "
            "labels. Use 'misgiving cycle', or another sampler"
        )
    return highest(candidates.true_loss(), budget, "true loss")
