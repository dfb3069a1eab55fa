"""Means over seeds and paired tests: by hand, against slow code, and how often they are right."""

import itertools
import math
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from misgiving.runtime.errors import DataError
from misgiving.trainer.measures.bootstrap import RESAMPLES, Estimate, Key, estimates
from misgiving.trainer.measures.nested import (
    compare,
    mean_over_seeds,
    sign_flip_p,
    t_interval,
)

Floats = NDArray[np.floating]
NAN = math.nan


@cache
def weightings(images: int) -> Floats:
    """How often each image counts in the sample and its resamples, (N, 1 + R)."""
    parts: list[Floats] = []

    def measure(weights: Floats) -> dict[Key, Floats]:
        parts.append(weights)
        return {"count": weights.sum(0)}

    estimates(measure, [f"{i:03}" for i in range(images)])
    return np.concatenate(parts, axis=1)


def means(values: Floats) -> Estimate:
    """The mean of values (N,), one an image, with its resamples."""
    draws = values @ weightings(len(values)) / len(values)
    return Estimate(float(draws[0]), draws[1:])


def seeds_of(
    rng: np.random.Generator, seeds: int, images: int, spread: tuple[float, float], same: bool
) -> list[Estimate]:
    """Seeds with a mean of 0, which differ and whose images differ by normal deviates."""
    of_seed, of_image = spread
    shared = rng.normal(0, of_image, images)
    parts = [shared if same else rng.normal(0, of_image, images) for _ in range(seeds)]
    return [means(part + rng.normal(0, of_seed)) for part in parts]


def slow_resamples(values: Floats, same: bool, count: int) -> Floats:
    """Draw seeds, then images of each, person by person; values (S, N)."""
    rng = np.random.default_rng(99)
    seeds, images = values.shape
    draws = []
    for _ in range(count):
        drawn = rng.integers(0, images, images)
        total = 0.0
        for seed in rng.integers(0, seeds, len(values)):
            total += values[seed][drawn if same else rng.integers(0, images, images)].mean()
        draws.append(total / seeds)
    return np.array(draws)


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("spread", [(1.0, 1.0), (0.1, 3.0)])  # seeds differ much, or images
def test_the_mean_over_seeds_against_slow_code(same: bool, spread: tuple[float, float]) -> None:
    rng = np.random.default_rng(4)
    shared = rng.normal(0, spread[1], 40) if same else rng.normal(0, spread[1], (6, 40))
    values = rng.normal(0, spread[0], (6, 1)) + shared
    mean = mean_over_seeds([means(row) for row in values], same_images=same)
    assert mean.value == pytest.approx(values.mean())
    slow = slow_resamples(values, same, 2000)
    assert np.std(mean.draws) == pytest.approx(slow.std(), rel=0.1)
    slow_ends = tuple(np.quantile(slow, [0.025, 0.975]))
    assert mean.interval == pytest.approx(slow_ends, abs=0.35 * slow.std())


def test_images_that_seeds_share_do_not_average_away() -> None:
    rng = np.random.default_rng(0)
    seed = means(rng.normal(0, 1, 50))
    apart = mean_over_seeds([seed] * 16, same_images=False)
    shared = mean_over_seeds([seed] * 16, same_images=True)
    assert np.std(shared.draws) == pytest.approx(np.std(seed.draws), rel=0.1)
    assert np.std(apart.draws) == pytest.approx(np.std(seed.draws) / 4, rel=0.1)


@pytest.mark.parametrize(
    ("values", "value", "resamples"),
    [
        ([], NAN, 0),
        ([3.0], 3.0, 0),  # one seed says nothing about others
        ([3.0, 5.0], 4.0, RESAMPLES),
        ([3.0, NAN], NAN, RESAMPLES),
    ],
)
def test_few_seeds_of_a_single_image(values: list[float], value: float, resamples: int) -> None:
    seeds = [Estimate(one, np.empty(0)) for one in values]
    mean = mean_over_seeds(seeds, same_images=True)
    assert mean.value == pytest.approx(value, nan_ok=True)
    assert len(mean.draws) == resamples
    if value == 4.0:
        assert sorted(set(mean.draws.tolist())) == [3.0, 4.0, 5.0]  # the seeds alone are drawn


def slow_sign_flip_p(differences: Floats) -> float:
    """Over all signs, one at a time."""
    observed = abs(differences.mean())
    ways = [
        abs(np.mean([s * d for s, d in zip(signs, differences, strict=True)]))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    return float(np.mean([way >= observed - 1e-9 for way in ways]))


@pytest.mark.parametrize("count", [1, 2, 5, 9])
@pytest.mark.parametrize("ties", [False, True])
def test_sign_flips_against_slow_code(count: int, ties: bool) -> None:
    differences = np.random.default_rng(count).normal(0.5, 1, count)
    values = differences.round() if ties else differences
    assert sign_flip_p(values) == pytest.approx(slow_sign_flip_p(values))


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([1.0], 1.0),  # one seed proves nothing
        ([1.0, 2.0, 3.0, 4.0, 5.0], 2 / 32),  # the least of five seeds
        # 0.3 is reached by 12 of 16 sums and their opposites, one of which only rounds to it
        ([0.1, 0.1, 0.2, 0.3, -0.4], 24 / 32),
        ([1.0, 1.0, -1.0], 1.0),
        ([0.0, 0.0], 1.0),
        ([1.0, NAN], NAN),
        ([], NAN),
    ],
)
def test_sign_flips_by_hand(differences: list[float], expected: float) -> None:
    assert sign_flip_p(np.array(differences, float)) == pytest.approx(expected, nan_ok=True)


def test_many_seeds_flip_by_chance() -> None:
    """Near the normal approximation, and never 0."""
    differences = np.random.default_rng(1).normal(0.4, 1, 40)
    z = differences.sum() / math.sqrt((differences**2).sum())
    assert sign_flip_p(differences) == pytest.approx(2 * stats.norm.sf(abs(z)), abs=0.01)
    assert sign_flip_p(np.ones(40)) == 2.0**-15


@pytest.mark.parametrize("values", [[1.0, 2.0, 4.0], [0.5, 0.5], [3.0, -1.0, 2.0, 2.0, 0.0]])
def test_the_t_interval_against_scipy(values: list[float]) -> None:
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95) if np.ptp(values) else None
    want = (expected.low, expected.high) if expected else (values[0], values[0])
    assert t_interval(np.array(values)) == pytest.approx(want)


def test_compare() -> None:
    rng = np.random.default_rng(3)
    hard = rng.normal(0, 3, 60)  # a person's difficulty, for both methods
    first = [means(hard + 1.0 + rng.normal(0, 0.3, 60)) for _ in range(5)]
    second = [means(hard + rng.normal(0, 0.3, 60)) for _ in range(5)]
    first[4] = second[4]
    result = compare(first, second, same_images=True)
    values = np.array([a.value - b.value for a, b in zip(first, second, strict=True)])
    assert result.difference.value == pytest.approx(values.mean())
    assert result.deviation == pytest.approx(values.std(ddof=1))
    assert (result.above, result.below, result.seeds) == (4, 0, 5)  # and one draw
    assert result.p_signs == sign_flip_p(values) == 4 / 32
    assert result.t_interval == t_interval(values)
    low, high = result.difference.interval
    assert 0.3 < low < values.mean() < high < 1.1  # though persons differ by 3
    assert result.p_bootstrap < 0.01
    swapped = compare(second, first, same_images=True)
    assert (swapped.above, swapped.below) == (0, 4)
    assert swapped.p_bootstrap == result.p_bootstrap


def test_the_bootstrap_s_p_against_slow_code() -> None:
    """Of three seeds one is below 0: some 7/27 of the resamples have a mean at or below it."""
    first = [Estimate(value, np.empty(0)) for value in (1.0, 2.0, -1.5)]
    second = [Estimate(0.0, np.empty(0))] * 3
    result = compare(first, second, same_images=True)
    below = sum(draw <= 0 for draw in result.difference.draws)
    assert result.p_bootstrap == 2 * (below + 1) / (RESAMPLES + 1)
    of_all = [np.mean(way) <= 0 for way in itertools.product((1.0, 2.0, -1.5), repeat=3)]
    assert result.p_bootstrap == pytest.approx(2 * np.mean(of_all), abs=0.08)


def test_a_method_against_itself() -> None:
    seeds = [means(np.random.default_rng(i).normal(0, 1, 20)) for i in range(3)]
    result = compare(seeds, seeds, same_images=True)
    assert (result.above, result.below, result.p_signs, result.p_bootstrap) == (0, 0, 1.0, 1.0)
    assert result.difference.interval == result.t_interval == (0.0, 0.0)


def test_one_seed_and_undefined_numbers_have_no_p() -> None:
    one, other = means(np.arange(5.0)), means(np.arange(5.0) ** 2)
    single = compare([one], [other], same_images=True)
    assert (single.below, single.p_signs) == (1, 1.0)
    unknown = Estimate(NAN, np.full(RESAMPLES, NAN))
    without = compare([one, unknown], [other, other], same_images=True)
    assert (without.above, without.below, without.seeds) == (0, 1, 2)
    assert math.isnan(without.p_signs)
    for result in (single, without):
        assert math.isnan(result.p_bootstrap)
        assert math.isnan(result.t_interval[0])
        assert math.isnan(result.difference.interval[0])


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ([5, 5], [5], "2 and 1 seeds are compared; expected the same"),
        ([], [], "0 and 0 seeds are compared; expected the same, at least one"),
        ([5, 5], [5, 1], "different resamples; expected the same persons"),
        ([5, 1], [5, 1], r"seeds have \[0, 1000\] resamples; expected as many of each"),
    ],
)
def test_what_cannot_be_compared(first: list[int], second: list[int], said: str) -> None:
    one, other = ([means(np.arange(float(n))) for n in counts] for counts in (first, second))
    with pytest.raises(DataError, match=said):
        compare(one, other, same_images=True)


@pytest.mark.parametrize(
    ("seeds", "spread", "same", "least", "most"),
    [
        # many seeds: as often as it says
        (20, (1.0, 1.0), True, 0.89, 0.99),
        (20, (1.0, 1.0), False, 0.89, 0.99),
        # few, which differ: too seldom, as the module says
        (5, (1.0, 0.0), True, 0.77, 0.91),
        (3, (1.0, 0.0), True, 0.69, 0.85),
        # few, but the images are what differs
        (3, (0.01, 3.0), True, 0.88, 0.99),
        # apart, images count twice, among seeds and in them: it holds at least as often
        (5, (0.01, 3.0), False, 0.93, 1.0),
    ],
)
def test_how_often_the_interval_holds_the_truth(
    seeds: int, spread: tuple[float, float], same: bool, least: float, most: float
) -> None:
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(200):
        sample = seeds_of(rng, seeds, 30, spread, same)
        low, high = mean_over_seeds(sample, same_images=same).interval
        held += low <= 0 <= high
    assert least <= held / 200 <= most


def test_false_alarms_are_as_rare_as_the_tests_say() -> None:
    rng = np.random.default_rng(8)
    samples = rng.normal(0, 1, (400, 6))
    assert np.mean([sign_flip_p(sample) <= 0.1 for sample in samples]) == pytest.approx(
        0.1, abs=0.04
    )
    held = [low <= 0 <= high for low, high in map(t_interval, samples)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.03)
