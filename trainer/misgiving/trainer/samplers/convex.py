"""A convex programme (Elhamifar, Sapiro, Yang & Sastry, ICCV 2013).

Few persons shall represent all: shares Z, zᵢⱼ of person i in representing person j, solve

    minimise  Σᵢⱼ dᵢⱼ zᵢⱼ + λ Σᵢ cᵢ ‖zᵢ‖₂   over  Z ≥ 0, Σᵢ zᵢⱼ = 1 for each j,

d the distance of two embeddings. The norm of whole rows leaves few persons with any share; the
confidence cᵢ makes a person dear that is certain *and* near the labelled ones:
cᵢ = min(σ − (σ − 1) uᵢ, σ − (σ − 1) tᵢ / max t), u the uncertainty and t the distance to the
nearest labelled person. Solved by ADMM, for smaller and smaller λ until at least ``budget``
persons represent; the largest rows are picked, for what those before them leave.

Otherwise than there: u is the standing of the predicted loss instead of the entropy of a
classifier's answer. Z is quadratic in the persons, so above ``LIMIT`` only those with the highest
predicted loss take part, and a λ is left after ``ROUNDS`` rounds, exact or not.

Axes: n persons that take part. Matrices are stored with a row for each represented person j.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from misgiving.trainer.samplers.base import Candidates, check_budget, finite_rows, riskiest
from misgiving.trainer.samplers.coreset import to_nearest

LIMIT = 2_000
"""Persons that take part: 16 MiB a matrix, of which there are five."""
DEAREST = 20.0
"""σ, what a certain person next to a labelled one costs; an uncertain or far one costs 1."""
PENALTY = 3.0
"""Of ADMM, for distances of mean 1."""
ROUNDS, TOLERANCE = 100, 1e-4
LEAST = 0.03
"""Norm from which on a row counts: less is what unfinished rounds leave."""
SHRINK, TRIES = 0.7, 40
"""λ from one solution to the next. The first is above where ``budget`` rows pay for themselves."""
ROWS = 64

Matrix = NDArray[np.float32]
Vector = NDArray[np.float32]


def convex(candidates: Candidates, budget: int, rng: np.random.Generator) -> list[int]:
    """``budget`` positions, the largest row of shares first; the higher loss among equals.

    Raises:
        InvalidInput: fewer than ``budget`` persons have a finite predicted loss and embedding, or
            ``budget`` is above LIMIT.
    """
    check_budget(budget, LIMIT, "that convex weighs against each other")
    positions, standing, embedding = riskiest(candidates, budget, LIMIT)
    if not budget:
        return []
    labelled = candidates.labelled_embedding()
    apart = np.sqrt(to_nearest(embedding, labelled[finite_rows(labelled)]))
    confidence = confidences(standing, apart)
    shares = _shares(_distances(embedding), confidence, budget)
    return [int(positions[i]) for i in _largest(shares, budget)]


def confidences(standing: NDArray[np.float64], apart: NDArray[np.float64]) -> Vector:
    """What each person's row costs, (n,) in [1, σ]; ``apart`` is inf where nobody is labelled."""
    farthest = apart.max()
    far = apart / farthest if 0 < farthest < np.inf else np.zeros_like(apart)
    return np.asarray(DEAREST - (DEAREST - 1) * np.maximum(standing, far), np.float32)


def _distances(embedding: NDArray[np.floating]) -> Matrix:
    """(n, n) with mean 1; all zero where nobody is apart."""
    apart = cdist(embedding, embedding)
    return np.asarray(apart / (apart.mean() or 1.0), np.float32)


def _shares(apart: Matrix, confidence: Vector, budget: int) -> Matrix:
    """The solution (n, n) for a λ at which at least ``budget`` rows count."""
    count = len(apart)
    shares = np.full_like(apart, 1 / count)
    debt = np.zeros_like(apart)
    strength = 2 * np.sqrt(count / budget)
    for _ in range(TRIES):
        sizes = solve(apart, strength * confidence / confidence.mean(), shares, debt)
        if np.count_nonzero(sizes > LEAST) >= budget:
            break
        strength *= SHRINK
    return shares


def _largest(shares: Matrix, budget: int) -> list[int]:
    """Whose rows are largest, counting of each represented person what nobody picked has.

    Without that, somebody and a near copy would both come where one of them represents enough.
    """
    squared, left = shares**2, np.ones(len(shares), np.float32)
    picked: list[int] = []
    while len(picked) < budget:
        size = left @ squared
        size[picked] = -1
        picked.append(int(size.argmax()))
        left = np.maximum(left - shares[:, picked[-1]], 0)
    return picked


def solve(apart: Matrix, prices: Vector, shares: Matrix, debt: Matrix) -> Vector:
    """Minimise Σ apart·shares + Σᵢ pricesᵢ ‖sharesᵢ‖₂, shares as in this file's programme.

    Args:
        apart: (n, n)
        prices: λ c, (n,)
        shares: (n, n), where to start; overwritten with the solution.
        debt: (n, n), ADMM's scaled multipliers, zero at first; overwritten.

    Returns:
        The norms of the persons' shares, (n,), exactly zero where a person represents nobody.
    """
    cost, shrunk = apart / PENALTY, np.empty_like(apart)
    for _ in range(ROUNDS):
        np.subtract(shares, debt, out=shrunk)
        norms = np.sqrt(np.einsum("ji,ji->i", shrunk, shrunk))
        kept = np.maximum(0, 1 - prices / PENALTY / np.maximum(norms, 1e-30))
        shrunk *= kept
        debt += shrunk
        moved = _share_out(debt, cost, shares)
        debt -= shares
        shrunk -= shares
        if max(moved, np.abs(shrunk, out=shrunk).max()) < TOLERANCE:
            break
    return np.asarray(kept * norms)


def _share_out(debt: Matrix, cost: Matrix, shares: Matrix) -> float:
    """Put each row of ``debt − cost``, projected onto the simplex, into ``shares``.

    Returns:
        The largest change.
    """
    moved, places = 0.0, np.arange(1, len(shares) + 1, dtype=np.float32)
    for start in range(0, len(shares), ROWS):  # blocks that stay in the cache
        rows = slice(start, start + ROWS)
        block = debt[rows] - cost[rows]
        falling = np.sort(block, axis=1)[:, ::-1]
        levels = (np.cumsum(falling, axis=1) - 1) / places
        last = np.count_nonzero(falling > levels, axis=1, keepdims=True) - 1
        block -= np.take_along_axis(levels, last, axis=1)
        np.maximum(block, 0, out=block)
        moved = max(moved, float(np.abs(block - shares[rows]).max()))
        shares[rows] = block
    return moved
