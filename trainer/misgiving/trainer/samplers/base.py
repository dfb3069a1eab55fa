"""What a sampler is given and what it answers.

Axes: N persons of the pool, M labelled persons, B some persons of the pool in its order,
T networks, K keypoints, D embedding.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.errors import InvalidInput

Floats = NDArray[np.floating]


class NetworkView(Protocol):
    """What a sampler may ask of the network itself; each question costs passes over the pool.

    Points are in heatmap cells. Answers come in parts, one after another, so that memory does not
    grow with the pool. Weights, mode and random numbers of the network stay as they are.
    """

    def thinned_points(self, networks: int, rng: np.random.Generator) -> Iterator[Floats]:
        """Keypoints (T, B, K, 2) by T networks, each with its own channels dropped out."""

    def committee_points(self) -> Iterator[Floats]:
        """Keypoints (T, B, K, 2) by the network and the further members of its committee."""

    def gradient_lengths(self, labelled: NDArray[np.int64]) -> Iterator[Floats]:
        """Squared length of the gradient that somebody's pose would give as a label, (B, J).

        Args:
            labelled: (N, J): for each person of the pool, whose of the M labelled.
        """


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
    predicted_losses: dict[str, Floats] = field(default_factory=dict)
    """Of every head by its name, (N,); empty where one alone is known, as in a score file."""
    network: NetworkView | None = None
    """None where there are only scores, as in a score file."""

    def __len__(self) -> int:
        return len(self.ids)


Sampler = Callable[[Candidates, int, np.random.Generator], list[int]]
"""(candidates, budget ≤ N, generator) → that many positions, each once, in the order of picking.

Raises InvalidInput where it finds fewer that it may pick; see ``check_budget``.
"""


def head_losses(candidates: Candidates, objective: str, sampler: str) -> Floats:
    """The risks (N,) of the first head with an objective.

    Raises:
        InvalidInput: the network has none, or only a score file is known.
    """
    for name, losses in candidates.predicted_losses.items():
        if objective in name.split("-"):
            return losses
    if not candidates.predicted_losses:
        raise InvalidInput(
            f"sampler {sampler} was given a score file, which does not name its head; expected a "
            f"network. Use 'misgiving cycle', or learned_loss where the bundle's is {objective}"
        )
    raise InvalidInput(
        f"sampler {sampler} needs a head with the objective {objective}; this network has "
        f"{', '.join(candidates.predicted_losses)}. Train one with such a head in its recipe"
    )


def network_of(candidates: Candidates, sampler: str) -> NetworkView:
    """The network.

    Raises:
        InvalidInput: only a score file is known.
    """
    if candidates.network is None:
        raise InvalidInput(
            f"sampler {sampler} was given a score file; expected the network itself, which it "
            "asks again. Use 'misgiving cycle'"
        )
    return candidates.network


def spread(points: Floats) -> Floats:
    """How far several networks' keypoints (T, B, K, 2) lie apart, (B,): their variance around
    their mean, summed over x and y, mean over the keypoints, in the points' unit squared."""
    variance: Floats = points.var(axis=0).sum(axis=-1).mean(axis=-1)
    return variance


def joined(parts: Iterator[Floats]) -> Floats:
    """Parts of some persons each, one after another; nobody's where there is none."""
    return np.concatenate([np.empty(0), *parts])


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
            f"sampler is {name!r}, a free score that is not there; there are "
            f"{', '.join(candidates.signals)}. Choose one of these"
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
