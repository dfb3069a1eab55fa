"""Annotation files of other tools are read as what they clearly mean; the rest is one line."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from misgiving.runtime.cocofile import CocoFile, joints_far_outside

NAMES = ("nose", "left_wrist", "right_wrist")


def document() -> dict[str, Any]:
    """Two persons in two images."""
    return {
        "images": [
            {"id": 7, "file_name": "b.png", "width": 60, "height": 40},
            {"id": 3, "file_name": "a.png", "width": 60, "height": 40},
        ],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": 1,
                "keypoints": [number, 2, 2, 3.5, 4, 1, 0, 0, 0],
                "bbox": [1, 2, 10, 20],
                "area": 150.5,
            }
            for number, image in ((1, 3), (2, 7))
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": NAMES, "skeleton": [[1, 2]]}],
    }


def read(path: Path, content: bytes) -> CocoFile:
    (path / "a.json").write_bytes(content)
    return CocoFile(path / "a.json")


def texts(content: dict[str, Any]) -> None:
    for part in (*content["images"], *content["annotations"], *content["categories"]):
        part |= {key: str(part[key]) for key in part if key.endswith("id")}


def words(content: dict[str, Any]) -> None:
    """As tools that name things by UUID do."""
    for part in (*content["images"], *content["annotations"]):
        part |= {key: f"im-{part[key]}" for key in part if key == "image_id"}
        part["id"] = f"{'im' if 'file_name' in part else 'an'}-{part['id']}"


def roboflow(content: dict[str, Any]) -> None:
    content["categories"].insert(0, {"id": 0, "name": "project", "supercategory": "none"})
    content["categories"][1]["skeleton"] = None


def nulls(content: dict[str, Any]) -> None:
    content["categories"][0] |= {"supercategory": None, "name": None, "skeleton": None}
    content["categories"].append({"id": 2, "name": "dog", "keypoints": None})
    content["annotations"][0] |= {"segmentation": None, "iscrowd": None, "attributes": None}
    content["info"] = content["licenses"] = None


def rich(content: dict[str, Any]) -> None:
    runs = {"counts": [3, 4], "size": [40, 60]}
    content["annotations"][0] |= {"segmentation": runs, "attributes": {"id": 3, "path": "x"}}
    content["images"][0]["path"] = "/datasets/x/b.png"


def only_paths(content: dict[str, Any]) -> None:
    for image in content["images"]:
        image["path"] = image.pop("file_name")


def floats(content: dict[str, Any]) -> None:
    for part in content["annotations"]:
        part |= {key: float(part[key]) for key in part if key.endswith("id")}
        part["keypoints"] = list(map(float, part["keypoints"]))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: None,
        texts,
        roboflow,
        nulls,
        rich,
        only_paths,
        floats,
        lambda content: content["categories"][0].update(skeleton=[[0, 1]]),  # counted from 0
        lambda content: [image.pop("width") for image in content["images"]],
        lambda content: [image.update(width="60", height=40.0) for image in content["images"]],
        lambda content: [one.update(num_keypoints=0) for one in content["annotations"]],
    ],
)
def test_what_is_clear_is_understood(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    content = document()
    change(content)
    file = read(tmp_path, json.dumps(content).encode())
    (category,) = file.categories
    assert category.names == NAMES
    assert set(category.skeleton) <= {(1, 2)}
    people, left_out = file.people([category.id], 3)
    assert people.ids == [1, 2]
    assert [file.images.names[place] for place in people.image] == ["a.png", "b.png"]
    assert people.points[:, :2].tolist() == [[[n, 2], [3.5, 4]] for n in (1, 2)]
    assert people.visibility.tolist() == [[2, 1, 0]] * 2
    assert people.boxes.tolist() == [[1, 2, 10, 20]] * 2
    assert set(left_out.values()) == {0}
    assert set(file.images.sizes.ravel().tolist()) <= {0, 60, 40}


def test_ids_that_are_words(tmp_path: Path) -> None:
    content = document()
    words(content)
    people, _ = read(tmp_path, json.dumps(content).encode()).people([1], 3)
    assert people.ids == ["an-1", "an-2"]
    assert people.image.tolist() == [1, 0]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
def test_encodings(tmp_path: Path, encoding: str) -> None:
    content = document()
    content["images"][0]["file_name"] = "é.png"
    file = read(tmp_path, json.dumps(content, ensure_ascii=False).encode(encoding))
    assert file.images.names[0] == "é.png"


@pytest.mark.parametrize(
    "changes",
    [
        {"keypoints": []},  # a track without points, as CVAT writes it
        {"keypoints": None},
        {"keypoints": [5, 5, 0] * 3},
    ],
)
def test_who_has_no_joint_is_counted(tmp_path: Path, changes: dict[str, Any]) -> None:
    content = document()
    content["annotations"][0] |= {**changes, "bbox": [0, 0, 0, 0], "num_keypoints": 0}
    people, left_out = read(tmp_path, json.dumps(content).encode()).people([1], 3)
    assert people.ids == [2]
    assert left_out == {"crowds": 0, "without keypoints": 1}


def test_our_own_key_comes_along(tmp_path: Path) -> None:
    content = document()
    content["annotations"][1]["misgiving"] = {"frame_digest": "d"}
    people, _ = read(tmp_path, json.dumps(content).encode()).people([1], 3)
    assert people.origins == [None, {"frame_digest": "d"}]


def test_annotations_take_little_room(tmp_path: Path) -> None:
    """A million persons must fit: what is kept of one is a row, however much the file says."""
    content = document()
    one = content["annotations"][0]
    outline = [[float(number) for number in range(200)]]
    content["annotations"] = [{**one, "id": n, "segmentation": outline} for n in range(2_000)]
    text = json.dumps(content).encode()
    tracemalloc.start()
    file = read(tmp_path, text)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(file.people([1], 3)[0].ids) == 2_000
    assert kept < 2_000 * 250


@pytest.mark.parametrize(
    ("point", "outside"),
    [
        ((0, 0), False),
        ((-30, 20), False),  # as far beyond the edge as a person at the edge may be guessed
        ((-31, 20), True),
        ((90, 20), False),
        ((91, 20), True),
        ((30, 61), True),
        ((-500, 9000), True),
    ],
)
def test_far_outside(point: tuple[float, float], outside: bool) -> None:
    size = np.array([60.0, 40.0])
    assert joints_far_outside(np.array([point], float), size).tolist() == [outside]
