"""What an order of persons is worth, against slow code: all orders, and persons written out."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from misgiving.trainer.measures import ranking
from misgiving.trainer.measures.ranking import Failures, Ranking

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
NAN = math.nan


def failures(score: Floats, failed: Bools, weights: Floats | None = None) -> Failures:
    ones = np.ones((len(score), 1))
    return Failures.of(Ranking.of(score), failed, ones if weights is None else weights)


def slow_aurc(score: Floats, failed: Bools) -> float:
    """The mean over every order that agrees with the score."""
    areas = []
    for order in itertools.permutations(range(len(score))):
        if (np.diff(score[list(order)]) >= 0).all():
            risks = np.cumsum(failed[list(order)]) / np.arange(1, len(score) + 1)
            areas.append(risks.mean())
    return float(np.mean(areas))


def slow_precision(score: Floats, failed: Bools) -> float:
    """Mean over every order that agrees with the score of scikit-learn's average precision:
    Σ (R_n − R_{n−1}) P_n over its thresholds, which are single persons in an order."""
    means = []
    for order in itertools.permutations(range(len(score))):
        if (np.diff(score[list(order)]) <= 0).all():
            hits = failed[list(order)].astype(float)
            precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
            recall = np.cumsum(hits) / hits.sum()
            means.append((np.diff(recall, prepend=0.0) * precision).sum())
    return float(np.mean(means))


def slow_recall(score: Floats, failed: Bools, share: float) -> float:
    """Mean over every order that agrees with the score."""
    picked = max(1, round(share * len(score)))
    shares = []
    for order in itertools.permutations(range(len(score))):
        if (np.diff(score[list(order)]) <= 0).all():
            shares.append(failed[list(order)][:picked].sum() / failed.sum())
    return float(np.mean(shares))


def slow_kendall(first: Floats, second: Floats) -> float:
    """Over all pairs: concordant less discordant, over the root of those untied in each."""
    pairs = list(itertools.combinations(range(len(first)), 2))
    signs = np.sign([(first[a] - first[b], second[a] - second[b]) for a, b in pairs])
    untied = np.abs(signs).sum(0)
    return float((signs[:, 0] * signs[:, 1]).sum() / math.sqrt(untied[0] * untied[1]))


def slow_augrc(score: Floats, failed: Bools) -> float:
    """By trapezoids between the thresholds that the score allows, from nobody to everybody."""
    points = [(0.0, 0.0)]
    for threshold in sorted(set(score)):
        accepted = score <= threshold
        points.append((float(accepted.mean()), float((accepted & failed).mean())))
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(points))


@pytest.mark.parametrize(
    ("values", "count"),
    [
        (1000, 7),  # no ties
        (3, 7),  # many
        (1, 6),  # nothing but ties
        (1000, 1),  # one person
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_areas_against_slow_code(values: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    score = rng.integers(0, values, count).astype(float)
    failed = rng.random(count) < 0.4
    counts = failures(score, failed)
    assert counts.aurc()[0] == pytest.approx(slow_aurc(score, failed))
    assert counts.augrc()[0] == pytest.approx(slow_augrc(score, failed))
    failed[0] = True
    counts = failures(score, failed)
    assert counts.auprc()[0] == pytest.approx(slow_precision(score, failed))
    for share in (0.01, 0.2, 0.5, 1.0):
        assert counts.recall_at(share)[0] == pytest.approx(slow_recall(score, failed, share))


@pytest.mark.parametrize(
    ("score", "failed", "auroc", "augrc", "aurc"),
    [
        # the order is right: 0 0 1 of 1, 2, 3 persons
        ([1, 2, 3], [0, 0, 1], 1, 1 / 18, 1 / 9),
        # and wrong: 1, 1/2, 1/3
        ([3, 2, 1], [0, 0, 1], 0, 5 / 18, 11 / 18),
        # no order: what random picks give; p/2 and p with p = 1/3
        ([5, 5, 5], [0, 0, 1], 0.5, 1 / 6, 1 / 3),
        ([1, 2], [0, 0], NAN, 0, 0),  # nobody failed
        ([1, 2], [1, 1], NAN, 0.5, 1),  # everybody
        ([7], [1], NAN, 0.5, 1),  # one person
        ([], [], NAN, NAN, NAN),  # nobody at all
        # a score that is no number is the riskiest
        ([1, NAN, 2], [0, 1, 0], 1, 1 / 18, 1 / 9),
    ],
)
def test_by_hand(
    score: list[float], failed: list[int], auroc: float, augrc: float, aurc: float
) -> None:
    counts = failures(np.array(score, float), np.array(failed, bool))
    got = [counts.auroc()[0], counts.augrc()[0], counts.aurc()[0]]
    assert got == pytest.approx([auroc, augrc, aurc], nan_ok=True)


def test_augrc_is_auroc_and_the_rate_of_failures() -> None:
    """Traub et al.'s identity: p(1 − p)(1 − AUROC) + p²/2."""
    rng = np.random.default_rng(0)
    failed = rng.random(200) < 0.3
    counts = failures(failed + rng.normal(0, 1, 200).round(1), failed)
    p = failed.mean()
    assert counts.augrc()[0] == pytest.approx(p * (1 - p) * (1 - counts.auroc()[0]) + p * p / 2)


@pytest.mark.parametrize(
    ("score", "failed", "auprc", "recall"),
    [
        # failures 1st and 3rd of four: the mean of 1 and 2/3; the riskiest half holds one of two
        ([4, 3, 2, 1], [1, 0, 1, 0], (1 + 2 / 3) / 2, 0.5),
        ([1, 2, 3], [1, 0, 0], 1 / 3, 0),  # the wrong way round; half of three is two
        ([5, 5], [1, 0], (1 + 1 / 2) / 2, 0.5),  # either order; scikit-learn says 1/2
        ([1, 2], [1, 1], 1, 0.5),  # everybody failed
        ([1, 2], [0, 0], NAN, NAN),  # nobody
        ([7], [1], 1, 1),
        ([], [], NAN, NAN),
        ([1, NAN, 2], [0, 1, 0], 1, 1),  # a score that is no number is the riskiest
    ],
)
def test_finding_failures_by_hand(
    score: list[float], failed: list[int], auprc: float, recall: float
) -> None:
    counts = failures(np.array(score, float), np.array(failed, bool))
    got = [counts.auprc()[0], counts.recall_at(0.5)[0]]
    assert got == pytest.approx([auprc, recall], nan_ok=True)


@pytest.mark.parametrize(
    ("first", "second", "pearson", "kendall"),
    [
        ([1, 2, 3], [10, 20, 30], 1, 1),
        ([1, 2, 3], [3, 2, 1], -1, -1),
        ([0, 0, 1], [0, 1, 1], 0.5, 0.5),
        ([1, 2], [5, 4], -1, -1),  # a pair
        ([1, 2], [4, 5], 1, 1),
        ([1, 2, 3], [4, 4, 4], NAN, NAN),  # constant
        ([0.1] * 3, [1, 2, 3], NAN, NAN),  # constant, though its mean is not quite 0.1
        ([1], [1], NAN, NAN),
        ([], [], NAN, NAN),
        ([1, 2, NAN], [1, 2, 3], NAN, 1),  # no number: the riskiest
        ([1, 2, math.inf], [1, 2, 3], NAN, 1),
        ([1e200, 2e200, 3e200], [1, 2, 3], 1, 1),  # squares that overflow
    ],
)
def test_correlations_by_hand(
    first: list[float], second: list[float], pearson: float, kendall: float
) -> None:
    one, other = np.array(first, float), np.array(second, float)
    got = ranking.pearson(one, other, np.ones((len(one), 1)))[0]
    assert got == pytest.approx(pearson, nan_ok=True)
    got_kendall = ranking.kendall(Ranking.of(one), Ranking.of(other))
    assert got_kendall == pytest.approx(kendall, nan_ok=True)


@pytest.mark.parametrize("values", [1000, 3])
@pytest.mark.parametrize("seed", range(3))
def test_correlations_against_slow_code(values: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, values, (2, 25)).astype(float)
    second += first
    got = ranking.kendall(Ranking.of(first), Ranking.of(second))
    assert got == pytest.approx(slow_kendall(first, second))
    got_pearson = ranking.pearson(first, second, np.ones((25, 1)))[0]
    assert got_pearson == pytest.approx(np.corrcoef(first, second)[0, 1])


@pytest.mark.parametrize("count", range(3, 12))  # for some, rounding leaves a variance of 1e-17
def test_a_resample_in_which_all_are_equal_has_no_correlation(count: int) -> None:
    first, second = np.array([0.1] * count + [0.9]), np.arange(count + 1.0)
    without_last = (np.arange(count + 1) < count).astype(float)
    for weights, known in ((without_last, False), (1 - without_last, False), (1.0, True)):
        got = ranking.pearson(first, second, np.broadcast_to(weights, count + 1)[:, None])
        assert np.isfinite(got[0]) == known


MEASURES: dict[str, Callable[[Floats, Bools, Floats], NDArray[np.floating]]] = {
    "auroc": lambda score, failed, weights: failures(score, failed, weights).auroc(),
    "augrc": lambda score, failed, weights: failures(score, failed, weights).augrc(),
    "aurc": lambda score, failed, weights: failures(score, failed, weights).aurc(),
    "auprc": lambda score, failed, weights: failures(score, failed, weights).auprc(),
    "recall": lambda score, failed, weights: failures(score, failed, weights).recall_at(0.2),
    "pearson": lambda score, failed, weights: ranking.pearson(score, failed + score // 3, weights),
    "mean": lambda score, failed, weights: ranking.mean_and_deviation(score, weights)[0],
    "deviation": lambda score, failed, weights: ranking.mean_and_deviation(score, weights)[1],
    "spearman": lambda score, failed, weights: ranking.spearman(
        Ranking.of(score), Ranking.of(failed + score // 3), weights
    ),
    "riskiest": lambda score, failed, weights: (
        Ranking.of(score).riskiest(0.3, weights) * (score + failed)[:, None]
    ).sum(0),
}


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("values", [1000, 6])
def test_a_weight_is_a_person_written_out(name: str, values: int) -> None:
    rng = np.random.default_rng(3)
    score = rng.integers(0, values, 40).astype(float)
    failed = rng.random(40) < 0.4
    weights = rng.integers(0, 4, (40, 5)).astype(float)
    weights[:, 0] = 1
    got = MEASURES[name](score, failed, weights)
    for column, value in zip(weights.T, got, strict=True):
        rows = np.repeat(np.arange(40), column.astype(int))
        ones = np.ones((len(rows), 1))
        assert MEASURES[name](score[rows], failed[rows], ones)[0] == pytest.approx(value)


@pytest.mark.parametrize("values", [1000, 4])
def test_spearman_against_scipy(values: int) -> None:
    rng = np.random.default_rng(values)
    first, second = rng.integers(0, values, (2, 50)).astype(float)
    got = ranking.spearman(Ranking.of(first), Ranking.of(second), np.ones((50, 1)))[0]
    assert got == pytest.approx(stats.spearmanr(first, second).statistic)


@pytest.mark.parametrize(
    ("score", "share", "expected"),
    [
        ([1, 5, 3, 4], 0.5, [0, 1, 0, 1]),
        ([1, 5, 3, 4], 0.01, [0, 1, 0, 0]),  # at least one
        ([2, 2, 2, 2], 0.5, [0.5, 0.5, 0.5, 0.5]),  # equals share the places
        ([1, 2, 2, 3], 0.5, [0, 0.5, 0.5, 1]),
        ([7], 0.1, [1]),
        ([], 0.1, []),
    ],
)
def test_riskiest(score: list[float], share: float, expected: list[float]) -> None:
    weights = np.ones((len(score), 1))
    got = Ranking.of(np.array(score, float)).riskiest(share, weights)
    assert got[:, 0].tolist() == expected


@pytest.mark.parametrize(
    ("score", "failed", "expected"),
    [
        # at a quarter, half, three quarters and all of four persons
        ([1, 2, 3, 4], [0, 1, 0, 1], [0, 1 / 2, 1 / 3, 1 / 2]),
        # the two equal ones in the middle are taken half each
        ([1, 2, 2, 4], [0, 1, 0, 1], [0, 1 / 4, 1 / 3, 1 / 2]),
        # less than one person is that person
        ([1], [1], [1, 1, 1, 1]),
        ([], [], [NAN] * 4),
    ],
)
def test_risk_at_coverage(score: list[float], failed: list[int], expected: list[float]) -> None:
    counts = failures(np.array(score, float), np.array(failed, bool))
    got = counts.risk_at(np.array([0.25, 0.5, 0.75, 1.0]))
    assert got.tolist() == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 3, 6], (3, math.sqrt(3.5))),
        ([5, 5], (5, 0)),
        ([7], (7, 0)),
        ([1, math.inf], (NAN, NAN)),
        ([1, NAN], (NAN, NAN)),
        ([], (NAN, NAN)),
    ],
)
def test_mean_and_deviation(values: list[float], expected: tuple[float, float]) -> None:
    got = ranking.mean_and_deviation(np.array(values, float), np.ones((len(values), 1)))
    assert [float(one[0]) for one in got] == pytest.approx(list(expected), nan_ok=True)
