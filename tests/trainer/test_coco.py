"""COCO person keypoints: who is read, what is left out and counted, files that are none."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from misgiving.runtime.errors import DataError
from misgiving.runtime.geometry import Region
from misgiving.runtime.keypoints import COCO, KeypointSet
from misgiving.trainer.data import open_data
from shared.training import real_data
from trainer.annotating import NAMES, annotation, coco, document


def test_persons_of_one_image_stand_in_a_row(tmp_path: Path) -> None:
    """In the order of the file's images; an id tells image and annotation."""
    rows = [(3, 0), (1, 7), (2, 0), (9, 7)]
    content = document(*(annotation(i, at, bbox=[i, 2, 10, 20], area=i) for i, at in rows))
    content["annotations"][3]["keypoints"][5] = 0
    data = open_data(coco(tmp_path, content))
    numbers = ("1.png/1", "1.png/9", "0.png/3", "0.png/2")
    assert data.ids == tuple(f"coco/{number}" for number in numbers)
    assert [int(data[i].image[0, 0, 0]) for i in range(4)] == [1, 1, 0, 0]
    assert [data[i].points[0, 0] for i in range(4)] == [1, 9, 3, 2]
    assert [data[i].region.x for i in range(4)] == [1, 9, 3, 2]
    assert [data[i].area for i in range(4)] == [1, 9, 3, 2]
    assert [int(data[i].labelled.sum()) for i in range(4)] == [2, 1, 2, 2]
    assert data[0].image is data[1].image  # decoded once
    assert data[0].path == tmp_path / "images" / "1.png"
    assert data[2].id == data.ids[2]
    assert data.spec == f"coco:{tmp_path}/a.json@{tmp_path}/images"


def test_joints_and_keypoints(tmp_path: Path) -> None:
    data = open_data(coco(tmp_path, document(annotation(5))))
    sample = data[0]
    assert sample.points[:2].tolist() == [[5, 2], [3.5, 4]]  # as they stand, no half pixel
    assert sample.labelled.tolist() == [True, True, False]  # hidden is labelled
    assert (sample.points.dtype, sample.labelled.dtype) == (np.float32, np.bool_)
    assert data.labelled is not None
    assert data.labelled.tolist() == [[True, True, False]]
    keypoints = data.keypoints
    assert (keypoints.name, keypoints.names) == ("person", tuple(NAMES))
    assert keypoints.skeleton == ((0, 1), (0, 2))
    assert keypoints.torso == ()


def test_a_custom_set_gets_its_torso_by_name(tmp_path: Path) -> None:
    names = ["tail", "left_hip", "right_hip", "left_shoulder", "right_shoulder"]
    category = {"id": 1, "name": "dog", "keypoints": names}
    one = annotation(1, keypoints=[1, 2, 2] * 5)
    keypoints = open_data(coco(tmp_path, document(one, categories=[category]))).keypoints
    assert keypoints.torso == ((3, 2), (4, 1))
    assert keypoints.skeleton == ()


@pytest.mark.parametrize(
    ("changes", "box", "area"),
    [
        ({}, Region(1, 2, 10, 20), 150.5),
        ({"bbox": [-5, -5, 15, 25]}, Region(0, 0, 10, 20), 150.5),  # what is in the image
        ({"bbox": [50, 30, 100, 100]}, Region(50, 30, 10, 10), 150.5),
        ({"bbox": [70, 2, 10, 20]}, None, 150.5),  # beside the image
        ({"bbox": [1, 2, 0, 20]}, None, 150.5),  # no width
        ({"bbox": [1, 2, 10, -1]}, None, 150.5),
        ({"bbox": None, "area": None}, None, None),
        ({"bbox": [], "area": 0}, None, None),
    ],
)
def test_boxes_and_areas(
    tmp_path: Path, changes: dict[str, Any], box: Region | None, area: float | None
) -> None:
    sample = open_data(coco(tmp_path, document(annotation(1, **changes))))[0]
    assert (sample.box, sample.area) == (box, area)
    assert sample.region == (box or Region.around(sample.points[:2]))


def test_who_is_left_out_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = document(
        annotation(1),
        annotation(2, iscrowd=1, segmentation={"counts": [1], "size": [2, 2]}),
        annotation(3, keypoints=[0] * 9),
        annotation(4, keypoints=[]),
        annotation(5, category_id=2, keypoints=[1]),  # of a category without keypoints
    )
    content["categories"].append({"id": 2, "name": "cat", "keypoints": []})
    data = open_data(coco(tmp_path, content))
    assert data.ids == ("coco/0.png/1",)
    said = capsys.readouterr().err
    assert said == f"{data.spec}: 1 persons; 1 crowds and 2 without keypoints left out\n"


def test_nothing_is_said_where_nobody_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_data(coco(tmp_path, document(annotation(1))))
    assert capsys.readouterr().err == ""


def test_opening_reads_no_image(tmp_path: Path) -> None:
    spec = coco(tmp_path, document(annotation(1)))
    (tmp_path / "images" / "0.png").write_bytes(b"no image")
    assert len(open_data(spec)) == 1


BAD_KEYPOINTS = "expected ids, and numbers in keypoints, bbox and area"
TWO = [
    {"id": 1, "name": "person", "keypoints": ["nose"]},
    {"id": 2, "name": "hand", "keypoints": ["tip"]},
]
ONE_SIDE = [{"id": 1, "name": "x", "keypoints": ["left_ear", "chin", "tip"]}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"a.json: not JSON \(Expecting value"),
        ('{"images": [', r"a.json: not JSON"),  # cut off
        ("[" * 100_000, r"a.json: not JSON"),  # too deep
        ("[]", r"a.json: no list 'images'; expected images, annotations and categories"),
        ({"images": []}, r"no list 'annotations'"),
        (document(3), r"annotations\[0\] has no image_id"),
        (document({"id": 1}), r"annotations\[0\] has no image_id"),
        (document(annotation(1, attributes=annotation(2))), r"stands outside of annotations"),
        (document(annotation(1), categories=[]), r"0 categories have keypoints; expected one"),
        (document(annotation(1), categories=TWO), r"2 categories have keypoints; expected one"),
        (document(annotation(1), categories=[{"id": 1}]), r"0 categories have keypoints"),
        (document(annotation(1), categories=[3]), r"categories.0: .*expected id, name, keypoints"),
        (document(annotation(1), categories=[{"keypoints": ["x"]}]), r"categories.0: no 'id'"),
        (
            document(annotation(1), categories=[{"id": 1, "keypoints": "x"}]),
            r"categories.0: keypoints are x; expected",
        ),
        (document(annotation(1), categories=ONE_SIDE), r"'left_ear' without 'right_ear'"),
        (document(annotation(1), annotation(1)), r"annotation 1 occurs twice"),
        (document(annotation(1, 5)), r"annotation 1 is of an image that the file does not list"),
        (document(annotation(1), images=[]), r"annotation 1 is of an image"),
        (
            document(annotation(1), images=[{"id": 2**70, "file_name": "a"}]),
            r"images\[0\] has no id",
        ),
        (document(annotation(1), images=[{"id": [], "file_name": "a"}]), r"images\[0\] has no id"),
        (document(annotation(1), images=[3]), r"images\[0\] has no id"),
        (document(annotation(1), images=[{"id": 0}]), r"images\[0\] has no id and file_name"),
        (document(annotation(1), images=[{"id": 0, "file_name": "a"}] * 2), r"image 0 occurs twi"),
        (document(annotation(4, keypoints=[1, 2, 2])), r"annotation 4 has 3 numbers in keypoints"),
        (document(annotation(4, keypoints=[1, 2, 3] * 3)), r"annotation 4 has a strange visib"),
        (document(annotation(4, keypoints=[float("nan"), 2, 2] * 3)), r"4 has a keypoint that is"),
        (document(annotation(4, keypoints=[1e300, 2, 2] * 3)), r"annotation 4"),  # no float32
        (document(annotation(4, keypoints=["1", 2, 2] * 3)), rf"annotation 4: .*{BAD_KEYPOINTS}"),
        (document(annotation(4, keypoints=5)), rf"annotation 4: .*{BAD_KEYPOINTS}"),
        (document(annotation(4, bbox=[1, 2, 3])), r"annotation 4: bbox is \[1, 2, 3\]"),
        (document(annotation(4, bbox=[1, 2, 3, float("inf")])), r"annotation 4: bbox is .*inf"),
        (document(annotation(4, area="5")), rf"annotation 4: .*{BAD_KEYPOINTS}"),
        (document(annotation(4, image_id=[0])), rf"annotation 4: .*{BAD_KEYPOINTS}"),
        (document(annotation(4, category_id=None)), rf"annotation 4: .*{BAD_KEYPOINTS}"),
        (document(annotation(4, id="b"), annotation(5, id="b")), r"annotation b occurs twice"),
        (document({"image_id": 0, "id": 4}), r"annotation 4: no 'category_id'"),
        (document({"image_id": 0, "category_id": 1}), r"annotation 0: no 'id'"),
        (document(), r"holds nobody"),
    ],
)
def test_bad_files(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        open_data(coco(tmp_path, content))
    assert str(tmp_path / "a.json") in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_files(tmp_path: Path) -> None:
    spec = coco(tmp_path, document(annotation(1), annotation(2, 7)))
    (tmp_path / "images" / "0.png").unlink()
    with pytest.raises(DataError, match=r"images lacks 0.png \(1 of 2 images are missing\)"):
        open_data(spec)
    (tmp_path / "a.json").unlink()
    with pytest.raises(DataError, match=r"a.json: No such file or directory; expected a JSON file"):
        open_data(spec)


def test_an_image_that_nobody_is_in_may_be_missing(tmp_path: Path) -> None:
    spec = coco(tmp_path, document(annotation(1)))
    (tmp_path / "images" / "1.png").unlink()
    assert len(open_data(spec)) == 1


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    assert len(open_data(coco(tmp_path, "\ufeff" + json.dumps(document(annotation(1)))))) == 1


def test_real_coco(capsys: pytest.CaptureFixture[str]) -> None:
    folder = real_data("coco_ccby")
    data = open_data(f"coco:{folder}/person_keypoints.json@{folder}/images")
    assert data.keypoints is COCO
    assert len(data) == 31
    assert "31 persons; 2 crowds and 21 without keypoints left out" in capsys.readouterr().err
    for index in range(len(data)):
        sample = data[index]
        assert sample.box is not None
        assert sample.area is not None
        low = np.array([sample.box.x, sample.box.y]) - 3
        high = low + [sample.box.width + 6, sample.box.height + 6]
        inside = (sample.points >= low) & (sample.points <= high)
        assert inside[sample.labelled].mean() > 0.8, sample.id


def sized(width: int, height: int, *annotations: dict[str, Any]) -> dict[str, Any]:
    """A document that says how large its images are; they are 60 x 40 px."""
    content = document(*annotations)
    for image in content["images"]:
        image |= {"width": width, "height": height}
    return content


@pytest.mark.parametrize(("width", "height", "scale"), [(60, 40, 1), (30, 20, 2), (120, 80, 0.5)])
def test_labels_of_a_resized_copy_are_scaled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], width: int, height: int, scale: float
) -> None:
    data = open_data(
        coco(tmp_path, sized(width, height, annotation(1, bbox=[1, 2, 10, 9]), annotation(2)))
    )
    assert capsys.readouterr().err == ""
    sample = data[0]
    assert sample.points[:2].tolist() == [[scale, 2 * scale], [3.5 * scale, 4 * scale]]
    assert sample.points.dtype == np.float32
    assert sample.box == Region(*(number * scale for number in (1, 2, 10, 9)))
    assert sample.area == 150.5 * scale**2
    data[1]
    said = capsys.readouterr().err
    assert said.count("\n") == (scale != 1)  # once a set
    if scale != 1:
        assert f"0.png is 60 x 40 px; {tmp_path}/a.json says {width} x {height} px" in said


@pytest.mark.parametrize(
    ("width", "height"),
    [(40, 60), (60, 60), (30, 30), (61, 80)],  # turned, stretched, stretched and smaller
)
def test_labels_of_another_shape_are_refused(tmp_path: Path, width: int, height: int) -> None:
    data = open_data(coco(tmp_path, sized(width, height, annotation(1))))
    with pytest.raises(DataError, match=rf"0.png is 60 x 40 px; .*a.json says {width} x {height}"):
        data[0]


def test_one_pixel_more_is_no_other_shape(tmp_path: Path) -> None:
    """A copy's sides are whole pixels."""
    data = open_data(coco(tmp_path, sized(20, 13, annotation(1))))
    assert data[0].points[0].tolist() == pytest.approx([3, 2 * 40 / 13])


FAR = [-500, 9000, 2, 3, 4, 2, 0, 0, 0]


def test_who_is_far_outside_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = open_data(coco(tmp_path, sized(60, 40, annotation(1), annotation(2, keypoints=FAR))))
    assert data.ids == ("coco/0.png/1",)
    assert "1 persons; 1 with a joint far outside of the image left out" in capsys.readouterr().err


def test_who_is_far_outside_of_an_image_of_unknown_size(tmp_path: Path) -> None:
    data = open_data(coco(tmp_path, document(annotation(1), annotation(2, keypoints=FAR))))
    assert data[0].id == "coco/0.png/1"
    with pytest.raises(DataError, match=r"0.png is 60 x 40 px; .* far outside of it. Mend or lea"):
        data[1]


@pytest.mark.parametrize("box", [None, [], [4, 4, 0, 0], [4, 4, 1, 1]])
def test_a_lone_joint_has_no_extent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], box: list[float] | None
) -> None:
    one = annotation(2, keypoints=[4, 4, 2, *[0] * 6], bbox=box)
    data = open_data(coco(tmp_path, document(annotation(1), one)))
    assert data.ids == ("coco/0.png/1",)
    assert "1 persons; 1 with one joint and no box left out" in capsys.readouterr().err


def test_hidden_joints_are_told(tmp_path: Path) -> None:
    data = open_data(coco(tmp_path, document(annotation(5))))
    assert data[0].hidden is not None
    assert data[0].hidden.tolist() == [False, True, False]
    other = open_data(data.spec, KeypointSet(name="x", names=NAMES[::-1], skeleton=(), torso=()))
    assert other[0].hidden is not None
    assert other[0].hidden.tolist() == [False, True, False][::-1]


def test_categories_of_the_same_keypoints_are_one(tmp_path: Path) -> None:
    content = document(annotation(1), annotation(2, category_id="driver"))
    content["categories"].append({"id": "driver", "name": "driver", "keypoints": NAMES})
    assert len(open_data(coco(tmp_path, content))) == 2
