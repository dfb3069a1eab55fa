"""The convex programme: its solution against a generic solver, and what it makes of a pool."""

import numpy as np
import pytest
from scipy.optimize import LinearConstraint, minimize

from misgiving.trainer.samplers import convex, sampler_named
from trainer.picking import pool_of, rng


def solved(apart: np.ndarray, prices: np.ndarray, rounds: int) -> tuple[np.ndarray, ...]:
    """Sizes and shares after many rounds of the sampler's solver, and its multipliers."""
    count = len(apart)
    shares, debt = np.full((count, count), 1 / count, np.float32), np.zeros((count, count))
    debt = debt.astype(np.float32)
    for _ in range(rounds):
        sizes = convex.solve(apart, prices, shares, debt)
    return sizes, shares, debt


def objective(apart: np.ndarray, prices: np.ndarray, shares: np.ndarray) -> float:
    """Of the programme, with a row for each represented person."""
    return float((apart * shares).sum() + prices @ np.sqrt((shares**2).sum(axis=0) + 1e-16))


def programme(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    points = rng(seed).normal(size=(count, 2))
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    prices = rng(seed + 1).uniform(0.2, 2, count)
    return np.asarray(apart / apart.mean(), np.float32), np.asarray(prices, np.float32)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("strength", [0.1, 1.0, 5.0])
def test_against_a_generic_solver(seed: int, strength: float) -> None:
    apart, prices = programme(5, seed)
    prices = prices * np.float32(strength)
    start = np.full(25, 0.2)

    def cost(flat: np.ndarray) -> float:
        return objective(apart, prices, flat.reshape(5, 5))

    found = minimize(
        cost,
        start,
        method="SLSQP",
        bounds=[(0, 1)] * 25,
        constraints=LinearConstraint(np.kron(np.eye(5), np.ones((1, 5))), 1, 1),
        options={"maxiter": 2000, "ftol": 1e-10},
    )
    _, shares, _ = solved(apart, prices, rounds=20)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    assert shares.min() >= 0
    assert objective(apart, prices, shares) == pytest.approx(found.fun, rel=1e-3)


@pytest.mark.parametrize("strength", [0.1, 1.0, 5.0])
def test_no_solution_can_be_better(strength: float) -> None:
    """Multipliers w with ‖wᵢ‖ ≤ pricesᵢ prove a bound: Σⱼ minᵢ (dᵢⱼ − wᵢⱼ) and the sizes agree."""
    apart, prices = programme(60, seed=3)
    prices = prices * np.float32(strength)
    sizes, shares, debt = solved(apart, prices, rounds=20)
    multipliers = convex.PENALTY * debt
    norms = np.sqrt((multipliers**2).sum(axis=0))
    multipliers *= np.minimum(1, prices / norms)
    bound = (apart - multipliers).min(axis=1).sum()
    assert bound == pytest.approx(objective(apart, prices, shares), rel=2e-3)
    np.testing.assert_allclose(sizes, np.sqrt((shares**2).sum(axis=0)), atol=5e-3)


def clusters(count: int, each: int) -> np.ndarray:
    """Tight groups far from each other, group after group."""
    centres = np.eye(count, 4) * 10
    spread = rng(2).normal(size=(count, each, 4)) * 0.1
    return np.asarray((centres[:, None] + spread).reshape(-1, 4), np.float32)


def test_one_of_each_group() -> None:
    pool = pool_of(np.zeros(24, np.float32), clusters(4, 6), np.empty((0, 4), np.float32))
    picked = sampler_named("convex")(pool, 4, rng())
    assert sorted(position // 6 for position in picked) == [0, 1, 2, 3]


def test_a_copy_comes_last() -> None:
    rows = np.repeat(clusters(4, 1), 2, axis=0)
    pool = pool_of(np.zeros(8, np.float32), rows, np.empty((0, 4), np.float32))
    picked = sampler_named("convex")(pool, 8, rng())
    assert sorted(position // 2 for position in picked[:4]) == [0, 1, 2, 3]
    assert sorted(picked) == list(range(8))


def test_the_uncertain_represent() -> None:
    """Of each pair in one place the one with the higher loss."""
    rows = np.repeat(clusters(4, 1), 2, axis=0)
    risk = np.tile(np.array([0.1, 0.9], np.float32), 4)
    pool = pool_of(risk, rows, np.empty((0, 4), np.float32))
    assert {i % 2 for i in sampler_named("convex")(pool, 4, rng())} == {1}


@pytest.mark.parametrize(
    ("standing", "apart", "expected"),
    [
        ([0.0, 0.5, 1.0], [0.0, 0.0, 0.0], [20.0, 10.5, 1.0]),  # by the loss alone
        ([0.0, 0.0, 0.0], [0.0, 1.0, 4.0], [20.0, 15.25, 1.0]),  # by the distance alone
        ([1.0, 0.0, 0.5], [0.0, 2.0, 1.0], [1.0, 1.0, 10.5]),  # one of the two is enough
        ([0.0, 1.0], [np.inf, np.inf], [20.0, 1.0]),  # nobody labelled
    ],
)
def test_confidence(standing: list[float], apart: list[float], expected: list[float]) -> None:
    found = convex.confidences(np.array(standing), np.array(apart))
    np.testing.assert_allclose(found, expected)
