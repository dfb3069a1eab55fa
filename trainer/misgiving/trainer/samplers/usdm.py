"""Uncertainty sampling with diversity maximization (Yang, Ma, Nie, Chang & Hauptmann, IJCV 2015).

Weights f of the persons solve

    minimise  ½ fᵀK f − r·uᵀf   over  0 ≤ fᵢ ≤ 1, Σ fᵢ = budget,

K the similarity of two persons and u the uncertainty of one; the largest weights are picked.

Otherwise than there: u is the standing of the predicted loss instead of the entropy of a
classifier's labels spread over a graph; r grows with the budget, so that both terms do, and so
keeps one meaning (the authors tune it); no weight is above 1, which keeps the mass of few from
being all of it; accelerated projected gradients in place of augmented Lagrangian multipliers, to
the same solution. K is quadratic in the persons, so above ``LIMIT`` only those with the highest
predicted loss take part.

Axes: n persons that take part.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from misgiving.trainer.samplers.base import Candidates, check_budget, riskiest

LIMIT = 2_000
"""Persons that take part: 32 MiB of similarities, three times that while they are made."""
UNCERTAINTY = 1.0
"""r for each person of the budget."""
STEPS, TOLERANCE = 2_000, 1e-5

Vector = NDArray[np.float64]


def usdm(candidates: Candidates, budget: int, rng: np.random.Generator) -> list[int]:
    """``budget`` positions, the largest weight first.

    Raises:
        InvalidInput: fewer than ``budget`` persons have a finite predicted loss and embedding, or
            ``budget`` is above LIMIT.
    """
    check_budget(budget, LIMIT, "that usdm weighs against each other")
    positions, standing, embedding = riskiest(candidates, budget, LIMIT)
    if not budget:
        return []
    similarity = kernel(np.asarray(embedding, np.float64))
    gain = UNCERTAINTY * budget * standing
    weights = solve(similarity, gain, budget)
    # Among equal weights, as ones and zeros are, first who would cost least to raise.
    order = np.lexsort((similarity @ weights - gain, -weights.round(4)))
    return [int(position) for position in positions[order[:budget]]]


def kernel(embedding: Vector) -> Vector:
    """Gaussian kernel (n, n), as wide as the median distance; all ones where there is none."""
    squared = cdist(embedding, embedding, "sqeuclidean")
    width = np.median(squared)
    return np.asarray(np.exp(-squared / (width or squared.mean() or 1.0)))


def solve(similarity: Vector, gain: Vector, budget: int) -> Vector:
    """The weights (n,) that minimise ½ fᵀK f − gainᵀf over 0 ≤ f ≤ 1, Σ f = budget ≤ n.

    Args:
        similarity: K, (n, n), positive semi-definite.
        gain: (n,)
        budget: the weights' sum.
    """
    steepest = np.abs(similarity).sum(axis=1).max()  # bounds K's largest eigenvalue
    weights = ahead = np.full(len(gain), budget / len(gain))
    pace = 1.0
    for _ in range(STEPS):
        before = weights
        weights = nearest_allowed(ahead - (similarity @ ahead - gain) / steepest, budget)
        moved = weights - before
        if np.abs(moved).max() < TOLERANCE:
            break
        if moved @ (ahead - weights) > 0:  # past the bottom: the momentum starts anew
            pace = 1.0
        following = (1 + np.sqrt(1 + 4 * pace**2)) / 2
        ahead = weights + (pace - 1) / following * moved
        pace = following
    return weights


def nearest_allowed(weights: Vector, budget: int) -> Vector:
    """Euclidean projection onto 0 ≤ f ≤ 1, Σ f = budget: f is clipped after one common shift."""
    low, high = weights.min() - 1, weights.max()
    for _ in range(60):  # halves the interval to rounding
        shift = (low + high) / 2
        if np.clip(weights - shift, 0, 1).sum() > budget:
            low = shift
        else:
            high = shift
    return np.asarray(np.clip(weights - high, 0, 1))
