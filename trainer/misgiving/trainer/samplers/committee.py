"""Query by committee (Seung, Opper & Sompolinsky, COLT 1992; Melville & Mooney, ICML 2004; with
networks from other seeds Beluch, Genewein, Nürnberger & Köhler, CVPR 2018): those first on whose
keypoints the networks of a committee disagree most."""

import numpy as np

from misgiving.trainer.samplers.base import Candidates, highest, joined, network_of, spread


def committee(candidates: Candidates, budget: int, rng: np.random.Generator) -> list[int]:
    """The ``budget`` positions with the largest spread, largest first.

    Raises:
        InvalidInput: there is no network to ask, or it has no committee, or fewer persons have a
            finite spread.
    """
    view = network_of(candidates, "committee")
    return highest(joined(map(spread, view.committee_points())), budget, "spread")
