"""USDM: its quadratic programme against a generic solver, and what it makes of a pool."""

import numpy as np
import pytest
from scipy.optimize import LinearConstraint, minimize

from misgiving.trainer.samplers import sampler_named, usdm
from trainer.picking import pool_of, rng


def objective(similarity: np.ndarray, gain: np.ndarray, weights: np.ndarray) -> float:
    return float(weights @ similarity @ weights / 2 - gain @ weights)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("budget", [1, 3, 11, 12])
@pytest.mark.parametrize("gain", [0.0, 0.3, 5.0])  # diversity alone, both, uncertainty above all
def test_against_a_generic_solver(seed: int, budget: int, gain: float) -> None:
    similarity = usdm.kernel(rng(seed).normal(size=(12, 3)))
    gains = gain * budget * rng(seed + 1).uniform(size=12)

    def cost(weights: np.ndarray) -> float:
        return objective(similarity, gains, weights)

    def slope(weights: np.ndarray) -> np.ndarray:
        return similarity @ weights - gains

    found = minimize(
        cost,
        np.full(12, budget / 12),
        jac=slope,
        method="SLSQP",
        bounds=[(0, 1)] * 12,
        constraints=LinearConstraint(np.ones((1, 12)), budget, budget),
        options={"maxiter": 1000, "ftol": 1e-12},
    )
    weights = usdm.solve(similarity, gains, budget)
    assert weights.sum() == pytest.approx(budget)
    assert 0 <= weights.min() <= weights.max() <= 1
    assert objective(similarity, gains, weights) == pytest.approx(found.fun, abs=1e-5)
    np.testing.assert_allclose(weights, found.x, atol=5e-3)


@pytest.mark.parametrize(
    ("weights", "budget", "expected"),
    [
        ([0.2, 0.3], 1, [0.45, 0.55]),  # the same shift for both
        ([5.0, 0.2, 0.1], 2, [1.0, 0.55, 0.45]),  # none above one
        ([1.0, 0.0, -9.0], 1, [1.0, 0.0, 0.0]),  # none below zero
        ([0.4, 0.7], 2, [1.0, 1.0]),  # all of them
        ([3.0], 1, [1.0]),  # one
    ],
)
def test_the_nearest_allowed(weights: list[float], budget: int, expected: list[float]) -> None:
    found = usdm.nearest_allowed(np.array(weights), budget)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_likeness_costs_the_second_of_a_pair() -> None:
    """The riskiest two are one place; the third is elsewhere, and nearly as risky."""
    rows = np.array([[0, 0], [0, 0], [9, 9], [0, 9], [9, 0]], np.float32)
    risk = np.array([0.9, 0.8, 0.7, 0.1, 0.2], np.float32)
    pool = pool_of(risk, rows, np.empty((0, 2), np.float32))
    assert sampler_named("usdm")(pool, 2, rng()) == [0, 2]


def test_the_uncertain_first_where_all_are_as_far() -> None:
    risk = rng(4).permutation(6).astype(np.float32)
    pool = pool_of(risk, np.eye(6, dtype=np.float32), np.empty((0, 6), np.float32))
    assert sampler_named("usdm")(pool, 3, rng()) == list(np.argsort(-risk)[:3])
