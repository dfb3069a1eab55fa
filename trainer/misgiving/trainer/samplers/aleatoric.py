"""Highest predicted variance first (Kendall & Gal, NeurIPS 2017; for poses Gundavarapu et al., CVPR
Workshops 2019): the mean over the joints of the log-variances that an ``aleatoric`` head gives."""

import numpy as np

from misgiving.trainer.samplers.base import Candidates, head_losses, highest


def aleatoric(candidates: Candidates, budget: int, rng: np.random.Generator) -> list[int]:
    """The ``budget`` positions with the highest predicted variance, highest first.

    Raises:
        InvalidInput: the network has no such head, or fewer persons have a finite variance.
    """
    return highest(head_losses(candidates, "aleatoric", "aleatoric"), budget, "variance")
