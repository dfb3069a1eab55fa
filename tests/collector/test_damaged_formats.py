"""What tools and people may do to a file: one line that says what and where, and no label set."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from misgiving.collector.annotations import export_annotations, import_coco
from misgiving.runtime.errors import DataError
from shared.annotating import FRAMES, stored

CSV = "images/CollectedData_misgiving.csv"


def replaced(name: str, old: str, new: str) -> Callable[[Path], None]:
    """In the first place where it stands."""

    def change(batch: Path) -> None:
        (path,) = batch.glob(name) if "*" not in name else sorted(batch.glob(name))[:1]
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


def written(name: str, content: bytes) -> Callable[[Path], None]:
    def change(batch: Path) -> None:
        (batch / name).write_bytes(content)

    return change


def submitted(change: Callable[[list[dict[str, Any]]], object]) -> Callable[[Path], None]:
    """The second task, with two persons, as somebody has submitted it."""

    def apply(batch: Path) -> None:
        path = batch / "tasks.json"
        task = json.loads(path.read_text())[1]
        results = task["predictions"][0]["result"]
        change(results)
        task["annotations"] = [{"result": results}]
        path.write_text(json.dumps([task]))

    return apply


def keypoint(results: list[dict[str, Any]]) -> dict[str, Any]:
    return next(one for one in results if one["type"] == "keypointlabels")


LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]>
<annotations>&c;</annotations>"""


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        # another skeleton
        ("cvat", replaced("annotations.xml", '"neck"', '"tail"'), "has keypoint 'tail'; expected"),
        # a joint twice
        ("cvat", replaced("annotations.xml", '"neck"', '"head_top"'), "has head_top twice"),
        ("cvat", replaced("annotations.xml", 'points="', 'points="nan,'), "expected x,y"),
        ("cvat", replaced("annotations.xml", 'points="', 'points="nan'), "expected x,y"),
        ("cvat", replaced("annotations.xml", 'width="', 'width="w'), "has width 'w120'"),
        ("cvat", replaced("annotations.xml", "</version>", "</version><track/>"), "has tracks"),
        ("cvat", written("annotations.xml", LAUGHS), "has a document type"),
        ("cvat", written("annotations.xml", b"<annotations>"), "is no XML"),
        ("cvat", written("annotations.xml", b""), "is no XML"),
        ("cvat", written("annotations.xml", b"<coco/>"), "begins with <coco>"),
        ("yolo", replaced("labels/*.txt", "0 ", "0 0.5 "), "has 48 numbers; expected 47"),
        ("yolo", replaced("labels/*.txt", "0 ", "nil "), "line 1: could not convert"),
        ("yolo", replaced("labels/*.txt", " 2 ", " nan "), "is not finite"),
        ("yolo", replaced("labels/*.txt", " 2 ", " 7 "), "has a strange visibility"),
        ("yolo", replaced("labels/*.txt", " 2 ", " 2 9 2 "), "has 49 numbers"),
        ("yolo", replaced("data.yaml", "[14, 3]", "[14, 2]"), "has kpt_shape [14, 2]; expected"),
        ("yolo", written("labels/cat.txt", b"0" + 46 * b" 1"), "images that were not exported"),
        ("deeplabcut", replaced(CSV, "neck,neck", "tail,tail"), "has keypoint 'tail'"),
        ("deeplabcut", replaced(CSV, "coords", "axes"), "begins with rows"),
        ("deeplabcut", written(CSV, b"scorer,a\n"), "begins with rows 'scorer'"),
        ("deeplabcut", written(CSV, b"\xff\xfe\xff"), "is no CSV"),
        ("deeplabcut", replaced(CSV, ".png,", ".png,,"), "line 5 has 60 cells; its header has 59"),
        ("deeplabcut", replaced(CSV, ".png,", ".png,x"), "expected a number, or nothing"),
        ("deeplabcut", replaced(CSV, ".png,", ".png,9e"), "expected a number, or nothing"),
        ("label-studio", written("tasks.json", b"{}"), "is no list of tasks"),
        ("label-studio", written("tasks.json", b"["), "is no JSON"),
        ("label-studio", written("tasks.json", b'[{"data": {}}]'), "task 1 has no data.image"),
        (
            "label-studio",
            submitted(lambda results: keypoint(results).pop("parentID")),
            "has right_ankle below none of its 2 persons",
        ),
        (
            "label-studio",
            submitted(lambda results: keypoint(results)["value"].update(keypointlabels=["tail"])),
            "has keypoint 'tail'",
        ),
        (
            "label-studio",
            submitted(lambda results: keypoint(results)["value"].update(x=float("nan"))),
            "is not finite",
        ),
        (
            "label-studio",
            submitted(lambda results: keypoint(results)["value"].update(x=900)),
            "far outside of the image of 120 x 60 px",
        ),
        (
            "label-studio",
            submitted(lambda results: keypoint(results).pop("original_width")),
            "of None x 60 px",
        ),
        (
            "label-studio",
            submitted(lambda results: results[0].update(image_rotation=90)),
            "is turned by 90°",
        ),
    ],
)
def test_damage(tmp_path: Path, name: str, damage: Callable[[Path], None], said: str) -> None:
    batch = tmp_path / "batch"
    with stored(tmp_path / "store", *FRAMES) as store:
        export_annotations(store, batch, format=name)
    damage(batch)
    with pytest.raises(DataError) as caught:
        import_coco(batch, tmp_path / "labels")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "labels").exists()
