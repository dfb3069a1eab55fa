"""Metrics by hand and against slow code: how good poses are, and how good a score is."""

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from misgiving.runtime.keypoints import LSP, KeypointSet
from misgiving.trainer.measures import metrics
from shared.training import JOINTS, standing

NAN = math.nan
R_HIP, L_HIP, R_SHOULDER, L_SHOULDER, HEAD_TOP = 2, 3, 8, 9, 13

CROSS = KeypointSet(name="cross", names=("a", "b", "c"), skeleton=(), torso=((0, 1),))
"""Joints a and b make the torso, here from (0, 0) to (10, 0): what is nearer than 2 px is found."""


def cross_hits(moved: list[float], labelled: list[bool] | None = None) -> list[float]:
    """Hits of one person, each joint moved down by so many px."""
    true = np.array([[[0.0, 0.0], [10.0, 0.0], [5.0, 5.0]]])
    predicted = true + np.array([[0.0, move] for move in moved])
    mask = np.array([labelled or [True] * 3])
    hits: list[float] = metrics.hits(predicted, true, mask, CROSS)[0].tolist()
    return hits


@pytest.mark.parametrize(
    ("moved", "labelled", "expected"),
    [
        ([0.0, 0.0, 0.0], None, [1, 1, 1]),
        # just within 0.2 torso lengths, and just at it: the border is a miss
        ([1.999, 2.0, -1.999], None, [1, 0, 1]),
        # an unlabelled joint counts neither way, however near
        ([0.0, 0.0, 0.0], [True, True, False], [1, 1, NAN]),
        # without its torso a person cannot be measured at all
        ([0.0, 0.0, 0.0], [True, False, True], [NAN, NAN, NAN]),
        ([9.0, 9.0, 9.0], [False, True, True], [NAN, NAN, NAN]),
        # a prediction that is no number is a miss
        ([NAN, 0.0, 0.0], None, [0, 1, 1]),
    ],
)
def test_hits(moved: list[float], labelled: list[bool] | None, expected: list[float]) -> None:
    assert cross_hits(moved, labelled) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        # moved by 0.9, 1.9 and 4.9 px, torso 10 px
        (0.1, [1, 0, 0]),
        (0.2, [1, 1, 0]),
        (0.5, [1, 1, 1]),
    ],
)
def test_other_thresholds(threshold: float, expected: list[float]) -> None:
    true = np.array([[[0.0, 0.0], [10.0, 0.0], [5.0, 5.0]]])
    predicted = true + np.array([[0.0, move] for move in (0.9, 1.9, 4.9)])
    hits = metrics.hits(predicted, true, np.ones((1, 3), bool), CROSS, threshold)
    assert hits[0].tolist() == expected


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_the_torso_is_the_longer_diagonal(factor: float) -> None:
    true = standing()
    true[L_SHOULDER] = true[R_HIP] + np.float32([0, -40])  # one diagonal is 40 px
    true[R_SHOULDER] = true[L_HIP] + np.float32([0, -40 * factor])  # the other 20 or 80
    reach = 0.2 * max(40, 40 * factor)
    predicted = np.stack([true, true])
    predicted[0, HEAD_TOP, 0] += reach - 0.01
    predicted[1, HEAD_TOP, 0] += reach + 0.01
    hits = metrics.hits(predicted, np.stack([true, true]), np.ones((2, JOINTS), bool), LSP)
    assert hits[:, HEAD_TOP].tolist() == [1, 0]


def test_hits_of_nobody() -> None:
    none = np.zeros((0, JOINTS, 2))
    hits = metrics.hits(none, none, np.zeros((0, JOINTS), bool), LSP)
    assert hits.shape == (0, JOINTS)
    assert math.isnan(metrics.pck(hits))
    assert metrics.person_pck(hits).shape == (0,)


@pytest.mark.parametrize(
    ("found", "pck", "person_pck"),
    [
        ([[1, 1], [0, 1]], 0.75, [1, 0.5]),
        # the mean over joints of their rates, 1/3 and 1; not 2 hits of 4
        ([[1, 1], [0, NAN], [0, NAN]], (1 / 3 + 1) / 2, [1, 0, 0]),
        # a person whose torso is undefined is nobody
        ([[1, 0], [NAN, NAN]], 0.5, [0.5, NAN]),
        # a joint that nobody has is no joint
        ([[1, NAN], [0, NAN]], 0.5, [1, 0]),
        # one person, one joint
        ([[1]], 1.0, [1]),
        # nothing is defined
        ([[NAN, NAN]], NAN, [NAN]),
    ],
)
def test_pck(found: list[list[float]], pck: float, person_pck: list[float]) -> None:
    values = np.array(found, float)
    assert metrics.pck(values) == pytest.approx(pck, nan_ok=True)
    assert metrics.person_pck(values).tolist() == pytest.approx(person_pck, nan_ok=True)


@pytest.mark.parametrize(
    ("below", "expected"),
    [
        (0.5, [True, False, False]),  # a third, half, all: half is no failure
        (0.51, [True, True, False]),
    ],
)
def test_who_has_failed(below: float, expected: list[bool]) -> None:
    found = np.array([[1, 0, 0], [NAN, NAN, NAN], [1, 0, NAN], [1, 1, NAN]])
    failed, defined = metrics.failed(found, below)
    assert failed.tolist() == expected
    assert defined.tolist() == [True, False, True, True]


def test_weighted_pck_is_the_pck_of_persons_written_out() -> None:
    rng = np.random.default_rng(0)
    found = np.where(rng.random((12, 3)) < 0.2, NAN, rng.integers(0, 2, (12, 3)))
    weights = rng.integers(0, 3, (12, 4)).astype(float)
    weights[:, 3] = 0  # nobody
    got = metrics.weighted_pck(found, weights)
    expected = [metrics.pck(np.repeat(found, column.astype(int), axis=0)) for column in weights.T]
    assert got.tolist() == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("moved", "labelled", "expected"),
    [
        # the mean of 1, 2 and 6 px, in torsos of 10 px
        ([1.0, -2.0, 6.0], None, 0.3),
        # over the labelled joints alone
        ([1.0, 2.0, NAN], [True, True, False], 0.15),
        # without a torso there is no unit
        ([1.0, 2.0, 6.0], [True, False, True], NAN),
        # a prediction that is no number is as wrong as can be
        ([NAN, 0.0, 0.0], None, math.inf),
    ],
)
def test_person_error(moved: list[float], labelled: list[bool] | None, expected: float) -> None:
    true = np.array([[[0.0, 0.0], [10.0, 0.0], [5.0, 5.0]]])
    predicted = true + np.array([[0.0, move] for move in moved])
    mask = np.array([labelled or [True] * 3])
    error = metrics.person_error(predicted, true, mask, CROSS)
    assert error.tolist() == pytest.approx([expected], nan_ok=True)


def test_a_torso_without_length_leaves_no_small_error() -> None:
    true = np.zeros((1, 3, 2))
    mask = np.ones((1, 3), bool)
    assert metrics.person_error(true, true, mask, CROSS).tolist() == [math.inf]


def slow_auroc(score: NDArray[np.float64], failed: NDArray[np.bool_]) -> float:
    """Over all pairs of a failed and another person."""
    pairs = itertools.product(score[failed], score[~failed])
    return float(np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs]))


@pytest.mark.parametrize(
    ("values", "count"),
    [
        (1000, 60),  # nearly no ties
        (4, 60),  # many
        (1, 20),  # nothing but ties: a coin
        (1000, 2),  # a pair
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_auroc_against_all_pairs(values: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    score = rng.integers(0, values, count).astype(float)
    failed = rng.random(count) < 0.3
    failed[:2] = [True, False]
    assert metrics.auroc(score, failed) == pytest.approx(slow_auroc(score, failed))


@pytest.mark.parametrize(
    ("score", "failed", "expected"),
    [
        ([1, 2, 3, 4], [False, False, True, True], 1.0),
        ([4, 3, 2, 1], [False, False, True, True], 0.0),
        ([1, 2, 3, 4], [False, True, False, True], 0.75),
        ([1, 2], [True, True], NAN),  # nobody to tell apart
        ([1, 2], [False, False], NAN),
        ([], [], NAN),
    ],
)
def test_auroc_by_hand(score: list[float], failed: list[bool], expected: float) -> None:
    got = metrics.auroc(np.array(score, float), np.array(failed, bool))
    assert got == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2, 3], [10, 100, 1000], 1.0),  # ranks, not values
        ([1, 2, 3], [3, 2, 1], -1.0),
        # by hand: 1 − 6 Σd² / n(n² − 1) with d = 1, 1, 0, 0
        ([1, 2, 3, 4], [2, 1, 3, 4], 0.8),
        # ties share their mean rank: Pearson of (1, 2.5, 2.5, 4) and (1, 2, 3, 4)
        ([1, 2, 2, 3], [1, 2, 3, 4], 4.5 / math.sqrt(4.5 * 5)),
        ([1, 1, 1], [1, 2, 3], NAN),  # constant: no order
        ([1], [1], NAN),
        ([], [], NAN),
    ],
)
def test_spearman(first: list[float], second: list[float], expected: float) -> None:
    got = metrics.spearman(np.array(first, float), np.array(second, float))
    assert got == pytest.approx(expected, nan_ok=True)
