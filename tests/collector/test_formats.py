"""Each tool's format out and back: what it holds comes back, what it cannot hold is restored."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from numpy.typing import NDArray

from misgiving.collector.annotations import export_annotations, read_corrected
from misgiving.collector.annotations.coco import Document
from misgiving.collector.annotations.formats import FORMATS, lost
from misgiving.collector.format_names import Format
from misgiving.runtime.errors import DataError, InvalidInput
from misgiving.runtime.keypoints import COCO, LSP, KeypointSet
from shared.annotating import FRAMES, as_exported, people, stored

TOOLS = tuple(FORMATS)


def real() -> dict[str, Any]:
    data = os.environ.get("MISGIVING_DATA")
    path = Path(data or "", "coco_ccby", "person_keypoints.json")
    if not data or not path.is_file():
        pytest.skip("MISGIVING_DATA has no coco_ccby/")
    document: dict[str, Any] = json.loads(path.read_bytes())
    return document


ODD = KeypointSet(
    name="odd",
    names=("nose & <mouth>", 'a "tail", long', "Füße"),
    skeleton=((0, 1),),
    torso=(),
)


def columns(document: Document) -> dict[str, NDArray[np.float64]]:
    """x, y, visibility of each joint, by the person's id in a label set."""
    return {f"{one.id:016x}-0": np.array(one.joints) for one in document.annotations}


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize(
    "of",
    [real, *(lambda seed=seed: people(seed, LSP) for seed in range(3)), lambda: people(5, ODD)],
)
def test_out_and_back(tmp_path: Path, name: str, of: Callable[[], dict[str, Any]]) -> None:
    """Points within 0.01 px, visibility exactly, whatever the format cannot hold."""
    document = as_exported(of(), tmp_path / "batch")
    FORMATS[name].write(tmp_path / "batch", document, "batch")
    corrected = read_corrected(tmp_path / "batch", trust_untouched=True)
    expected = columns(document)
    assert {one.id for one in corrected.labels.persons} == expected.keys()
    for one in corrected.labels.persons:
        points, visibility = expected[one.id][:, :2], expected[one.id][:, 2]
        assert one.visibility == tuple(visibility)
        assert np.abs(np.array(one.points) - points)[visibility > 0].max() < 0.01
    assert (corrected.added, corrected.deleted, corrected.untouched) == (0, 0, 0)
    with pytest.raises(DataError, match="as they were exported"):
        read_corrected(tmp_path / "batch")


@pytest.mark.parametrize(
    ("name", "expected"), [("coco", 0), ("cvat", 0), ("label-studio", 0), ("deeplabcut", 28)]
)
def test_what_a_format_cannot_hold_is_counted(tmp_path: Path, name: str, expected: int) -> None:
    document = as_exported(real(), tmp_path / "batch")
    assert lost(FORMATS[name], document) == expected


def test_joints_outside_of_the_image_are_lost_in_yolo(tmp_path: Path) -> None:
    document = as_exported(people(0, LSP), tmp_path / "batch")
    sizes = {image.id: (image.width, image.height) for image in document.images}
    outside = [
        not (0 <= x <= sizes[one.image_id][0] and 0 <= y <= sizes[one.image_id][1])
        for one in document.annotations
        for x, y, visibility in one.joints
        if visibility
    ]
    assert lost(FORMATS["yolo"], document) == sum(outside) > 0


def move_cvat(batch: Path) -> None:
    root = ET.parse(batch / "annotations.xml")
    skeleton = next(root.iter("skeleton"))
    skeleton[0].set("points", "1.50,2.50")
    skeleton[1].set("occluded", "1")
    skeleton[2].set("outside", "1")
    root.write(batch / "annotations.xml")


def move_tasks(batch: Path) -> None:
    """Annotators begin with the prediction, and submit."""
    tasks = json.loads((batch / "tasks.json").read_text())
    results = tasks[0]["predictions"][0]["result"]
    first, second, third = [one for one in results if one["type"] == "keypointlabels"][:3]
    first["value"] |= {"x": 100 * 1.5 / 120, "y": 100 * 2.5 / 60}
    hidden = {"type": "choices", "from_name": "visibility", "value": {"choices": ["hidden"]}}
    results.append({key: second[key] for key in ("id", "parentID", "to_name")} | hidden)
    results.remove(third)
    tasks[0]["annotations"] = [{"id": 1, "was_cancelled": False, "result": results}]
    for task in tasks:
        task["predictions"] = []
        task["data"]["image"] = task["data"]["image"].replace("images/", "upload/3/1f2e3d4c-")
    (batch / "tasks.json").write_text(json.dumps(tasks))


def move_yolo(batch: Path) -> None:
    file = next(path for path in sorted((batch / "labels").iterdir()) if first_frame(batch, path))
    words = file.read_text().split()
    words[5:14] = [str(1.5 / 120), str(2.5 / 60), "2", *words[8:10], "1", "0", "0", "0"]
    file.write_text(" ".join(words) + "\n")


def first_frame(batch: Path, path: Path) -> bool:
    document = json.loads((batch / "original.json").read_text())
    return path.stem == Path(document["images"][0]["file_name"]).stem


def move_csv(batch: Path) -> None:
    path = batch / "images" / "CollectedData_misgiving.csv"
    lines = path.read_text().splitlines()
    cells = lines[4].split(",")
    cells[3:5], cells[7:9] = ["1.5", "2.5"], ["", ""]
    lines[4] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("name", "correct", "second"),
    [
        ("cvat", move_cvat, 1),
        ("label-studio", move_tasks, 1),
        ("yolo", move_yolo, 1),
        ("deeplabcut", move_csv, 2),  # which cannot hide a joint
    ],
)
def test_corrections_arrive(
    tmp_path: Path, name: str, correct: Callable[[Path], None], second: int
) -> None:
    batch = tmp_path / "batch"
    with stored(tmp_path / "store", *FRAMES) as store:
        counts = export_annotations(store, batch, format=name)
    assert (counts.images, counts.persons, counts.lost) == (2, 3, 0)
    correct(batch)
    corrected = read_corrected(batch)
    (one,) = corrected.labels.persons
    assert one.predicted_loss == 3.0
    assert one.points[0] == pytest.approx((1.5, 2.5), abs=0.001)
    assert one.visibility == (2, second, 0, *[2] * 11)
    assert (corrected.added, corrected.deleted, corrected.untouched) == (0, 0, 2)
    assert corrected.said == ()


def test_tasks_that_were_submitted_were_looked_at(tmp_path: Path) -> None:
    """Untouched persons of a submitted task are labels; those of others are none."""
    with stored(tmp_path / "store", *FRAMES) as store:
        export_annotations(store, tmp_path / "batch", format="label-studio")
    path = tmp_path / "batch" / "tasks.json"
    tasks = json.loads(path.read_text())
    for task, cancelled in zip(tasks, (True, False), strict=True):
        result = task.pop("predictions")[0]["result"]
        task["annotations"] = [{"was_cancelled": cancelled, "result": result}]
    path.write_text(json.dumps(tasks))
    corrected = read_corrected(tmp_path / "batch")
    assert [one.predicted_loss for one in corrected.labels.persons] == [0.25, 2.5]
    assert (corrected.deleted, corrected.untouched) == (0, 1)
    path.write_text(json.dumps(tasks[1:]))  # as an export of the annotated tasks has it
    assert read_corrected(tmp_path / "batch") == corrected
    tasks[1]["annotations"].append({"updated_at": "2026-11-29", "result": []})
    path.write_text(json.dumps(tasks))
    with pytest.raises(DataError, match="all 1 persons as they were"):  # the newest has nobody
        read_corrected(tmp_path / "batch")


def test_persons_added_in_cvat(tmp_path: Path) -> None:
    with stored(tmp_path / "store", *FRAMES) as store:
        export_annotations(store, tmp_path / "batch", format="cvat")
    path = tmp_path / "batch" / "annotations.xml"
    root = ET.parse(path)
    image = next(root.iter("image"))
    new = ET.SubElement(image, "skeleton", label="person")
    ET.SubElement(new, "points", label="neck", points="70.00,20.00", outside="0", occluded="0")
    ET.SubElement(image, "box", label="person", xtl="1", ytl="1", xbr="2", ybr="2")
    root.write(path)
    corrected = read_corrected(tmp_path / "batch")
    (one,) = corrected.labels.persons
    assert one.predicted_loss is None
    assert sum(one.visibility) == 2
    assert (corrected.added, corrected.untouched) == (1, 3)
    assert corrected.said[0].endswith("annotations.xml: 1 of categories without keypoints left out")


def test_the_skeleton_that_cvat_is_given(tmp_path: Path) -> None:
    document = as_exported(people(0, COCO), tmp_path / "batch")
    FORMATS["cvat"].write(tmp_path / "batch", document, "batch")
    meta = ET.parse(tmp_path / "batch" / "annotations.xml").find("meta/task")
    assert [meta.findtext("name"), meta.findtext("size")] == ["batch", str(len(document.images))]
    assert [(one.findtext("name"), one.findtext("parent")) for one in meta.iter("label")] == [
        ("person", None),
        *((name, "person") for name in COCO.names),
    ]
    (label,) = json.loads((tmp_path / "batch" / "labels.json").read_text())
    assert [one["name"] for one in label["sublabels"]] == list(COCO.names)
    svg = ET.fromstring(f"<svg>{label['svg']}</svg>")
    nodes = {one.get("data-node-id"): one.get("data-label-name") for one in svg.iter("circle")}
    assert nodes == {str(place): name for place, name in enumerate(COCO.names, 1)}
    bones = [(one.get("data-node-from"), one.get("data-node-to")) for one in svg.iter("line")]
    assert bones == [(str(a + 1), str(b + 1)) for a, b in COCO.skeleton]


def test_one_person_an_image_needs_no_individuals(tmp_path: Path) -> None:
    with stored(tmp_path / "store", FRAMES[0]) as store:
        export_annotations(store, tmp_path / "batch-7", format="deeplabcut")
    path = tmp_path / "batch-7" / "images" / "CollectedData_misgiving.csv"
    scorer, bodyparts, coords, row = path.read_text().splitlines()
    assert scorer.startswith("scorer,,,misgiving,")
    assert bodyparts.startswith("bodyparts,,,right_ankle,right_ankle,right_knee,")
    assert coords.startswith("coords,,,x,y,x,y,")
    assert row.startswith("labeled-data,batch-7,")
    one_column = [line.replace(",,,", ",") for line in (scorer, bodyparts, coords)]
    one_column.append(row.replace("labeled-data,batch-7,", "labeled-data/batch-7/"))
    path.write_text("\n".join(one_column))  # as older releases have it
    assert len(read_corrected(tmp_path / "batch-7", trust_untouched=True).labels.persons) == 1


def test_formats_have_the_names_of_the_option() -> None:
    assert list(FORMATS) == [kind.value for kind in Format]


def test_files_of_two_formats(tmp_path: Path) -> None:
    """CVAT takes its own file, and exports COCO."""
    document = as_exported(people(0, LSP), tmp_path / "batch")
    for name in ("cvat", "coco"):
        FORMATS[name].write(tmp_path / "batch", document, "batch")
    with pytest.raises(DataError, match=r"annotations.json and annotations.xml.*--format"):
        read_corrected(tmp_path / "batch", trust_untouched=True)
    corrected = read_corrected(tmp_path / "batch", format="coco", trust_untouched=True)
    assert len(corrected.labels.persons) == len(document.annotations)
    with pytest.raises(InvalidInput, match=r"'voc'; expected one of coco, cvat"):
        read_corrected(tmp_path / "batch", format="voc")
