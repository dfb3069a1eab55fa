"""Highest predicted loss, then core-set among these.

After Zhdanov (Diverse mini-batch active learning, 2019): a multiple of the budget by the score,
then a diverse part of it; there by k-means, here by k-centre greedy. The highest losses alone are
often one failure many times.
"""

import numpy as np

from misgiving.trainer.samplers.base import Candidates, riskiest
from misgiving.trainer.samplers.coreset import k_centre

KEPT = 4
"""Persons to choose among, for each one picked."""


def hybrid(candidates: Candidates, budget: int, rng: np.random.Generator) -> list[int]:
    """``budget`` positions, farthest first; the higher loss among equals.

    Raises:
        InvalidInput: fewer than ``budget`` persons have a finite predicted loss and embedding.
    """
    positions, _, embedding = riskiest(candidates, budget, KEPT * budget)
    picked = k_centre(embedding, candidates.labelled_embedding(), budget)
    return [int(position) for position in positions[picked]]
