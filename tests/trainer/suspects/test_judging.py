"""Planted errors are told from right labels, on answers that are made up."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.keypoints import LSP, KeypointSet
from misgiving.trainer.answers.scoring import Scores
from misgiving.trainer.suspects.judging import SUSPECT, Judgement, check_torso, ways
from shared.training import scores_of

KNEE = LSP.names.index("left_knee")
LEGS, ARMS = "ankle, knee, hip", "wrist, elbow, shoulder"


def answered(
    labels: NDArray[np.floating], unlabelled: tuple[str, ...] = (), sure: float = 0.9
) -> Scores:
    """Somebody who stands, found within a px, beside the label that is given; then nine others
    with right labels, of whose joints nets are ever surer, up to 0.9."""
    one = scores_of([0.0] * 10, moved_px=[1.0] * 10)
    points, known = one.true_points.copy(), one.labelled.copy()
    points[0], known[0] = labels, [name not in unlabelled for name in LSP.names]
    confidence = np.repeat(np.linspace(0.0, 0.9, 10)[:, None], len(LSP), axis=1)
    confidence[0] = sure
    chance = np.full((10, len(LSP)), 0.05)
    return replace(
        one, true_points=points, labelled=known, keypoint_loss=chance, confidence=confidence
    )


def label(way: str = "", moved: float = 0.0) -> NDArray[np.floating]:
    """The person's label with sides exchanged one way, and the left knee moved so many px."""
    points, joints = scores_of([0.0]).true_points[0].copy(), ways(LSP)[way]
    points[joints] = points[LSP.mirror[joints]]
    points[KNEE, 0] += moved
    return points


TORSO = LSP.torso_size(scores_of([0.0]).true_points[0].astype(np.float32), np.ones(14, bool))


@pytest.mark.parametrize(
    ("scores", "exchanged", "joints"),
    [
        # a right label
        (answered(label()), "", ()),
        # every side
        (answered(label("all")), "all", None),
        # of one limb
        (answered(label(LEGS)), LEGS, None),
        (answered(label(ARMS)), ARMS, None),
        # a joint far off, and as far as PCK still calls found
        (answered(label(moved=TORSO)), "", ("left_knee",)),
        (answered(label(moved=0.15 * TORSO)), "", ()),
        # the same errors, but the net is unsure
        (answered(label("all"), sure=0.2), "", ()),
        (answered(label(moved=TORSO), sure=0.2), "", ()),
        # the moved joint is not labelled
        (answered(label(moved=TORSO), ("left_knee",)), "", ()),
        # sides are told though half of them, or the torso, are not labelled
        (answered(label("all"), ("left_knee", "left_elbow")), "all", None),
        (answered(label("all"), ("left_hip", "neck")), "all", None),
        # nothing is labelled
        (answered(label("all"), LSP.names), "", ()),
    ],
)
def test_what_is_held_against_a_label(
    scores: Scores, exchanged: str, joints: tuple[str, ...] | None
) -> None:
    told = Judgement(scores).of(0)
    assert told.exchanged == exchanged
    assert joints is None or told.joints == joints
    assert told.suspect == bool(told.exchanged or told.joints)
    assert not any(Judgement(scores).of(other).suspect for other in range(1, 10))


def test_the_most_suspect_come_first() -> None:
    shifts = (0.2, 1.0, 0.6)  # torso lengths
    labels = np.stack([label(moved=share * TORSO) for share in shifts])
    scores = replace(
        scores_of([0.0] * 3), true_points=labels, keypoint_loss=np.full((3, len(LSP)), 0.05)
    )
    judged = Judgement(scores)
    told = [judged.of(index).score for index in judged.order]
    assert judged.order == [1, 2, 0]
    assert told == pytest.approx(sorted(shifts, reverse=True))  # all answers are equally sure
    assert min(told[:2]) > SUSPECT > told[2]


def test_keypoints_without_sides_have_no_way_to_exchange_them() -> None:
    one = KeypointSet(name="mine", names=("nose", "neck"), skeleton=((0, 1),), torso=())
    assert list(ways(one)) == ["", "all"]
    assert len(ways(one)["all"]) == 0


def test_keypoints_without_a_torso() -> None:
    one = KeypointSet(name="mine", names=("nose", "neck"), skeleton=(), torso=())
    with pytest.raises(InvalidInput, match="mine have no torso"):
        check_torso(one)
