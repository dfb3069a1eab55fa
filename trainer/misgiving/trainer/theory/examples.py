"""The paper's worked examples, Figures 1 and 2, through the objectives that heads train with.

i and j are the images of a pair; c = ∂L/∂l̂_i = −∂L/∂l̂_j is its coefficient. Nothing here is a
formula: losses and gradients come of objectives.py by autograd, in float64.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from misgiving.trainer.heads.objectives import margin_ranking, pairwise_kl

OBSERVED = {"a": 0.45, "b": 0.47, "c": 2.87}
PREDICTED = {"a": 1.48, "b": 1.51, "c": 1.63}
"""Figure 1: true and predicted loss of three images."""
PAPER_COEFFICIENTS = {("a", "b"): ("1", "≈ 0"), ("a", "c"): ("1", "0.32")}
"""Figure 1: what it prints for Learning Loss and for LearningLoss++."""

THETA = ((1.0, 2.0, 1.0), (1.0, 1.0, 1.0))
WEIGHTS = (0.0, 3.0, 0.0)
"""Figure 2: the inputs of the head's last layer for i and j, and its weights: l̂ = θ · w."""

Objective = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Of one pair of Figure 1, whose first image has the lower loss."""

    pair: tuple[str, str]
    margin: float
    kl: float


@dataclass(frozen=True, slots=True)
class Step:
    """Learning Loss on Figure 2's pair, for one order of the true losses."""

    order: str
    loss: float
    gradient: tuple[float, ...]
    """∂L/∂w, (3,); descent goes against it."""


def figure_1() -> list[Coefficients]:
    """The coefficients of both objectives for the pairs (a, b) and (a, c)."""
    return [
        Coefficients(pair, _coefficient(margin_ranking, pair), _coefficient(pairwise_kl, pair))
        for pair in PAPER_COEFFICIENTS
    ]


def figure_2() -> list[Step]:
    """Loss and gradient where i has the higher true loss, as predicted, and where j has it."""
    return [_step("l_i > l_j", (2.0, 1.0)), _step("l_i < l_j", (1.0, 2.0))]


def _coefficient(objective: Objective, pair: tuple[str, str]) -> float:
    predicted = _vector([PREDICTED[image] for image in pair]).requires_grad_()
    (gradient,) = torch.autograd.grad(
        objective(predicted, _vector([OBSERVED[image] for image in pair])), predicted
    )
    return float(gradient[0])


def _step(order: str, observed: tuple[float, float]) -> Step:
    w = _vector(WEIGHTS).requires_grad_()
    loss = margin_ranking(_vector(THETA) @ w, _vector(observed))
    (gradient,) = torch.autograd.grad(loss, w)
    return Step(order, float(loss.detach()), tuple(gradient.tolist()))


def _vector(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
