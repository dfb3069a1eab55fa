"""COCO out and back: nothing moves, nobody is mistaken for another, damage is one line."""

import hashlib
import json
import math
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from collector.helpers import AUDIT_RATE, collected, files_below, person
from misgiving.collector.annotations import export_coco, import_coco, read_corrected
from misgiving.collector.annotations.coco import Annotation
from misgiving.collector.annotations.coco_export import frame_probability
from misgiving.collector.annotations.coco_import import match
from misgiving.collector.cli import app
from misgiving.collector.store import Store
from misgiving.runtime.errors import DataError, FailedPrecondition, InvalidInput
from misgiving.runtime.images import encode_jpeg
from misgiving.runtime.keypoints import LSP
from misgiving.runtime.labelset import read_labels
from misgiving.runtime.spool import serialise
from misgiving.v1.pose_pb2 import Flag, Person

FRAMES = (
    collected("one", persons=[person(0, loss=3.0)]),
    collected("two", persons=[person(0, loss=0.25), person(1, loss=2.5)]),
)


def stored(folder, *frames):
    store = Store(folder)
    for frame in frames:
        store.put(serialise(frame))
    return store


@pytest.fixture
def export(tmp_path):
    """An export of FRAMES, as the annotator finds it."""
    store = stored(tmp_path / "store", *FRAMES)
    export_coco(store, tmp_path / "export")
    store.close()
    return tmp_path / "export"


def edit(export, change):
    path = export / "annotations.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def drop_key(document):
    for annotation in document["annotations"]:
        del annotation["misgiving"]


def points_of(frame, index):
    return np.array([(k.x_px, k.y_px) for k in frame.persons[index].keypoints])


def test_export_is_coco_and_says_where_each_person_is_from(tmp_path):
    jpeg = encode_jpeg(np.zeros((20, 30, 3), np.uint8))
    store = stored(tmp_path / "store", *FRAMES, collected("jpeg", image=jpeg))
    counts = export_coco(store, tmp_path / "out")
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
def test_probability_of_a_frame(probabilities, expected):
    persons = [Person(flag=Flag(sampling_probability=p)) for p in probabilities]
    assert frame_probability(persons) == pytest.approx(expected)


@pytest.mark.parametrize("change", [lambda document: None, drop_key])  # with our key and without
def test_round_trip_without_edits(tmp_path, export, change):
    edit(export, change)
    labels = import_coco(export, tmp_path / "labels")
    assert read_labels(tmp_path / "labels") == labels
    by_id = {one.id: one for one in labels.persons}
    assert len(by_id) == 3
    for frame in FRAMES:
        digest = hashlib.sha256(serialise(frame)).hexdigest()
        for index, original in enumerate(frame.persons):
            got = by_id[f"{digest[:16]}-{index}"]
            assert np.abs(np.array(got.points) - points_of(frame, index)).max() < 0.001
            assert all(got.labelled)
            assert got.region == (50 * index, 1.25, 45, 46.5)
            assert got.predicted_loss == original.predicted_loss
            assert got.sampling_probability == 1.0
            assert (got.device_id, got.stream_id) == ("car-7", "front")
            copied = (tmp_path / "labels" / "images" / got.image).read_bytes()
            assert copied == frame.frame.image.encoded
    assert labels.keypoints == LSP
    assert files_below(tmp_path / "labels" / "images") == files_below(export / "images")


def test_version_is_the_content(tmp_path, export):
    first = import_coco(export, tmp_path / "first").version
    assert import_coco(export, tmp_path / "second").version == first
    edit(export, lambda document: document["annotations"][0]["keypoints"].__setitem__(0, 17.5))
    assert import_coco(export, tmp_path / "third").version != first


def test_corrections_arrive(tmp_path, export):
    def correct(document):
        one, two, three = document["annotations"]
        one["keypoints"][:6] = [1.5, 2.5, 1, 0, 0, 0]  # hidden joint, joint not labelled
        two["keypoints"] = [0] * 42  # nothing left to label
        three["bbox"] = [60, 0, 10, 20]

    edit(export, correct)
    corrected = read_corrected(export)
    by_loss = {one.predicted_loss: one for one in corrected.labels.persons}
    assert by_loss.keys() == {3.0, 2.5}
    assert by_loss[3.0].points[0] == (1.5, 2.5)
    assert by_loss[3.0].labelled == (True, False, *[True] * 12)
    assert by_loss[2.5].region == (50, 1.25, 45, 46.5)  # the vehicle still asked so
    assert (corrected.deleted, corrected.unmatched) == (1, ())


def test_deleted_persons_are_counted_and_their_image_not_copied(tmp_path, export):
    edit(export, lambda document: document["annotations"].pop(0))
    corrected = read_corrected(export)
    assert (len(corrected.labels.persons), corrected.deleted) == (2, 1)
    import_coco(export, tmp_path / "labels")
    assert len(files_below(tmp_path / "labels" / "images")) == 1


def test_added_and_copied_persons_are_named_and_left_out(export):
    def add(document):
        first = document["annotations"][0]
        document["annotations"].append({**first, "id": 70})  # a copy keeps our key
        new = {key: value for key, value in first.items() if key != "misgiving"}
        document["annotations"].append({**new, "id": 71})

    edit(export, add)
    corrected = read_corrected(export)
    assert len(corrected.labels.persons) == 3
    assert [why.split(" of ")[0] for why in corrected.unmatched] == [
        "annotation 70",
        "annotation 71",
    ]


def test_tool_that_counts_anew_and_renames(export):
    """As CVAT does (ids from 1 in its own order) and Label Studio (folder, hash and dash)."""

    def rewrite(document):
        drop_key(document)
        del document["annotations"][0]
        for number, image in enumerate(document["images"]):
            image["file_name"] = f"data/images/1f2e3d4c-{image['file_name']}"
            for annotation in document["annotations"]:
                if annotation["image_id"] == image["id"]:
                    annotation["image_id"] = f"new {number}"
            image["id"] = number + 50
        for number, annotation in enumerate(document["annotations"]):
            annotation["id"] = number + 1
            annotation["image_id"] = 50 + int(annotation["image_id"].split()[1])
            del annotation["bbox"], annotation["area"], annotation["score"]

    edit(export, rewrite)
    corrected = read_corrected(export)
    assert (corrected.deleted, corrected.unmatched) == (1, ())
    assert [one.predicted_loss for one in corrected.labels.persons] == [0.25, 2.5]
    for one, index in zip(corrected.labels.persons, (0, 1), strict=True):
        assert np.abs(np.array(one.points) - points_of(FRAMES[1], index)).max() < 0.001


def box(number, x, width=10.0):
    return Annotation(id=number, image_id=1, category_id=1, bbox=(x, 0.0, width, 10.0))


@pytest.mark.parametrize(
    ("corrected", "exported", "expected"),
    [
        ([], [], {}),
        ([box(1, 0)], [], {}),  # added to an image without persons
        ([box(1, 0), box(2, 100)], [box(1, 100), box(2, 0)], {1: 2, 2: 1}),  # place before id
        ([box(2, 0), box(1, 0)], [box(1, 0), box(2, 0)], {1: 1, 2: 2}),  # id where places are equal
        ([box(7, 3), box(8, 1)], [box(1, 0)], {8: 1}),  # the nearer one, once
        ([box(1, 500)], [box(1, 0)], {1: 1}),  # moved far, but the image's only person
        ([box(9, 500)], [box(1, 0)], {}),  # another id, another place
        ([box(1, 500)], [box(1, 0), box(2, 50)], {}),  # moved far among others
        ([box(1, 8.5)], [box(1, 0), box(2, 50)], {}),  # hardly touches: 1.5 of 18.5
    ],
)
def test_match(corrected, exported, expected):
    assert {one: other.id for one, other in match(corrected, exported).items()} == expected


def joints(document):
    return document["annotations"][0]["keypoints"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda d: joints(d).pop(), "annotation 1 has 41 numbers in keypoints; expected 42"),
        (lambda d: joints(d).__setitem__(0, math.nan), "annotations.0.keypoints.0: Input should"),
        (lambda d: joints(d).__setitem__(0, "left"), "annotations.0.keypoints.0: Input should"),
        (lambda d: joints(d).__setitem__(2, 3), "annotation 1 has visibility 3; expected 0"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2]), "annotations.0.bbox.2: Field required"),
        (lambda d: d["annotations"][1].update(id=1), "annotation id 1 occurs twice"),
        (lambda d: d["categories"][0]["keypoints"].__setitem__(0, "tail"), "has keypoint 'tail'"),
        (lambda d: d["categories"][0]["keypoints"].reverse(), "keypoints in another order"),
        (lambda d: d["categories"][0].pop("keypoints"), "no category with keypoints"),
        (lambda d: d.pop("images"), "images: Field required"),
        (lambda d: d["annotations"].clear(), "has no person of the export"),
    ],
)
def test_broken_annotations(tmp_path, export, change, text):
    edit(export, change)
    with pytest.raises(DataError) as caught:
        import_coco(export, tmp_path / "labels")
    assert text in str(caught.value)
    assert "annotations.json" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "labels").exists()


@pytest.mark.parametrize("name", ["annotations.json", "original.json"])
@pytest.mark.parametrize(
    ("content", "text"),
    [(None, "No such file"), (b"{", "Invalid JSON"), (b"", "Invalid JSON"), (b"\xff", "Invalid")],
)
def test_files_that_are_none(tmp_path, export, name, content, text):
    (export / name).unlink()
    if content is not None:
        (export / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: .*{text}") as caught:
        import_coco(export, tmp_path / "labels")
    assert "\n" not in str(caught.value)


def test_missing_image(tmp_path, export):
    shutil.rmtree(export / "images")
    with pytest.raises(DataError, match=r"images lacks [0-9a-f]{16}.png; copy"):
        import_coco(export, tmp_path / "labels")
    assert not (tmp_path / "labels").exists()


def test_nothing_is_overwritten_and_nothing_left_half_done(tmp_path, export):
    with pytest.raises(DataError, match="is there already; nothing is overwritten"):
        import_coco(export, tmp_path)
    with Store(tmp_path / "store") as store, pytest.raises(DataError, match="is there already"):
        export_coco(store, export)
    with Store(tmp_path / "empty") as store, pytest.raises(DataError, match="no frame to export"):
        export_coco(store, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "export", "store"]


def strange(frame_id, **changes):
    frame = collected(frame_id)
    for name, value in changes.items():
        setattr(frame.persons[0], name, value)
    return frame


def test_frames_that_cannot_be_annotated_are_named_and_left_out(tmp_path, caplog):
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
        counts = export_coco(store, tmp_path / "out")
    assert (counts.images, counts.unusable) == (2, 5)
    for name in broken:
        assert f"frame front/{name} is not exported: " in caplog.text


def test_frames_with_other_keypoints(tmp_path):
    other = collected("other")
    other.bundle_digest = "c" * 64
    other.keypoint_names[13] = "tail"
    with stored(tmp_path / "store", *FRAMES, other) as store:
        with pytest.raises(
            DataError, match="front/other has 14 keypoints .* --bundle cccccccccccc"
        ):
            export_coco(store, tmp_path / "out")
        assert export_coco(store, tmp_path / "ours", bundle="bbb").images == 2
        assert export_coco(store, tmp_path / "theirs", bundle="ccc").images == 1
    labels = import_coco(tmp_path / "theirs", tmp_path / "labels")
    assert labels.keypoints.names == (*LSP.names[:13], "tail")
    assert sorted(labels.keypoints.torso) == sorted(LSP.torso)
    assert labels.keypoints.skeleton == LSP.skeleton


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_commands(tmp_path, export):
    shutil.rmtree(export)
    told = run("annotations", "export", "--store", tmp_path / "store", "--out", export)
    assert told.exit_code == 0
    assert f"{export}: 2 images, 3 persons, 2 flagged, 0 audited; 0 frames unusable" in told.output
    edit(export, lambda document: document["annotations"].pop(0))
    told = run("annotations", "import", export, "--out", tmp_path / "labels")
    assert told.exit_code == 0
    version = read_labels(tmp_path / "labels").version
    assert f"version {version}, 2 persons; 1 deleted, 0 unmatched" in told.output
    told = run("annotations", "export", "--store", tmp_path / "nowhere", "--out", tmp_path / "o")
    assert isinstance(told.exception, FailedPrecondition)
    told = run("annotations", "import", tmp_path / "nowhere", "--out", tmp_path / "o")
    assert isinstance(told.exception, InvalidInput)


@pytest.mark.parametrize(
    "verb", [["collect"], ["annotations", "export"], ["annotations", "import"]]
)
def test_help_shows_an_example(verb):
    told = run(*verb, "--help")
    assert f"Example:\n      misgiving {' '.join(verb)} " in told.output
