"""How well per-joint scores tell misses: against a slow count of pairs."""

import numpy as np
import pytest

from misgiving.trainer.measures.joints import joint_report

PERSONS, JOINTS = 40, 5
RNG = np.random.default_rng(0)
FOUND = np.where(
    RNG.random((PERSONS, JOINTS)) < 0.2, np.nan, (RNG.random((PERSONS, JOINTS)) < 0.6) * 1.0
)
FOUND[:, 3] = 1.0  # never missed: says nothing
LOSS = np.round(np.nan_to_num(1 - FOUND) + RNG.normal(0, 1, FOUND.shape), 1)  # with ties
CONFIDENCE = np.round(RNG.random(FOUND.shape), 1)
IMAGES = [f"{index // 2}.png" for index in range(PERSONS)]


def slow_auroc(score: np.ndarray, found: np.ndarray) -> float:
    """Mean over joints of the share of pairs in order, ties half."""
    each = []
    for joint in (0, 1, 2, 4):
        missed, hit = (score[found[:, joint] == flag, joint] for flag in (0, 1))
        pairs = [(a > b) + 0.5 * (a == b) for a in missed for b in hit]
        each.append(np.mean(pairs))
    return float(np.mean(each))


def test_against_a_slow_count() -> None:
    report = joint_report(LOSS, CONFIDENCE, FOUND, IMAGES)
    assert report is not None
    assert report.learned.value == pytest.approx(slow_auroc(LOSS, FOUND))
    assert report.own_peak.value == pytest.approx(slow_auroc(-CONFIDENCE, FOUND))
    assert (report.joints, report.measured, report.misses) == (
        4, np.isfinite(FOUND).sum(), (FOUND == 0).sum(),
    )  # fmt: skip
    low, high = (report.learned - report.own_peak).interval
    assert low < report.learned.value - report.own_peak.value < high


def test_a_single_miss_is_missing_from_many_resamples() -> None:
    found = np.ones((20, 2))
    found[3, 1] = 0
    report = joint_report(np.eye(20, 2, k=-2), np.ones((20, 2)), found, [str(i) for i in range(20)])
    assert report is not None
    assert report.learned.value == 1.0
    assert np.isnan(report.learned.draws).any()


@pytest.mark.parametrize(
    ("loss", "found"),
    [
        (LOSS[:, :0], FOUND),  # a bundle that does not tell joints apart
        (LOSS, np.full_like(FOUND, np.nan)),  # nobody has a torso
        (LOSS, np.ones_like(FOUND)),  # no misses
        (LOSS, np.zeros_like(FOUND)),  # no hits
    ],
)
def test_nothing_to_tell(loss: np.ndarray, found: np.ndarray) -> None:
    assert joint_report(loss, CONFIDENCE, found, IMAGES) is None
