"""Mapping by name, and keypoint sets in TOML files."""

from pathlib import Path

import numpy as np
import pytest

from misgiving.runtime.errors import DataError
from misgiving.runtime.geometry import Region
from misgiving.runtime.keypoints import COCO, LSP, MPII, SETS, KeypointSet
from misgiving.trainer.data import PoseSet, Sample, join, keypoints_named, open_data
from misgiving.trainer.data.mapping import mapped
from shared.training import JOINTS, standing

IMAGE = np.zeros((200, 160, 3), np.uint8)
ARMS = ("left_wrist", "right_wrist", "left_elbow", "right_elbow")
HEAD = [name in ("neck", "head_top") for name in LSP.names]


def made(*labelled: list[bool], known: bool = True, box: Region | None = None) -> PoseSet:
    """LSP persons who stand."""
    flags = np.array(labelled)
    ids = tuple(f"p{i}" for i in range(len(flags)))

    def read(index: int) -> Sample:
        return Sample(ids[index], IMAGE, standing(), flags[index], Path("x"), box, 5.0)

    return PoseSet("made", LSP, ids, read, flags if known else None)


def chosen(*names: str) -> KeypointSet:
    return KeypointSet(name="chosen", names=names, skeleton=(), torso=())


def test_joints_go_by_name() -> None:
    target = chosen("head_top", "tail", *ARMS)
    data = mapped(made([True] * JOINTS), target)
    sample = data[0]
    assert sample.labelled.tolist() == [True, False, True, True, True, True]
    assert data.labelled is not None
    assert data.labelled.tolist() == [sample.labelled.tolist()]
    for place, name in enumerate(target.names):
        if name != "tail":
            assert sample.points[place].tolist() == standing()[LSP.names.index(name)].tolist()
    assert sample.points.dtype == np.float32
    assert (sample.id, sample.path, sample.area) == ("p0", Path("x"), 5.0)


@pytest.mark.parametrize("box", [None, Region(3, 4, 50, 60)])
def test_the_box_stays(box: Region | None) -> None:
    """Of all joints that were labelled, not only of those that are left."""
    data = made([True] * JOINTS, box=box)
    assert mapped(data, chosen(*ARMS))[0].region == data[0].region


@pytest.mark.parametrize("known", [True, False])
def test_persons_without_a_joint_are_left_out(
    known: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it is known without reading who they are."""
    everything, arms_only = [True] * JOINTS, [name in ARMS for name in LSP.names]
    data = mapped(made(arms_only, everything, HEAD, known=known), chosen("neck", "head_top"))
    assert data.ids == (("p1", "p2") if known else ("p0", "p1", "p2"))
    assert [data[i].id for i in range(len(data))] == list(data.ids)
    assert data[len(data) - 1].labelled.tolist() == [True, True]
    said = capsys.readouterr().err
    assert ("1 persons have none of these joints and are left out" in said) is known
    if known:
        assert data.labelled is not None
        assert data.labelled.all()


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (LSP, ""),  # its own: nothing to say
        (chosen(*reversed(LSP.names)), ""),  # in another order
        (chosen(*LSP.names, "tail"), "made: as chosen: tail not labelled\n"),
        (chosen(*LSP.names[:-1]), "made: as chosen: left out head_top\n"),
        (
            chosen(*LSP.names[:-1], "tail"),
            "made: as chosen: left out head_top; tail not labelled\n",
        ),
    ],
)
def test_what_is_said(target: KeypointSet, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = mapped(made([True] * JOINTS), target)
    assert data.keypoints is target
    assert capsys.readouterr().err == said


def test_nothing_in_common() -> None:
    with pytest.raises(DataError, match=r"made has none of the joints of chosen: right_ankle, "):
        mapped(made([True] * JOINTS), chosen("tail"))
    with pytest.raises(DataError, match=r"made has nobody with a joint of chosen; expected"):
        mapped(made(HEAD), chosen("left_knee", "right_knee"))


@pytest.mark.parametrize("target", [COCO, MPII], ids=lambda target: target.name)
def test_a_spec_is_mapped(target: KeypointSet) -> None:
    data = open_data("synthetic:1,4#2-3", target)
    assert data.keypoints is target
    assert data.spec == "synthetic:1,4,0-1#2-3"
    assert len(data[0].points) == len(target)
    assert join([data, open_data("synthetic:2,1", target)]).keypoints is target


WHOLE = """
name = "tips"
names = ["left_tip", "right_tip", "chin"]
skeleton = [["left_tip", "chin"], ["right_tip", "chin"]]
torso = [["left_tip", "right_tip"]]
"""


def test_a_toml_file(tmp_path: Path) -> None:
    (tmp_path / "k.toml").write_text(WHOLE)
    keypoints = keypoints_named(str(tmp_path / "k.toml"))
    assert (keypoints.name, keypoints.names) == ("tips", ("left_tip", "right_tip", "chin"))
    assert (keypoints.skeleton, keypoints.torso) == (((0, 2), (1, 2)), ((0, 1),))
    assert keypoints.sigmas == ()
    (tmp_path / "k.toml").write_text(WHOLE + "[sigmas]\nchin = 0.05\n")
    assert keypoints_named(str(tmp_path / "k.toml")).sigmas == (None, None, 0.05)


def test_names_of_sets() -> None:
    assert [keypoints_named(name) for name in SETS] == list(SETS.values())
    with pytest.raises(DataError, match=r"keypoints are 'lsp'; expected lsp14, coco17, mpii16 or "):
        keypoints_named("lsp")
    with pytest.raises(DataError, match=r"no.toml: No such file or directory; expected a keypoint"):
        keypoints_named("no.toml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "tips"', "", r"k.toml: name: Field required"),
        ("torso = ", "torsos = ", r"k.toml: torso: Field required"),
        ('name = "tips"', 'name = "tips"\ncolour = 1', r"k.toml: colour: Extra inputs"),
        ('name = "tips"', "name = 3", r"k.toml: name: Input should be a valid string"),
        ('"chin"]\n', "3]\n", r"k.toml: names.2: Input should be a valid string"),
        ('["left_tip", "chin"]', '["left_tip"]', r"k.toml: skeleton: \['left_tip'\] is not two"),
        ('["left_tip", "chin"]', '["left_tip", "tail"]', r"k.toml: skeleton: .*'tail'"),
        ('[["left_tip", "right_tip"]]', '[["a", "b"]]', r"k.toml: torso: \['a', 'b'\] is not two"),
        ('"right_tip", "chin"]\n', '"tip", "chin"]\n', r"k.toml: .*'right_tip'"),
        ('name = "tips"', "name = ", r"k.toml: Invalid value"),  # no TOML
    ],
)
def test_bad_toml(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in WHOLE
    (tmp_path / "k.toml").write_text(WHOLE.replace(old, new, 1))
    with pytest.raises(DataError, match=message) as error:
        keypoints_named(str(tmp_path / "k.toml"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("sigmas", "message"),
    [
        ("tail = 0.1", r"sigmas: 'tail' is not in names; expected one of them"),
        ("chin = 0", r"sigmas.chin: Input should be greater than 0"),
        ("chin = nan", r"sigmas.chin: Input should be"),
        ('chin = "0.1"', r"sigmas.chin: Input should be a valid number"),
    ],
)
def test_bad_sigmas(tmp_path: Path, sigmas: str, message: str) -> None:
    (tmp_path / "k.toml").write_text(f"{WHOLE}[sigmas]\n{sigmas}\n")
    with pytest.raises(DataError, match=message):
        keypoints_named(str(tmp_path / "k.toml"))


def test_other_spellings_are_the_same_joints(capsys: pytest.CaptureFixture[str]) -> None:
    target = chosen("r_ankle", "LeftAnkle", "top_head", "thorax")
    data = mapped(made([True] * JOINTS), target)
    assert data[0].labelled.tolist() == [True, True, True, False]
    expected = [standing()[LSP.names.index(n)] for n in ("right_ankle", "left_ankle", "head_top")]
    np.testing.assert_array_equal(data[0].points[:3], expected)
    assert "3 joints in another spelling (right_ankle is r_ankle)" in capsys.readouterr().err
