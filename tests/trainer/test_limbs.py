"""What the page against other nets counts: ``benchmarks/limbs.py``."""

import numpy as np
import pytest
from limbs import (
    BLAZEPOSE,
    KINDS,
    LIMBS,
    OURS,
    Said,
    Truth,
    compare,
    limb_places,
    of_landmarks,
    rows,
    signed,
)
from numpy.typing import NDArray

from misgiving.runtime.geometry import Window
from misgiving.runtime.keypoints import LSP
from misgiving.trainer.measures.bootstrap import Estimate

NAMES = ("nose", *reversed(LIMBS.names), "left_heel")
"""As a net of others has them: more joints, in another order."""


def persons(count: int) -> NDArray[np.float64]:
    """Joints that are 10 px apart, so that PCK@0.2's radius is several px; (N, 12, 2)."""
    joints = np.stack([np.arange(12) % 3, np.arange(12) // 3], 1) * 10.0
    return np.repeat(joints[None], count, 0)


def test_the_joints_are_lsps_limbs() -> None:
    assert LIMBS.names == LSP.names[:12]
    assert LIMBS.torso == LSP.torso
    assert sum(kind in name for kind in KINDS for name in LIMBS.names) == 12
    with pytest.raises(ValueError, match="joints are nose; expected right_ankle"):
        limb_places(["nose"])


def test_landmarks_are_matched_by_name_and_moved_to_the_image() -> None:
    landmarks = np.zeros((2, 14, 3))
    landmarks[0, :, 0], landmarks[0, :, 2] = np.arange(14), 0.5
    landmarks[0, 0, 2], landmarks[1] = 0.25, np.nan  # a hidden nose; nobody
    said = of_landmarks(landmarks, NAMES, [Window(100, 20, 50, 50)] * 2)
    assert said.points[0, :, 0].tolist() == [100.0 + i for i in range(12, 0, -1)]
    assert said.points[0, :, 1].tolist() == [20.0] * 12
    assert said.answered.tolist() == [True, False]
    limbs, everything = said.risks.values()
    assert limbs.tolist() == [-0.5, 1.0]
    assert everything.tolist() == [-(13 * 0.5 + 0.25) / 14, 1.0]


def test_who_is_not_found_is_missed_and_who_has_no_torso_counts_nowhere() -> None:
    true = persons(5)
    labelled = np.ones((5, 12), bool)
    labelled[4, LIMBS.names.index("left_hip")] = False
    ours, other = true.copy(), true.copy()
    ours[1], other[0, :3], other[2] = 1000, 1000, np.nan
    nets = {
        OURS: Said(ours, {"score": np.array([0.5, 0.7, 0.9, 0.1, 9.0])}),
        BLAZEPOSE: Said(other, {"visibility": np.array([-0.2, -0.9, 1.0, -0.9, -9.0])}),
    }
    result = compare(nets, Truth([str(i) for i in range(5)], true, labelled))
    assert result.measured == 4
    assert result.answered == {OURS: 1.0, BLAZEPOSE: 0.75}
    assert result.failures == {OURS: 1, BLAZEPOSE: 1}
    assert result.everybody[OURS].value == pytest.approx(3 / 4)
    assert result.everybody[BLAZEPOSE].value == pytest.approx((3 * 2 + 9 * 3) / 12 / 4)
    assert result.everybody[OURS, "score"].value == pytest.approx(2 / 3)
    assert result.everybody[BLAZEPOSE, "visibility"].value == 1.0
    # Without the third person, whom the other does not find.
    assert result.found[OURS].value == pytest.approx(2 / 3)
    assert result.found[OURS, "score"].value == 1.0
    assert np.isnan(result.found[BLAZEPOSE, "visibility"].value)  # nobody else fails
    assert dict(zip(KINDS, result.by_kind[BLAZEPOSE], strict=True))["shoulder"] == 0.75
    assert dict(zip(KINDS, result.by_kind[BLAZEPOSE], strict=True))["ankle"] == 5 / 8
    assert {line.count("|") for line in rows(result)} == {9}


@pytest.mark.parametrize(
    ("value", "draws", "says"),
    [
        (0.1, [0.05, 0.05], "+0.100 [+0.050 +0.050], **ours**"),
        (-0.1, [-0.15, -0.15], "-0.100 [-0.150 -0.150], **theirs**"),
        (0.1, [-0.1, 0.3], "+0.100 [-0.090 +0.290], level"),
        (0.1, [], "+0.100"),  # a single picture
        (np.nan, [0.0], "–"),  # nobody failed
    ],
)
def test_a_difference_says_who_is_ahead(value: float, draws: list[float], says: str) -> None:
    assert signed(Estimate(value, np.array(draws))) == says
