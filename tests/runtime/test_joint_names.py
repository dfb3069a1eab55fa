"""Names of joints as many sets and tools write them."""

import pytest

from misgiving.runtime.joint_names import canonical, mirror_places, places_of, side_of
from misgiving.runtime.keypoints import COCO, LSP, KeypointSet

RIGHT_KNEES = (
    "RightKnee rightKnee right-knee knee_right kneeR RKnee r_knee R_Knee knee.r RIGHT_KNEE rKnee "
    "rknee RKNEE Rkne kneeright rightknee right_knee_joint KNEE-R knee(R) R.Knee right__knee RtKnee"
)


MIDDLE = (
    "lip upper_lip root ear rear collar tail heel skull upright bright MidHip Hip L5 Neck/Nose "
    "thorax pelvis chin 左膝 été 7 face-0"
)


@pytest.mark.parametrize("name", ["right knee", *RIGHT_KNEES.split()])
def test_a_right_knee_however_it_is_spelt(name: str) -> None:
    assert canonical(name) == "right_knee"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("left_foot_index", "left_foot_index"),  # MediaPipe
        ("mouth_left", "left_mouth"),
        ("LBigToe", "left_big_toe"),  # OpenPose, Halpe
        ("HandTipLeft", "left_hand_tip"),  # Kinect
        ("L_F_Paw", "left_f_paw"),  # animals
        ("lear", "left_ear"),
        ("left_upLeg_joint", "left_up_leg"),
        ("shoulder.L.001", "left_shoulder_001"),
        ("LIndex1", "left_index1"),
        ("top_head", "head_top"),  # CrowdPose
        ("HeadTop", "head_top"),
    ],
)
def test_other_sets_spellings(name: str, expected: str) -> None:
    assert canonical(name) == expected


@pytest.mark.parametrize(
    "name",
    [*MIDDLE.split(), "Root of tail", ""],
)
def test_a_letter_that_is_no_side(name: str) -> None:
    assert side_of(name) == ""


@pytest.mark.parametrize(
    "names",
    [
        ["thorax", "neck"],
        ["upper_neck", "neck"],
        ["pelvis", "mid_hip"],
        ["left_foot", "left_ankle"],
        ["head", "head_top"],
        ["left_toe", "left_big_toe"],
    ],
)
def test_other_joints_stay_apart(names: list[str]) -> None:
    assert places_of(names[:1], names[1:]) == [-1]


@pytest.mark.parametrize(
    ("names", "mirrored"),
    [
        (["RightKnee", "neck", "LeftKnee"], [2, 1, 0]),
        (["LASI", "RASI", "lip"], [1, 0, 2]),  # an unknown word, but both are there
        (["leftwhisker", "rightwhisker"], [1, 0]),
        (["pelvis_r", "pelvis"], [0, 1]),
        (["r_knee", "RKnee", "l_knee"], [0, 1, 2]),  # which of the two?
        (["left_eye_left_corner", "right_eye_right_corner"], [1, 0]),
        (["left_eye_right_corner", "right_eye_left_corner"], [1, 0]),
    ],
)
def test_mirror_pairs(names: list[str], mirrored: list[int]) -> None:
    assert mirror_places(names) == mirrored


def test_places_take_the_same_name_first_and_nothing_doubtful() -> None:
    assert places_of(["RKnee", "right_knee"], ["right_knee"]) == [1]
    assert places_of(["RKnee", "KneeRight"], ["right_knee"]) == [-1]
    assert places_of(["RKnee"], ["right_knee", "r_knee"]) == [-1, -1]


@pytest.mark.parametrize("known", [LSP, COCO])
def test_a_set_in_another_spelling_is_as_good(known: KeypointSet) -> None:
    """Pairs, constants and torso are those of the set that it is."""
    names = tuple(name.title().replace("_", "") for name in known.names)
    other = KeypointSet(name="camel", names=names, skeleton=(), torso=())
    assert other.mirror.tolist() == known.mirror.tolist()
    assert len(other.mirror_pairs) == len(known.mirror_pairs) == (6 if known is LSP else 8)
    assert str(other.oks_sigmas) == str(known.oks_sigmas)
    assert not other.one_sided


def test_one_side_alone_is_named_and_stays_readable() -> None:
    """A bundle may have such a set: it was taken, and is read."""
    keypoints = KeypointSet(name="x", names=("RightKnee", "neck"), skeleton=(), torso=())
    assert keypoints.one_sided == ("RightKnee",)
    assert KeypointSet.model_validate_json(keypoints.model_dump_json()) == keypoints
