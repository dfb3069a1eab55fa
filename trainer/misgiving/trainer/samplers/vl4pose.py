"""VL4Pose (Shukla, Roy, Singh, Ahmed & Alahi, BMVC 2022): the pose first whose limbs are least
likely in length, by the Gaussians that a ``links`` head gives for this very image."""

import numpy as np

from misgiving.trainer.samplers.base import Candidates, head_losses, highest


def vl4pose(candidates: Candidates, budget: int, rng: np.random.Generator) -> list[int]:
    """The ``budget`` positions with the lowest likelihood, lowest first.

    Raises:
        InvalidInput: the network has no such head, or fewer persons have a finite likelihood.
    """
    return highest(head_losses(candidates, "links", "vl4pose"), budget, "likelihood")
