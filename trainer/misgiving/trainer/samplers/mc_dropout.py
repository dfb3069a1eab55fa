"""Monte-Carlo dropout (Gal & Ghahramani, ICML 2016; for poses Caramalau, Bhattarai & Kim, "Active
Learning for Bayesian 3D Hand Pose Estimation", WACV 2021): those first whose keypoints differ most
between networks in which other channels are dropped out.

Channels of the last stack's features, just before its heatmaps are read, where a recipe's
``dropout`` trains. So one pass through the network serves all draws, and everybody is asked the
same thinned networks: a score does not depend on who else is in the pool. In a network that was
trained without dropout it is injected (Ledda, Fumera & Roli, "Dropout Injection at Test Time for
Post Hoc Uncertainty Quantification in Neural Networks", Information Sciences 2023).
"""

import numpy as np

from misgiving.trainer.samplers.base import Candidates, highest, joined, network_of, spread

NETWORKS = 20


def mc_dropout(candidates: Candidates, budget: int, rng: np.random.Generator) -> list[int]:
    """The ``budget`` positions with the largest spread, largest first.

    Raises:
        InvalidInput: there is no network to ask, or fewer persons have a finite spread.
    """
    view = network_of(candidates, "mc_dropout")
    spreads = joined(map(spread, view.thinned_points(NETWORKS, rng)))
    return highest(spreads, budget, "spread")
