"""Expected gradient length, EGL++ (Shukla, "Bayesian Uncertainty and Expected Gradient Length -
Regression: Two Sides Of The Same Coin?", WACV 2022; the idea is Settles, Craven & Ray's, 2007).

A person's score is Σ_j p(j) ‖∇ MSE(f(u), f(j))‖²: what the pose of a labelled person j would change
if it were u's label, over the 30 that are nearest to u in the embedding. As in t-SNE p falls with
the squared distance, with one width a person so that its perplexity is 20 (exp of the entropy;
the authors' code takes 2 to the power of an entropy in nats).

The gradient is the read-out's, the layer that makes heatmaps of features: it has a closed form, so
that a person costs one pass where all layers would cost 30 backward passes.

Axes: N persons of the pool, M labelled, J neighbours.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer.samplers.base import Candidates, Floats, highest, network_of

NEIGHBOURS, PERPLEXITY = 30, 20
ROWS = 1024
"""Of the pool at once, against all labelled."""
_HALVINGS = 64


def egl(candidates: Candidates, budget: int, rng: np.random.Generator) -> list[int]:
    """The ``budget`` positions with the longest expected gradient, longest first.

    Raises:
        InvalidInput: there is no network to ask, nobody is labelled, or fewer persons have a
            finite embedding and gradient.
    """
    view = network_of(candidates, "egl")
    embedding = candidates.embedding()
    near, apart = _neighbours(embedding, candidates.labelled_embedding())
    share = probabilities(apart, PERPLEXITY * near.shape[1] / NEIGHBOURS)
    lengths = np.concatenate([np.empty((0, near.shape[1])), *view.gradient_lengths(near)])
    return highest((share * lengths).sum(axis=1), budget, "expected gradient")


def _neighbours(embedding: Floats, labelled: Floats) -> tuple[NDArray[np.int64], Floats]:
    """The nearest labelled, (N, J), the first among equals, and their squared distances."""
    known = np.flatnonzero(np.isfinite(labelled).all(axis=1))
    if not len(known):
        raise InvalidInput("sampler egl found nobody labelled with a finite embedding; label some")
    near, apart = [np.empty((0, min(NEIGHBOURS, len(known))), np.int64)], []
    for start in range(0, len(embedding), ROWS):
        distance = cdist(embedding[start : start + ROWS], labelled[known], "sqeuclidean")
        order = np.argsort(distance, axis=1, kind="stable")[:, :NEIGHBOURS]
        near.append(known[order])
        apart.append(np.take_along_axis(distance, order, axis=1))
    return np.concatenate(near), np.concatenate([np.empty(near[0].shape), *apart])


def probabilities(squared: Floats, perplexity: float) -> Floats:
    """p (N, J) ∝ exp(−β d²) with each row's β found by bisection of its logarithm.

    Args:
        squared: d², (N, J).
        perplexity: below J; equal distances have perplexity J whatever β is.
    """
    with np.errstate(invalid="ignore"):  # somebody without a finite embedding gets NaN
        beyond = squared - squared.min(axis=1, keepdims=True)
    scale = beyond.mean(axis=1, keepdims=True)
    beyond = beyond / np.where(scale > 0, scale, 1)
    low, high = np.full((len(squared), 1), -30.0), np.full((len(squared), 1), 30.0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        share = _softmax(-np.exp(middle) * beyond)
        wide = _entropy(share) > math.log(perplexity)
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    return _softmax(-np.exp(high) * beyond)


def _softmax(logits: Floats) -> Floats:
    weights = np.exp(logits)
    share: Floats = weights / weights.sum(axis=1, keepdims=True)
    return share


def _entropy(share: Floats) -> Floats:
    entropy: Floats = -(share * np.log(np.maximum(share, 1e-300))).sum(axis=1, keepdims=True)
    return entropy
