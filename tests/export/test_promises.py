"""Thresholds keep what they promise, over 1,000 data sets each; and what is too little is told."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import beta, norm

from misgiving.export.promises import Cut, Sample, allowed, flag_cut, miss_cut, needed, sample_of

RESAMPLES = 1000
CONFIDENCE = 0.9
Floats = NDArray[np.floating]
Draw = Callable[[np.random.Generator], tuple[Floats, Floats, NDArray[np.str_], float]]
"""Failures of one data set: score, weight, group, and the largest weight anybody can have."""


@pytest.mark.parametrize(
    ("rate", "confidence", "count"),
    [
        (0.05, 0.9, 45),
        (0.01, 0.9, 230),
        (0.5, 0.75, 2),  # 0.5² is just 0.25
        (0.999, 0.1, 1),
    ],
)
def test_how_many_are_needed(rate: float, confidence: float, count: int) -> None:
    assert needed(rate, confidence) == count
    assert allowed(count, rate, confidence) == 0
    assert allowed(count - 1, rate, confidence) == -1


def upper_bound(count: int, n: int, confidence: float) -> float:
    """Clopper and Pearson's, one-sided."""
    return 1.0 if count == n else float(beta.ppf(confidence, count + 1, n - count))


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("n", [0, 1, 45, 50, 230, 1000])
def test_allowed_are_those_that_clopper_and_pearson_allow(n: int, rate: float) -> None:
    fitting = [k for k in range(n) if upper_bound(k, n, CONFIDENCE) <= rate]
    assert allowed(n, rate, CONFIDENCE) == max(fitting, default=-1)


def equal(score: Floats) -> Sample:
    return sample_of(score, np.ones(len(score)), np.arange(len(score)).astype(str), 1.0)


RISING = np.arange(100, dtype=np.float32)


@pytest.mark.parametrize(
    ("sample", "rate", "expected"),
    [
        # nobody, and one too few
        (equal(RISING[:0]), 0.05, None),
        (equal(RISING[:44]), 0.05, None),
        # just enough: the lowest failure is flagged
        (equal(RISING[:45]), 0.05, Cut(0.0, 0)),
        # P(Binomial(100, 0.1) ≤ 5) is 0.058, ≤ 6 is 0.117: five may be missed
        (equal(RISING), 0.1, Cut(5.0, 5)),
        (equal(RISING[::-1]), 0.1, Cut(5.0, 5)),
        # the ten that share the lowest score are all missed or none
        (equal(np.maximum(RISING, 9)), 0.1, Cut(9.0, 0)),
        # everybody weighs the same, whatever that is
        (Sample(RISING, np.full(100, 50.0), 50.0), 0.1, Cut(5.0, 5)),
        # pairs that are alike: 50 of them, of which P(Binomial(50, 0.1) ≤ 1) lets one go
        (sample_of(RISING, np.ones(100), (np.arange(100) // 2).astype(str), 1.0), 0.1, Cut(2.0, 2)),
        # somebody of the data weighs ten, though none of these: worth ten
        (sample_of(RISING, np.ones(100), np.arange(100).astype(str), 10.0), 0.1, None),
        (sample_of(RISING, np.ones(100), np.arange(100).astype(str), 10.0), 0.3, Cut(0.0, 0)),
    ],
)
def test_miss_cut(sample: Sample, rate: float, expected: Cut | None) -> None:
    assert miss_cut(sample, rate, CONFIDENCE) == expected


@pytest.mark.parametrize(
    ("score", "rate", "value", "flagged"),
    [
        (RISING, 0.1, 94.0, 5),  # just above 94: 95 to 99 are flagged
        (np.minimum(RISING, 90), 0.1, 90.0, 0),  # ten share the highest: none of them is
        (np.zeros(100, np.float32), 0.1, 0.0, 0),
    ],
)
def test_flag_cut(score: Floats, rate: float, value: float, flagged: int) -> None:
    cut = flag_cut(equal(score), rate, CONFIDENCE)
    assert cut is not None
    assert cut.beyond == flagged == (score >= np.float32(cut.value)).sum()
    assert np.float32(cut.value) == np.nextafter(np.float32(value), np.float32(np.inf))


def test_frames_that_are_too_few() -> None:
    assert flag_cut(equal(RISING[:21]), 0.1, CONFIDENCE) is None
    assert flag_cut(equal(RISING[:22]), 0.1, CONFIDENCE) == Cut(
        float(np.nextafter(np.float32(21), np.float32(22))), 0
    )


def alone(n: int) -> Draw:
    """Failures drawn one by one."""

    def draw(rng: np.random.Generator) -> tuple[Floats, Floats, NDArray[np.str_], float]:
        return rng.normal(size=n), np.ones(n), np.arange(n).astype(str), 1.0

    return draw


def of_a_fleet(devices: int, each: int, likeness: float, audit: float, threshold: float) -> Draw:
    """Failures of devices, kept above a threshold and by an audit sample below it.

    ``likeness`` is the correlation of scores within a device.
    """
    device = np.repeat(np.arange(devices), each)

    def draw(rng: np.random.Generator) -> tuple[Floats, Floats, NDArray[np.str_], float]:
        common, own = rng.normal(size=devices)[device], rng.normal(size=len(device))
        score = math.sqrt(likeness) * common + math.sqrt(1 - likeness) * own
        probability = np.where(score >= threshold, 1.0, audit)
        kept = rng.random(len(device)) < probability
        return score[kept], 1 / probability[kept], device[kept].astype(str), 1 / audit

    return draw


def in_groups(groups: int, sizes: list[int]) -> Draw:
    """Groups of several sizes whose failures all have one score."""

    def draw(rng: np.random.Generator) -> tuple[Floats, Floats, NDArray[np.str_], float]:
        group = np.repeat(np.arange(groups), rng.choice(sizes, groups))
        score = rng.normal(size=groups)[group]
        return score, np.ones(len(group)), group.astype(str), 1.0

    return draw


def kish(score: Floats, weight: Floats, group: NDArray[np.str_], largest: float) -> Sample:
    """What is not used: Kish's effective size."""
    return Sample(score, weight, float((weight**2).sum() / weight.sum()))


def share_that_hold(
    draw: Draw, rate: float, size: Callable[..., Sample] = sample_of
) -> tuple[float, float]:
    """Share of the data sets whose threshold misses at most the rate of all failures, whose scores
    are normal; and the share that has a threshold."""
    rng = np.random.default_rng(7)
    cuts = [miss_cut(size(*draw(rng)), rate, CONFIDENCE) for _ in range(RESAMPLES)]
    missed = norm.cdf([cut.value for cut in cuts if cut is not None])
    return float((missed <= rate).mean()), len(missed) / RESAMPLES


NOISE = 0.02
"""Two standard deviations of a share of 1,000 that is 0.9."""


@pytest.mark.parametrize(
    ("draw", "rate"),
    [
        # the least that supports a promise, which then holds exactly as often as it says
        (alone(45), 0.05),
        (alone(230), 0.01),
        # more than the least: several may be missed
        (alone(300), 0.05),
        # an audit sample of 5 and of 2 % below a threshold that misses much, and little
        (of_a_fleet(1000, 1, 0.0, 0.05, 0.5), 0.1),
        (of_a_fleet(3000, 1, 0.0, 0.02, -0.5), 0.2),
        # groups of unequal size whose members are alike through and through
        (in_groups(60, [1, 2, 10]), 0.2),
        # devices whose failures are alike, and an audit sample of them
        (of_a_fleet(200, 10, 0.8, 0.1, 0.0), 0.2),
    ],
)
def test_a_miss_rate_holds_as_often_as_promised(draw: Draw, rate: float) -> None:
    held, supported = share_that_hold(draw, rate)
    assert supported == 1
    assert held >= CONFIDENCE - NOISE


def test_equal_ones_are_not_more_careful_than_promised() -> None:
    """Else the test above would pass for a threshold that flags everybody."""
    held, _ = share_that_hold(alone(45), 0.05)
    assert held <= CONFIDENCE + NOISE


@pytest.mark.parametrize(
    ("draw", "rate"),
    [
        # weights that go with the score, as a fleet's do
        (of_a_fleet(3000, 1, 0.0, 0.02, -0.5), 0.2),
        # groups taken for single failures
        (in_groups(60, [1, 2, 10]), 0.2),
    ],
)
def test_kish_s_size_promises_too_much(draw: Draw, rate: float) -> None:
    held, _ = share_that_hold(draw, rate, kish)
    assert held < CONFIDENCE - 2 * NOISE


def test_a_flag_rate_holds_as_often_as_promised() -> None:
    rng = np.random.default_rng(7)
    values = []
    for _ in range(RESAMPLES):
        cut = flag_cut(equal(rng.normal(size=200).astype(np.float32)), 0.1, CONFIDENCE)
        assert cut is not None
        values.append(cut.value)
    assert (norm.sf(values) <= 0.1).mean() >= CONFIDENCE - NOISE
