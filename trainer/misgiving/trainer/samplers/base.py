"""What a sampler is given and what it answers.

Axes: N persons of the pool, M labelled persons, D embedding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.errors import InvalidInput

Floats = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """The persons of a pool as one network, or one bundle, sees them.

    Embeddings are functions, because they are large or cost a pass over the labelled set: only
    a sampler that wants them calls them.
    """

    ids: Sequence[str]
    predicted_loss: Floats
    """(N,); NaN where the network computed none."""
    signals: dict[str, Floats]
    """The free scores by name, each (N,) and turned so that higher is riskier."""
    embedding: Callable[[], Floats]
    """(N, D)"""
    labelled_embedding: Callable[[], Floats]
    """(M, D), M may be 0."""

    def __len__(self) -> int:
        return len(self.ids)


Sampler = Callable[[Candidates, int, np.random.Generator], list[int]]
"""(candidates, budget ≤ N, generator) → that many positions, each once, in the order of picking.

Raises InvalidInput where it finds fewer that it may pick; see ``check_budget``.
"""


def check_budget(budget: int, usable: int, what: str) -> None:
    """Raise InvalidInput where a sampler may pick fewer persons than it was asked for."""
    if budget > usable:
        raise InvalidInput(
            f"budget is {budget}; expected at most {usable}, the number of persons {what}. Lower it"
        )
