"""What a store remembers of exports and imports: nothing goes out twice, marks count."""

import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner, Result

from misgiving.collector import FrameSelection, Store, export_annotations, read_corrected
from misgiving.collector.annotations.records import false_alarms, record_labels
from misgiving.collector.cli import app
from misgiving.collector.store.tables import BATCH_FRAMES, BATCHES, LABEL_SETS, LABELLED, MARKS
from misgiving.runtime.errors import DataError
from misgiving.runtime.labelset import read_labels
from shared.annotating import FRAMES, edit, stored, touch
from shared.collecting import collected, person, serialise

NEW = FrameSelection(new=True, unlabelled=True)


def rows(store: Store, table: sa.Table) -> list[tuple[object, ...]]:
    with store.database.connect(reads=True) as database:
        return [tuple(row) for row in database.execute(sa.select(table))]


def mark(store: Store, digest: str, *marks: str) -> None:
    with store.database.connect() as database:
        for at, word in enumerate(marks):
            said = {"digest": digest, "mark": word, "by": "me", "at_unix_nano": at}
            database.execute(sa.insert(MARKS), said)


def test_only_what_is_new_goes_out_again(tmp_path: Path) -> None:
    with stored(tmp_path / "store", FRAMES[0]) as store:
        export_annotations(store, tmp_path / "first", format="cvat")
        with pytest.raises(DataError, match=r"no frame to export; .*\(0 are unusable\)"):
            export_annotations(store, tmp_path / "none", NEW)
        digest = store.put(serialise(FRAMES[1]))
        assert export_annotations(store, tmp_path / "second", NEW).images == 1
        assert export_annotations(store, tmp_path / "all").images == 2
        assert [row[::2] for row in rows(store, BATCHES)] == [
            ("first", "cvat"),
            ("second", "coco"),
            ("all", "coco"),
        ]
        assert ("second", digest) in rows(store, BATCH_FRAMES)
        assert len(rows(store, BATCH_FRAMES)) == 4


def test_the_command_chooses_frames(tmp_path: Path) -> None:
    other = collected("other")
    other.device_id = "truck-1"
    with stored(tmp_path / "store", FRAMES[0], other):
        pass

    def run(out: str, *options: str) -> Result:
        asked = ("--store", str(tmp_path / "store"), "--out", str(tmp_path / out), *options)
        return CliRunner().invoke(app, ["annotations", "export", *asked])

    assert "one: 1 images" in run("one", "--device", "truck-*").output
    assert "two: 1 images" in run("two", "--new").output
    assert isinstance(run("three", "--new").exception, DataError)
    assert "three: 2 images" in run("three").output
    with Store(tmp_path / "store", create=False) as store:
        assert len(rows(store, BATCH_FRAMES)) == 4


@pytest.mark.parametrize("order", ["worst", "diverse"])
def test_the_first_of_an_order(tmp_path: Path, order: str) -> None:
    """Repeated pictures, and frames that cannot be annotated, are none of the images asked for."""
    again = collected("again", image=FRAMES[0].frame.image.encoded, persons=[person(1, loss=2.9)])
    unnamed = collected("unnamed", persons=[person(1, loss=9.0)])
    del unnamed.keypoint_names[:]
    with stored(tmp_path / "store", FRAMES[1], FRAMES[0], again, unnamed) as store:
        first = {store.put(serialise(frame)) for frame in FRAMES}
    asked = ["--store", str(tmp_path / "store"), "--order", order, "--limit"]
    for limit, losses in ((1, [3.0]), (2, [3.0, 0.25, 2.5])):
        out = tmp_path / f"first-{limit}"
        told = CliRunner().invoke(
            app, ["annotations", "export", *asked, str(limit), "--out", str(out)]
        )
        assert f": {limit} images" in told.output
        document = json.loads((out / "annotations.json").read_text())
        assert [-one["score"] for one in document["annotations"]] == losses
    with Store(tmp_path / "store", create=False) as store:
        assert {digest for _, digest in rows(store, BATCH_FRAMES)} == first


def test_an_export_that_fails_is_no_batch(tmp_path: Path) -> None:
    with stored(tmp_path / "store", *FRAMES) as store:
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "file").touch()
        with pytest.raises(DataError, match="is there already"):
            export_annotations(store, tmp_path / "there")
        assert rows(store, BATCHES) == rows(store, BATCH_FRAMES) == []


def test_a_batch_of_the_same_name_keeps_what_went_out(tmp_path: Path) -> None:
    with stored(tmp_path / "store", FRAMES[0]) as store:
        export_annotations(store, tmp_path / "a" / "batch")
        store.put(serialise(FRAMES[1]))
        export_annotations(store, tmp_path / "b" / "batch", NEW, format="yolo")
        assert [row[::2] for row in rows(store, BATCHES)] == [("batch", "yolo")]
        assert len(rows(store, BATCH_FRAMES)) == 2


def test_a_picture_goes_out_once(tmp_path: Path) -> None:
    """However often it was sent, by whichever device, and whatever was said of it."""
    image = FRAMES[0].frame.image.encoded
    again = collected("again", image=image, persons=[person(1, loss=9.0)])
    again.device_id = "car-8"
    with stored(tmp_path / "store", FRAMES[0], again) as store:
        counts = export_annotations(store, tmp_path / "batch")
        assert (counts.images, counts.repeats) == (1, 1)
        with pytest.raises(DataError, match="no frame to export"):
            export_annotations(store, tmp_path / "rest", NEW)


def test_what_is_labelled_is_noted(tmp_path: Path) -> None:
    with stored(tmp_path / "store", *FRAMES) as store:
        export_annotations(store, tmp_path / "batch")
        digests = [digest for _, digest in rows(store, BATCH_FRAMES)]
    edit(tmp_path / "batch", lambda document: touch({"annotations": document["annotations"][1:]}))
    asked = ("annotations", "import", tmp_path / "batch", "--store", tmp_path / "store")
    told = CliRunner().invoke(app, [*map(str, asked), "--out", str(tmp_path / "labels")])
    assert told.exit_code == 0, told.output
    version = read_labels(tmp_path / "labels").version
    with Store(tmp_path / "store", create=False) as store:
        ((noted, _, path),) = rows(store, LABEL_SETS)
        assert (noted, path) == (version, str(tmp_path / "labels"))
        ((of, digest, side),) = rows(store, LABELLED)
        assert (of, side) == (version, read_labels(tmp_path / "labels").persons[0].split)
        assert digest in digests
        record_labels(store, version, tmp_path / "labels", {digest: "train"})  # again: nothing new
        assert len(rows(store, LABEL_SETS)) == len(rows(store, LABELLED)) == 1
        unlabelled = FrameSelection(unlabelled=True)
        assert export_annotations(store, tmp_path / "rest", unlabelled).images == 1


def test_whom_a_false_alarm_was_about_is_right(tmp_path: Path) -> None:
    """The flag was wrong, so the answer is right; others in the frame were not asked about."""
    with stored(tmp_path / "store", *FRAMES) as store:
        export_annotations(store, tmp_path / "batch")
        first, second = (store.put(serialise(frame)) for frame in FRAMES)
        mark(store, first, "false_alarm", "confirmed")
        mark(store, second, "confirmed", "false_alarm")
        assert false_alarms(store, [first, second]) == {second}
        corrected = read_corrected(tmp_path / "batch", store=store)
    (one,) = corrected.labels.persons
    assert one.predicted_loss == 2.5  # flagged; the one of 0.25 is not
    assert (corrected.untouched, corrected.agreed, [*corrected.frames]) == (2, 1, [second])


def test_many_frames_fit_into_statements(tmp_path: Path) -> None:
    digests = [f"{number:064x}" for number in range(1201)]
    with stored(tmp_path / "store", FRAMES[0]) as store:
        record_labels(store, "v", tmp_path, dict.fromkeys(digests, "train"))
        assert len(rows(store, LABELLED)) == len(digests)
        mark(store, digests[-1], "false_alarm")
        assert false_alarms(store, digests) == {digests[-1]}
