"""MPII's JSON list: joints, boxes from centre and scale, ids, files that are none."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from misgiving.runtime.errors import DataError
from misgiving.runtime.geometry import Region
from misgiving.runtime.keypoints import MPII
from misgiving.trainer.data import open_data
from shared.training import real_data
from trainer.annotating import write_images

NO_JOINT = [-1.0, -1.0]


def person(image: int = 0, **changes: Any) -> dict[str, Any]:
    """All joints in place but the first."""
    return {
        "image": f"{image}.png",
        "center": [30.0, 20.0],
        "scale": 0.1,
        "joints": [NO_JOINT, *([float(joint), 7.0] for joint in range(1, 16))],
        "joints_vis": [0] + [1] * 15,
        **changes,
    }


def mpii(folder: Path, content: object) -> str:
    write_images(folder / "images", 2)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "a.json").write_text(text, encoding="utf-8")
    return f"mpii:{folder}/a.json@{folder}/images"


def test_joints(tmp_path: Path) -> None:
    data = open_data(mpii(tmp_path, [person()]))
    assert data.keypoints is MPII
    sample = data[0]
    assert sample.labelled.tolist() == [False] + [True] * 15
    assert sample.points[1:].tolist() == [[joint, 7] for joint in range(1, 16)]  # as they stand
    assert (sample.points.dtype, sample.area) == (np.float32, None)
    assert sample.path == tmp_path / "images" / "0.png"


@pytest.mark.parametrize(
    ("changes", "box"),
    [
        ({}, Region(20, 10, 20, 20)),  # 0.1 × 200 px around (30, 20)
        ({"center": [5, 20]}, Region(0, 10, 15, 20)),  # what is in the image
        ({"center": [-1, -1]}, None),  # not known
        ({"scale": -1}, None),
        ({"scale": 0}, None),
    ],
)
def test_boxes(tmp_path: Path, changes: dict[str, Any], box: Region | None) -> None:
    assert open_data(mpii(tmp_path, [person(**changes)]))[0].box == box


def test_ids_and_order(tmp_path: Path) -> None:
    """Persons of an image in a row; ids that do not depend on the place in the file."""
    rest = [person(0), person(1, center=[9.5, 2]), person(0, center=[1, 2]), person(0)]
    data = open_data(mpii(tmp_path, [person(1), *rest]))
    assert data.ids == (
        "mpii/1.png/30,20",
        "mpii/1.png/9.5,2",
        "mpii/0.png/30,20",
        "mpii/0.png/1,2",
        "mpii/0.png/30,20/2",  # the same centre again
    )
    assert [int(data[i].image[0, 0, 0]) for i in range(5)] == [1, 1, 0, 0, 0]


def with_heads(folder: Path, people: list[dict[str, Any]], corners: object) -> str:
    """The common form's second file; ``corners``: (2, 2, N), as one box (x1, y1, x2, y2) each."""
    boxes = np.array(corners, float).reshape(-1, 2, 2)
    savemat(folder / "gt_a.mat", {"headboxes_src": boxes.transpose(1, 2, 0)})
    return mpii(folder, people)


def test_head_boxes(tmp_path: Path) -> None:
    """In the order of the JSON, though persons are regrouped by image and some are left out."""
    nobody = person(joints_vis=[0] * 16)
    people = [person(1), nobody, person(0), person(1, center=[9, 9]), person(0, center=[3, 3])]
    nan = float("nan")
    corners = [[1, 2, 4, 6], [0, 0, 9, 9], [50, 60, 10, 20], [nan] * 4, [7, 7, 7, 9]]
    data = open_data(with_heads(tmp_path, people, corners))
    assert [data[i].head_box for i in range(len(data))] == [
        Region(1, 2, 3, 4),
        None,  # not known
        Region(10, 20, 40, 40),  # corners the other way round, and outside the image
        None,  # without width
    ]


def test_no_head_boxes(tmp_path: Path) -> None:
    assert open_data(mpii(tmp_path, [person()]))[0].head_box is None


def test_head_boxes_that_are_none(tmp_path: Path) -> None:
    spec = with_heads(tmp_path, [person()], [[1, 2, 3, 4]] * 2)
    with pytest.raises(DataError, match=r"shape \(2, 2, 2\); expected \(2, 2, 1\), one for each"):
        open_data(spec)
    (tmp_path / "gt_a.mat").write_bytes(b"no such thing")
    with pytest.raises(DataError, match=r"gt_a.mat holds no array 'headboxes_src'") as error:
        open_data(spec)
    assert "\n" not in str(error.value)
    savemat(tmp_path / "gt_a.mat", {"preds": [1]})
    with pytest.raises(DataError, match=r"holds no array 'headboxes_src'"):
        open_data(spec)
    (tmp_path / "gt_a.mat").unlink()
    (tmp_path / "gt_a.mat").mkdir()
    with pytest.raises(DataError, match=r"gt_a.mat: Is a directory; expected MPII's head boxes"):
        open_data(spec)


def test_who_is_left_out_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nobody = person(joints_vis=[0] * 16)
    data = open_data(mpii(tmp_path, [nobody, person(), nobody]))
    assert len(data) == 1
    assert capsys.readouterr().err == f"{data.spec}: 1 persons; 2 without keypoints left out\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"a.json: Invalid JSON"),
        ("{}", r"a.json: Input should be a valid array.*; expected a list of persons"),
        ([{**person(), "image": 3}], r"a.json: 0.image: "),
        ([person(), {**person(), "joints": []}], r"a.json: 1.joints: .* at least 16"),
        ([person(joints=[[1, 2]] * 17)], r"0.joints: .* at most 16"),
        ([person(joints=[[1, float("nan")]] * 16)], r"0.joints.0.1: .* finite number"),
        ([person(joints_vis=[1] * 15)], r"0.joints_vis: .* at least 16"),
        ([person(scale=float("inf"))], r"0.scale: .* finite number"),
        ([person(9)], r"images lacks 9.png \(1 of 1 images are missing\)"),
        ([], r"holds nobody"),
    ],
)
def test_bad_files(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        open_data(mpii(tmp_path, content))
    assert "\n" not in str(error.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a.json: No such file or directory; expected a JSON file"):
        open_data(f"mpii:{tmp_path}/a.json@{tmp_path}")


def test_real_mpii() -> None:
    folder = real_data("mpii_sample")
    data = open_data(f"mpii:{folder}/test_mpii.json@{folder}")
    assert len(data) == 5
    assert [int(data[i].labelled.sum()) for i in range(5)] == [16, 16, 14, 14, 16]
    for index in range(5):
        sample = data[index]
        assert (sample.points[~sample.labelled] == -1).all()
        box = sample.box
        assert box is not None
        # The square reaches from about the head to about the feet.
        assert abs(box.height - np.ptp(sample.points[sample.labelled, 1])) < 0.6 * box.height


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    spec = mpii(tmp_path, [person()])
    (tmp_path / "a.json").write_bytes(json.dumps([person()]).encode(encoding))
    assert len(open_data(spec)) == 1
    (tmp_path / "a.json").write_bytes(b"[\xff]")
    with pytest.raises(DataError, match=r"a.json: not JSON \(.*; copy or export"):
        open_data(spec)


def test_a_lone_joint_of_unknown_size_is_learnt_in_the_whole_image(tmp_path: Path) -> None:
    lone = person(joints_vis=[1] + [0] * 15, scale=-1)
    assert open_data(mpii(tmp_path, [lone]))[0].region is None
