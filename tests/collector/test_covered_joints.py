"""What a vehicle has covered goes out without a label, and no label of it comes back."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from misgiving.collector.annotations import export_annotations, read_corrected
from misgiving.collector.cli import app
from misgiving.collector.format_names import Format
from misgiving.runtime.errors import DataError
from misgiving.v1.fleet_pb2 import CODING_JPEG, HiddenJoints, Redaction
from misgiving.v1.pose_pb2 import Region
from shared.annotating import edit, stored, touch
from shared.collecting import collected, person

HIDDEN = (3, 12, 13)
BOX = (0, 0, 46, 12)
"""Of the frame's 120 × 60 px. ``person`` has its joints at y from 5 on."""


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return exported(tmp_path, "coco")


def exported(folder: Path, format: str) -> Path:
    """One frame with two persons, of whom the first has covered joints."""
    people = [person(0), person(1)]
    for joint, point in enumerate(people[0].keypoints):
        point.y_px = 8 if joint in HIDDEN else 20 + joint
    frame = collected("one", persons=people)
    frame.coding, frame.jpeg_quality = CODING_JPEG, 92
    x, y, width, height = BOX
    frame.redaction.CopyFrom(
        Redaction(
            covered=[Region(x_px=x, y_px=y, width_px=width, height_px=height)],
            hidden=[HiddenJoints(joints=HIDDEN), HiddenJoints()],
        )
    )
    with stored(folder / "store", frame) as store:
        counts = export_annotations(store, folder / "export", format=format)
    assert (dict(counts.codings), counts.hidden) == ({"jpeg 92": 1}, 3)
    return folder / "export"


def joints_of(annotation: dict[str, Any]) -> list[list[float]]:
    flat = annotation["keypoints"]
    return [flat[at : at + 3] for at in range(0, len(flat), 3)]


def label(joint: int, x: float, y: float, person: int = 0) -> Any:
    """What annotators do who believe to see a joint."""

    def change(document: dict[str, Any]) -> None:
        document["annotations"][person]["keypoints"][3 * joint : 3 * joint + 3] = x, y, 2

    return change


def test_covered_joints_go_out_without_a_label(export: Path) -> None:
    first, second = json.loads((export / "annotations.json").read_text())["annotations"]
    assert [at for at, joint in enumerate(joints_of(first)) if joint == [0, 0, 0]] == list(HIDDEN)
    assert (first["num_keypoints"], second["num_keypoints"]) == (11, 14)
    assert first["misgiving"]["covered"] == second["misgiving"]["covered"] == [list(BOX)]
    assert first["misgiving"]["coding"] == "jpeg 92"


@pytest.mark.parametrize("format", [one.value for one in Format])
def test_in_every_format_they_stay_so(tmp_path: Path, format: str) -> None:
    """Where nobody has touched anything, everybody is as they were."""
    with pytest.raises(DataError, match="has all 2 persons as they were exported"):
        read_corrected(exported(tmp_path, format))
    labels = read_corrected(tmp_path / "export", trust_untouched=True).labels
    seen = [[at for at, v in enumerate(one.visibility) if not v] for one in labels.persons]
    assert seen[0] == list(HIDDEN)


def test_no_label_comes_back_from_a_covered_place(export: Path) -> None:
    edit(export, touch)
    edit(export, label(12, 20, 9))  # guessed, in the blurred head
    edit(export, label(13, 30, 30))  # seen, beside it: the head was elsewhere
    corrected = read_corrected(export)
    first = corrected.labels.persons[0]
    assert [at for at, v in enumerate(first.visibility) if not v] == [3, 12]
    assert first.points[13] == (30, 30)
    assert corrected.said == (
        "1 joints are labelled where the vehicle has covered heads: left out",
    )


def test_who_has_nothing_but_guesses_is_untouched(export: Path) -> None:
    edit(export, label(12, 20, 9))
    edit(export, label(0, 100, 30, person=1))
    corrected = read_corrected(export)
    assert (len(corrected.labels.persons), corrected.untouched) == (1, 1)


def test_who_is_labelled_in_covered_places_alone_is_nobody(export: Path) -> None:
    def add(document: dict[str, Any]) -> None:
        flat = [0.0] * 36 + [20, 9, 2, 22, 5, 2]
        new = {**document["annotations"][0], "id": 70, "keypoints": flat}
        del new["misgiving"]
        document["annotations"].append(new)

    edit(export, touch)
    edit(export, add)
    corrected = read_corrected(export)
    assert (len(corrected.labels.persons), corrected.added) == (2, 0)
    assert "2 joints are labelled where" in corrected.said[-1]


def test_the_command_says_how_pictures_are_coded(tmp_path: Path, export: Path) -> None:
    arguments = ["export", "--store", str(tmp_path / "store"), "--out", str(tmp_path / "again")]
    result = CliRunner().invoke(app, ["annotations", *arguments])
    assert result.exit_code == 0, result.output
    assert "pictures: 1 jpeg 92; 3 joints covered by the vehicle\n" in result.output
