"""COCO out: what an export holds, whom it leaves out; the commands."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from misgiving.collector.annotations import export_annotations, import_coco
from misgiving.collector.annotations.coco_export import frame_probability
from misgiving.collector.cli import app
from misgiving.collector.frames.selection import FrameSelection
from misgiving.collector.store import Store
from misgiving.runtime.errors import DataError, FailedPrecondition, InvalidInput
from misgiving.runtime.images import encode_jpeg
from misgiving.runtime.keypoints import LSP
from misgiving.runtime.labelset import read_labels
from misgiving.runtime.nouns import Decision
from misgiving.v1.fleet_pb2 import CollectedFrame
from shared.annotating import FRAMES, edit, stored, touch
from shared.collecting import AUDIT_RATE, collected, files_below


def test_export_is_coco_and_says_where_each_person_is_from(tmp_path: Path) -> None:
    jpeg = encode_jpeg(np.zeros((20, 30, 3), np.uint8))
    store = stored(tmp_path / "store", *FRAMES, collected("jpeg", image=jpeg))
    counts = export_annotations(store, tmp_path / "out")
    digests = [row.digest for row, _ in store.frames()]
    store.close()
    assert (counts.images, counts.persons, counts.flagged, counts.unusable) == (3, 4, 3, 0)
    document = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert set(document) == {"info", "licenses", "categories", "images", "annotations"}
    (category,) = document["categories"]
    assert category["keypoints"] == list(LSP.names)
    assert category["skeleton"] == [[a + 1, b + 1] for a, b in LSP.skeleton]
    names = [f"{digests[0][:16]}.png", f"{digests[1][:16]}.png", f"{digests[2][:16]}.jpg"]
    assert [image["file_name"] for image in document["images"]] == names
    assert files_below(tmp_path / "out" / "images") == sorted(names)
    assert (tmp_path / "out" / "images" / names[2]).read_bytes() == jpeg
    assert [(i["width"], i["height"]) for i in document["images"]] == [(120, 60)] * 2 + [(30, 20)]
    second = document["annotations"][2]
    assert (second["id"], second["image_id"], second["category_id"]) == (3, 2, 1)
    assert second["bbox"] == [50, 1.25, 45, 46.5]
    assert second["area"] == 45 * 46.5
    assert second["num_keypoints"] == 14
    assert second["keypoints"][2::3] == [2] * 14
    assert second["score"] == -2.5
    assert second["misgiving"] == {
        "frame_digest": digests[1],
        "person_index": 1,
        "flagged": True,
        "kept": "predicted_loss",
        "predicted_loss": 2.5,
        "sampling_probability": 1.0,
        "bundle_digest": "b" * 64,
        "device_id": "car-7",
        "stream_id": "front",
        "capture_time_unix_nano": 1,
        "coding": "",
        "covered": [],
    }
    companion = document["annotations"][1]["misgiving"]
    assert (companion["flagged"], companion["kept"]) == (False, "")
    assert companion["sampling_probability"] == 1.0  # came along with one that is always kept


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ([], 0.0),  # nobody is a reason to keep it
        ([1.0], 1.0),
        ([AUDIT_RATE], AUDIT_RATE),
        ([AUDIT_RATE, 1.0], 1.0),
        ([0.5, 0.5], 0.75),  # two draws
    ],
)
def test_probability_of_a_frame(probabilities: list[float], expected: float) -> None:
    decisions = [Decision(False, None, 1.0, p) for p in probabilities]
    assert frame_probability(decisions) == pytest.approx(expected)


def test_nothing_is_overwritten_and_nothing_left_half_done(tmp_path: Path, export: Path) -> None:
    edit(export, touch)
    with pytest.raises(DataError, match="is there already; nothing is overwritten"):
        import_coco(export, tmp_path)
    with Store(tmp_path / "store") as store, pytest.raises(DataError, match="is there already"):
        export_annotations(store, export)
    with Store(tmp_path / "empty") as store, pytest.raises(DataError, match="no frame to export"):
        export_annotations(store, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "export", "store"]


def strange(frame_id: str, **changes: Any) -> CollectedFrame:
    frame = collected(frame_id)
    for name, value in changes.items():
        setattr(frame.persons[0], name, value)
    return frame


def test_frames_that_cannot_be_annotated_are_named_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fewer = collected("fewer")
    del fewer.persons[0].keypoints[3:]
    improbable = collected("improbable")
    improbable.persons[0].flag.sampling_probability = 0
    broken = {
        "nan": strange("nan", predicted_loss=math.nan),
        "fewer": fewer,
        "improbable": improbable,
        "nobody": collected("nobody", persons=[]),
        "picture": collected("picture", image=b"\xff\xd8 no JPEG"),
    }
    with stored(tmp_path / "store", *FRAMES, *broken.values()) as store:
        counts = export_annotations(store, tmp_path / "out")
    assert (counts.images, counts.unusable) == (2, 5)
    for name in broken:
        assert f"frame front/{name} is not exported: " in caplog.text


def test_frames_with_other_keypoints(tmp_path: Path) -> None:
    other = collected("other")
    other.bundle_digest = "c" * 64
    other.keypoint_names[13] = "tail"
    with stored(tmp_path / "store", *FRAMES, other) as store:
        with pytest.raises(
            DataError, match="front/other has 14 keypoints .* --bundle cccccccccccc"
        ):
            export_annotations(store, tmp_path / "out")
        assert (
            export_annotations(store, tmp_path / "ours", FrameSelection(bundle="bbb")).images == 2
        )
        assert (
            export_annotations(store, tmp_path / "theirs", FrameSelection(bundle="ccc")).images == 1
        )
    labels = import_coco(tmp_path / "theirs", tmp_path / "labels", trust_untouched=True)
    assert labels.keypoints.names == (*LSP.names[:13], "tail")
    assert sorted(labels.keypoints.torso) == sorted(LSP.torso)
    assert labels.keypoints.skeleton == LSP.skeleton


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_commands(tmp_path: Path, export: Path) -> None:
    shutil.rmtree(export)
    told = run("annotations", "export", "--store", tmp_path / "store", "--out", export)
    assert told.exit_code == 0
    assert f"{export}: 2 images, 3 persons, 2 flagged, 0 audited; 0 frames unusable" in told.output
    edit(export, lambda document: document["annotations"].pop(0))
    told = run("annotations", "import", export, "--out", tmp_path / "labels")
    assert isinstance(told.exception, InvalidInput)  # nobody has looked
    trusting = ("--out", tmp_path / "trusted", "--trust-untouched")
    told = run("annotations", "import", export, *trusting)
    assert "2 persons, 0 of them added; 1 deleted, 0 untouched" in told.output
    edit(export, touch)
    told = run("annotations", "import", export, "--out", tmp_path / "labels")
    assert told.exit_code == 0
    version = read_labels(tmp_path / "labels").version
    assert f"version {version}, 2 persons, 0 of them added; 1 deleted, 0 untouched" in told.output
    told = run("annotations", "export", "--store", tmp_path / "nowhere", "--out", tmp_path / "o")
    assert isinstance(told.exception, FailedPrecondition)
    told = run("annotations", "import", tmp_path / "nowhere", "--out", tmp_path / "o")
    assert isinstance(told.exception, InvalidInput)


@pytest.mark.parametrize(
    "verb", [["collect"], ["annotations", "export"], ["annotations", "import"]]
)
def test_help_shows_an_example(verb: list[str]) -> None:
    told = run(*verb, "--help")
    assert f"Example:\n      misgiving {' '.join(verb)} " in told.output
