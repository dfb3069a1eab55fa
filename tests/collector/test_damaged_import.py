"""What comes back damaged is one line, and nothing is half imported."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from misgiving.collector.annotations import import_coco
from misgiving.runtime.errors import DataError
from shared.annotating import drop_key, edit, touch


def joints(document: dict[str, Any]) -> list[Any]:
    return document["annotations"][0]["keypoints"]


def strangers(document: dict[str, Any]) -> None:
    document["images"].append({"id": 99, "file_name": "street.png"})
    document["annotations"][0]["image_id"] = 99


def rename(document: dict[str, Any]) -> None:
    for number, image in enumerate(document["images"]):
        image["file_name"] = f"frame_{number}.png"


def augment(document: dict[str, Any]) -> None:
    first = document["images"][0]
    stem = first["file_name"].removesuffix(".png")
    for number in (50, 51):
        name = f"{stem}_png.rf.{number}.jpg"
        document["images"].append({**first, "id": number, "file_name": name})
        one = {**document["annotations"][0], "id": number, "image_id": number}
        document["annotations"].append(one)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda d: joints(d).pop(), "annotation 1 has 41 numbers in keypoints; expected x, y, v"),
        (lambda d: joints(d).__setitem__(0, math.nan), "annotation 1 has a keypoint that is not"),
        (lambda d: joints(d).__setitem__(0, "left"), "annotation 1: must be real number, not str"),
        (lambda d: joints(d).__setitem__(2, 3), "annotation 1 has a strange visibility; expected"),
        (lambda d: joints(d).__setitem__(1, 9000), "right_ankle at ("),
        (lambda d: d["annotations"][0].update(bbox=[1, 2]), "annotation 1: bbox is [1, 2]"),
        (lambda d: d["annotations"][1].update(id=1), "annotation 1 occurs twice"),
        (lambda d: d["annotations"][0].update(image_id=77), "1 is of an image that the file does"),
        (lambda d: d["categories"][0]["keypoints"].__setitem__(0, "tail"), "has keypoint 'tail'"),
        (lambda d: d["categories"][0]["keypoints"].pop(), "keypoints in another order or number"),
        (lambda d: d["categories"][0].pop("keypoints"), "no category with keypoints"),
        (lambda d: d.pop("images"), "no list 'images'"),
        (lambda d: d["annotations"].clear(), "has no person of the export"),
        (lambda d: d["images"][0].update(width=60, height=120), "is 120 x 60 px; "),
        (strangers, "1 of 3 persons are in images that were not exported, street.png for one"),
        (rename, "3 of 3 persons are in images that were not exported, frame_0.png for one"),
        (augment, "are the same exported image; expected each once"),
    ],
)
def test_broken_annotations(
    tmp_path: Path, export: Path, change: Callable[[dict[str, Any]], object], text: str
) -> None:
    edit(export, touch)
    edit(export, change)
    with pytest.raises(DataError) as caught:
        import_coco(export, tmp_path / "labels")
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "labels").exists()


@pytest.mark.parametrize("name", ["annotations.json", "original.json"])
@pytest.mark.parametrize(
    ("content", "text"),
    [(None, "none of|No such file"), (b"{", "not JSON"), (b"", "not JSON"), (b"\xff", "not JSON")],
)
def test_files_that_are_none(
    tmp_path: Path, export: Path, name: str, content: bytes | None, text: str
) -> None:
    (export / name).unlink()
    if content is not None:
        (export / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: .*({text})|({text}) {name}") as caught:
        import_coco(export, tmp_path / "labels")
    assert "\n" not in str(caught.value)


def test_an_original_without_our_keys(tmp_path: Path, export: Path) -> None:
    """Somebody has put the tool's file in place of both."""
    edit(export, drop_key)
    shutil.copy(export / "annotations.json", export / "original.json")
    with pytest.raises(DataError, match=r"original.json: annotation 1 has lost its key"):
        import_coco(export, tmp_path / "labels")


def test_missing_image(tmp_path: Path, export: Path) -> None:
    edit(export, touch)
    shutil.rmtree(export / "images")
    with pytest.raises(DataError, match=r"images lacks [0-9a-f]{16}.png; copy"):
        import_coco(export, tmp_path / "labels")
    assert not (tmp_path / "labels").exists()
