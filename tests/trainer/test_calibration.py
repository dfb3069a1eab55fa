"""Whether a probability is one: expected calibration error and its bins."""

import numpy as np
import pytest

from misgiving.trainer.measures.calibration import BINS, Reliability, recorded, reliability


def measured(probability: list[float], failed: list[int], weights: list[float]) -> Reliability:
    names = [str(i) for i in range(len(failed))]
    return reliability(np.array(probability), np.array(failed) > 0, np.array(weights), names)


@pytest.mark.parametrize(
    ("probability", "failed", "weights", "error", "bins"),
    [
        # one person: nobody to resample
        ([0.25], [1], [1.0], 0.75, [(0.25, 1.0, 1)]),
        # right on the whole, in one bin
        ([0.5] * 4, [0, 1, 0, 1], [1.0] * 4, 0.0, [(0.5, 0.5, 4)]),
        # two bins, wrong by 0.1 and 0.4
        ([0.1, 0.1, 0.9, 0.9], [0, 0, 1, 0], [1.0] * 4, 0.25, [(0.1, 0.0, 2), (0.9, 0.5, 2)]),
        # the last of them stands for three
        ([0.1, 0.1, 0.9, 0.9], [0, 0, 1, 0], [1, 1, 1, 3], 0.4667, [(0.1, 0, 2), (0.9, 0.25, 2)]),
    ],
)
def test_by_hand(
    probability: list[float],
    failed: list[int],
    weights: list[float],
    error: float,
    bins: list[tuple[float, float, int]],
) -> None:
    got = measured(probability, failed, weights)
    assert got.error == pytest.approx(error, abs=1e-4)
    found = [(one.probability, one.failed, one.persons) for one in got.bins]
    assert found == [pytest.approx(one) for one in bins]
    assert (got.persons, got.failures) == (len(failed), sum(failed))
    low, high = got.interval
    assert 0 <= low <= got.error <= high <= 1


def test_bins_hold_equally_many() -> None:
    rng = np.random.default_rng(0)
    said = rng.random(500)
    got = reliability(said, rng.random(500) < said, np.ones(500), [str(i) for i in range(500)])
    assert [one.persons for one in got.bins] == [50] * BINS


@pytest.mark.parametrize(
    ("exponent", "truth"),
    [
        (1.0, 0.0),  # the probability is right
        (2.0, 1 / 6),  # its square is: ∫ p − p²
    ],
)
def test_the_interval_covers_the_truth(exponent: float, truth: float) -> None:
    """In 95 of 100 samples, less two standard deviations; percentiles of resamples: in few."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        said = rng.random(200)
        failed = rng.random(200) < said**exponent
        low, high = reliability(said, failed, np.ones(200), [str(i) for i in range(200)]).interval
        covered += low <= truth <= high
    assert covered >= 91


def test_those_of_a_group_are_resampled_together() -> None:
    rng = np.random.default_rng(0)
    said = rng.random(40).repeat(10)
    failed = (rng.random(40) < 0.5).repeat(10)
    widths = []
    for size in (1, 10):
        groups = [str(i // size) for i in range(400)]
        low, high = reliability(said, failed, np.ones(400), groups).interval
        widths.append(high - low)
    assert widths[1] > 1.5 * widths[0]


def test_a_record_of_a_manifest() -> None:
    said = recorded(measured([0.1, 0.9], [0, 1], [1, 1]), "elsewhere")
    assert (said.value, said.level) == (pytest.approx(0.1), 0.95)
    assert (said.measured_on, said.persons, said.failures) == ("elsewhere", 2, 1)
