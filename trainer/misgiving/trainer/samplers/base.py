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
    true_loss: Callable[[], Floats] | None = None
    """(N,); None where the pool's labels are not known."""

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


def finite_rows(rows: Floats) -> NDArray[np.bool_]:
    """Which of (N, D) rows can be measured from, (N,)."""
    return np.asarray(np.isfinite(rows).all(axis=1))


def highest(scores: Floats, budget: int, what: str) -> list[int]:
    """The ``budget`` positions with the highest score, the pool's first among equals.

    Raises:
        InvalidInput: fewer have a finite one; ``what`` says which score, after "with a finite".
    """
    order = _falling(scores)
    check_budget(budget, len(order), f"with a finite {what}")
    return [int(i) for i in order[:budget]]


def highest_signal(candidates: Candidates, name: str, budget: int) -> list[int]:
    """The ``budget`` positions where a free score is riskiest; see ``highest``.

    Raises:
        InvalidInput: the persons have no score of that name, or fewer than ``budget`` have a
            finite one.
    """
    if name not in candidates.signals:
        raise InvalidInput(
            f"sampler is {name!r}, a free score that is not here; there are "
            f"{', '.join(candidates.signals)}. Choose another sampler"
        )
    return highest(candidates.signals[name], budget, name)


def riskiest(
    candidates: Candidates, budget: int, most: int
) -> tuple[NDArray[np.intp], NDArray[np.float64], Floats]:
    """The ``most`` persons with the highest predicted loss, or all, for rules that weigh both.

    Never one without a finite predicted loss and a finite embedding.

    Returns:
        n positions, highest loss first; their standing in [0, 1] among all who could be picked
        (0 the lowest loss, ties alike); their embeddings, (n, D).

    Raises:
        InvalidInput: fewer than ``budget`` can be picked.
    """
    embedding, losses = candidates.embedding(), candidates.predicted_loss
    order = _falling(np.where(finite_rows(embedding), losses, np.nan))
    check_budget(budget, len(order), "with a finite predicted loss and embedding")
    first = order[:most]
    return first, _standing(losses[order])[:most], embedding[first]


def _falling(values: Floats) -> NDArray[np.intp]:
    """Positions of the finite ones of (N,) values, the highest first, the first among equals."""
    finite = np.flatnonzero(np.isfinite(values))
    return finite[np.argsort(-values[finite], kind="stable")]


def _standing(losses: Floats) -> NDArray[np.float64]:
    """Ranks instead of (N,) losses: predicted ones only rank, and an outlier would be all."""
    ascending = np.sort(losses)
    below = np.searchsorted(ascending, losses, side="left")
    up_to = np.searchsorted(ascending, losses, side="right") - 1
    return np.asarray((below + up_to) / (2 * max(len(losses) - 1, 1)))
