"""Keypoint sets: mirror pairs, skeleton, torso."""

import numpy as np
import pytest
from pydantic import ValidationError

from misgiving.runtime.keypoints import (
    COCO,
    LSP,
    MPII,
    SETS,
    KeypointSet,
    of_category,
    torso_by_name,
)


@pytest.mark.parametrize("keypoints", SETS.values(), ids=SETS)
def test_mirroring_twice_is_nothing(keypoints: KeypointSet) -> None:
    mirror = keypoints.mirror
    assert sorted(mirror) == list(range(len(keypoints)))
    assert np.array_equal(mirror[mirror], np.arange(len(keypoints)))


@pytest.mark.parametrize("keypoints", SETS.values(), ids=SETS)
def test_the_skeleton_is_symmetric_and_reaches_every_joint(keypoints: KeypointSet) -> None:
    bones = {frozenset(bone) for bone in keypoints.skeleton}
    mirrored = {frozenset(int(keypoints.mirror[i]) for i in bone) for bone in bones}
    assert mirrored == bones
    assert {i for bone in bones for i in bone} == set(range(len(keypoints)))


def test_lsp_sides() -> None:
    names = LSP.names
    assert [names[i] for i in LSP.mirror[:2]] == ["left_ankle", "left_knee"]
    assert [names[i] for i in LSP.mirror[-2:]] == ["neck", "head_top"]


def test_known_sets_have_their_names() -> None:
    assert {name: len(keypoints) for name, keypoints in SETS.items()} == {
        "lsp14": 14,
        "coco17": 17,
        "mpii16": 16,
    }
    assert (COCO.names[0], COCO.names[16]) == ("nose", "right_ankle")
    assert (MPII.names[0], MPII.names[6], MPII.names[15]) == ("right_ankle", "pelvis", "left_wrist")
    assert not np.isnan(COCO.oks_sigmas).any()


@pytest.mark.parametrize("keypoints", SETS.values(), ids=SETS)
def test_the_torso_is_from_shoulder_to_opposite_hip(keypoints: KeypointSet) -> None:
    named = {frozenset(keypoints.names[i] for i in pair) for pair in keypoints.torso}
    assert named == {
        frozenset({"left_shoulder", "right_hip"}),
        frozenset({"right_shoulder", "left_hip"}),
    }
    assert torso_by_name(keypoints.names) == keypoints.torso
    assert torso_by_name([name for name in keypoints.names if name != "left_hip"]) == ()


def test_torso_size_is_the_longer_diagonal() -> None:
    points = np.zeros((14, 2), np.float32)
    points[LSP.names.index("left_shoulder")] = (3, 4)  # to the right hip at 0: 5
    points[LSP.names.index("right_shoulder")] = (1, 0)
    labelled = np.ones(14, bool)
    assert LSP.torso_size(points, labelled) == 5
    labelled[LSP.names.index("left_hip")] = False  # of the shorter one, all the same
    assert np.isnan(LSP.torso_size(points, labelled))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"names": ("neck", "neck")}, "twice"),
        ({"skeleton": ((0, 2),)}, "indices from 0 to 1"),
        ({"torso": ((-1, 0),)}, "indices from 0 to 1"),
        ({"names": ("left_ear", "neck")}, "'left_ear' without 'right_ear'"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_sets_that_contradict_themselves(change: dict[str, object], said: str) -> None:
    whole = {"name": "x", "names": ("neck", "head"), "skeleton": ((0, 1),), "torso": ()}
    KeypointSet.model_validate(whole)
    with pytest.raises(ValidationError, match=said):
        KeypointSet.model_validate(whole | change)


def test_a_set_without_torso_has_no_torso_size() -> None:
    keypoints = KeypointSet(name="x", names=("a",), skeleton=(), torso=())
    assert np.isnan(keypoints.torso_size(np.zeros((1, 2), np.float32), np.ones(1, bool)))


@pytest.mark.parametrize("known", SETS.values(), ids=SETS)
def test_a_category_with_the_joints_of_a_known_set_is_that_set(known: KeypointSet) -> None:
    assert of_category("person", list(known.names), []) is known


def test_another_category_is_a_custom_set() -> None:
    hand = of_category("hand", ["wrist", "thumb"], [[1, 2]])
    assert (hand.name, hand.names) == ("hand", ("wrist", "thumb"))
    assert hand.skeleton == ((0, 1),)
    assert hand.torso == ()
    with pytest.raises(ValidationError, match="'left_ear' without 'right_ear'"):
        of_category("half", ["left_ear"], [])


def test_oks_constants_are_coco_s_by_name() -> None:
    named = dict(zip(LSP.names, LSP.oks_sigmas.tolist(), strict=True))
    assert named["left_hip"] == named["right_hip"] == 0.107
    assert named["right_wrist"] == 0.062
    assert [name for name, sigma in named.items() if np.isnan(sigma)] == ["neck", "head_top"]


def test_oks_constants_of_a_custom_set() -> None:
    plain = {"name": "x", "names": ("nose", "chin"), "skeleton": (), "torso": ()}
    custom = KeypointSet(**plain, sigmas=(0.05, None))
    np.testing.assert_array_equal(custom.oks_sigmas, [0.05, np.nan])
    with pytest.raises(ValidationError, match=r"has 1 sigmas; expected 2, or none"):
        KeypointSet(**plain, sigmas=(0.05,))
