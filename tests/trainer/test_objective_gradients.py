"""Equations 2 and 4 of the paper: gradients of whole batches, in closed form, against autograd and
against central differences, in float64.

Axes: B batch; P = B/2 pairs, i and i + P; D inputs of the head's last layer, l̂ = θ w.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import expit

from misgiving.trainer.heads.objectives import margin_ranking, pairwise_kl

Floats = NDArray[np.float64]

WIDTH = 5
STEP = 1e-6


@dataclass(frozen=True)
class Batch:
    theta: Floats
    """(B, D)."""
    w: Floats
    """(D,)."""
    observed: Floats
    """(B,)."""


def batch(seed: int, pairs: int, leads: tuple[float, ...] = (), ties: int = 0) -> Batch:
    """Random, but for the first pairs: their l̂_i − l̂_j are ``leads``, or their losses tie.

    Args:
        seed: of all that is random.
        pairs: P.
        leads: of the first pairs, whose observed losses are then 2 and 1.
        ties: how many of the pairs after those have the same observed loss.
    """
    rng = np.random.default_rng(seed)
    theta, w = rng.normal(size=(2 * pairs, WIDTH)), rng.normal(size=WIDTH)
    observed = rng.gamma(4, 1 / 15, 2 * pairs)
    for pair, lead in enumerate(leads):
        now = (theta[pair] - theta[pairs + pair]) @ w
        theta[pair] += (lead - now) * w / (w @ w)
        observed[[pair, pairs + pair]] = 2, 1
    tied = slice(len(leads), len(leads) + ties)
    observed[pairs:][tied] = observed[:pairs][tied]
    return Batch(theta, w, observed)


def leads_of(one: Batch) -> Floats:
    first, second = np.split(one.theta, 2)
    return np.asarray((first - second) @ one.w)


def margin_coefficients(one: Batch, margin: float = 1.0) -> Floats:
    """Eq 2: −a s, with s the observed order and a whether the pair is inside the margin; (P,)."""
    first, second = np.split(one.observed, 2)
    order = np.sign(first - second)
    return np.where(order * leads_of(one) < margin, -order, 0.0)


def kl_coefficients(one: Batch) -> Floats:
    """Eq 4: q_i − p_i; (P,)."""
    first, second = np.split(one.observed, 2)
    return np.asarray(expit(leads_of(one)) - first / (first + second))


def closed_form(one: Batch, coefficients: Floats) -> tuple[Floats, Floats]:
    """By w, (D,), and by θ, (B, D), of the mean over the pairs."""
    first, second = np.split(one.theta, 2)
    by_w = (coefficients[:, None] * (first - second)).mean(axis=0)
    by_first = coefficients[:, None] * one.w / len(coefficients)
    return by_w, np.concatenate([by_first, -by_first])


Objective = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def by_autograd(objective: Objective, one: Batch) -> tuple[Floats, Floats]:
    theta, w = (torch.from_numpy(part).requires_grad_() for part in (one.theta, one.w))
    loss = objective(theta @ w, torch.from_numpy(one.observed))
    by_w, by_theta = torch.autograd.grad(loss, (w, theta))
    return by_w.numpy(), by_theta.numpy()


def by_differences(objective: Objective, one: Batch) -> tuple[Floats, Floats]:
    """Central, a step of STEP in each component."""

    def loss(theta: Floats, w: Floats) -> float:
        return float(objective(torch.from_numpy(theta @ w), torch.from_numpy(one.observed)))

    by_w, by_theta = np.zeros_like(one.w), np.zeros_like(one.theta)
    for k in np.ndindex(one.w.shape):
        up, down = one.w.copy(), one.w.copy()
        up[k], down[k] = up[k] + STEP, down[k] - STEP
        by_w[k] = (loss(one.theta, up) - loss(one.theta, down)) / (2 * STEP)
    for k in np.ndindex(one.theta.shape):
        up, down = one.theta.copy(), one.theta.copy()
        up[k], down[k] = up[k] + STEP, down[k] - STEP
        by_theta[k] = (loss(up, one.w) - loss(down, one.w)) / (2 * STEP)
    return by_w, by_theta


BATCHES = {
    "one pair": batch(0, 1),
    "one pair that ties": batch(1, 1, ties=1),
    "eight pairs": batch(2, 8),
    "eight pairs, three of which tie": batch(3, 8, ties=3),
    "all pairs tie": batch(4, 4, ties=4),
    # inside: ordered but close, level, the wrong way round; outside: just, far
    "inside and outside the margin": batch(5, 7, leads=(0.9, 0.0, -3.0, 1.1, 40.0), ties=1),
}
EQUATIONS = [
    pytest.param(margin_ranking, margin_coefficients, id="equation 2"),
    pytest.param(pairwise_kl, kl_coefficients, id="equation 4"),
]


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize(("objective", "coefficients"), EQUATIONS)
def test_gradients(
    objective: Objective, coefficients: Callable[[Batch], Floats], name: str
) -> None:
    one = BATCHES[name]
    expected = closed_form(one, coefficients(one))
    for closed, found in zip(expected, by_autograd(objective, one), strict=True):
        np.testing.assert_allclose(found, closed, rtol=0, atol=1e-14)
    for closed, found in zip(expected, by_differences(objective, one), strict=True):
        np.testing.assert_allclose(found, closed, rtol=0, atol=2e-8)


def test_what_the_batches_hold() -> None:
    """Each branch of equation 2 is met."""
    one = BATCHES["inside and outside the margin"]
    assert margin_coefficients(one)[:6].tolist() == [-1, -1, -1, 0, 0, 0]
    assert leads_of(one)[:5] == pytest.approx([0.9, 0.0, -3.0, 1.1, 40.0], abs=1e-12)
    eight = margin_coefficients(BATCHES["eight pairs"])
    assert {-1.0, 1.0} <= {*eight.tolist()}


def test_margin_gradient_knows_its_margin() -> None:
    one = BATCHES["inside and outside the margin"]
    expected = closed_form(one, margin_coefficients(one, margin=2.0))
    found = by_autograd(lambda p, o: margin_ranking(p, o, 2.0), one)
    for closed, gradient in zip(expected, found, strict=True):
        np.testing.assert_allclose(gradient, closed, rtol=0, atol=1e-14)
    assert not np.allclose(expected[0], closed_form(one, margin_coefficients(one))[0])


def test_a_tie_pulls_together_only_by_equation_4() -> None:
    one = BATCHES["one pair that ties"]
    assert margin_coefficients(one).tolist() == [0]
    assert np.sign(kl_coefficients(one)).tolist() == np.sign(leads_of(one)).tolist() != [0]


@pytest.mark.parametrize("lead", [-40.0, -3.0, 0.0, 0.7, 40.0])
def test_equation_4_is_smooth_and_convex(lead: float) -> None:
    """∂²L/∂l̂_i² = q_i q_j, which is never negative and at most ¼."""
    predicted = torch.tensor([lead, 0.0], dtype=torch.float64)
    observed = torch.tensor([2.0, 1.0], dtype=torch.float64)
    second = torch.autograd.functional.hessian(lambda p: pairwise_kl(p, observed), predicted)
    q = float(expit(lead))
    expected = q * (1 - q) * torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(second, expected, rtol=1e-9, atol=1e-14)
    assert 0 <= float(second[0, 0]) <= 0.25
