"""COCO back in: what annotators said arrives, what tools did is undone."""

import codecs
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from misgiving.collector.annotations import export_annotations, import_coco, read_corrected
from misgiving.runtime.errors import DataError
from misgiving.runtime.keypoints import LSP
from misgiving.runtime.labelset import read_labels
from misgiving.v1.pose_pb2 import KEEP_REASON_AUDIT
from shared.annotating import FRAMES, drop_key, edit, points_of, stored, touch
from shared.collecting import collected, files_below, person, serialise


@pytest.mark.parametrize("change", [lambda document: None, drop_key])  # with our key and without
def test_round_trip_without_edits(
    tmp_path: Path, export: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    edit(export, change)
    labels = import_coco(export, tmp_path / "labels", trust_untouched=True)
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


def test_version_is_the_content(tmp_path: Path, export: Path) -> None:
    edit(export, touch)
    first = import_coco(export, tmp_path / "first").version
    assert import_coco(export, tmp_path / "second").version == first
    edit(export, lambda document: document["annotations"][0]["keypoints"].__setitem__(0, 17.5))
    assert import_coco(export, tmp_path / "third").version != first


def test_corrections_arrive(export: Path) -> None:
    def correct(document: dict[str, Any]) -> None:
        one, two, three = document["annotations"]
        one["keypoints"][:6] = [1.5, 2.5, 1, 0, 0, 0]  # hidden joint, joint not labelled
        two["keypoints"] = [0] * 42  # nothing left to label
        three["bbox"], three["keypoints"][2::3] = [60, 0, 10, 20], [1] * 14

    edit(export, correct)
    corrected = read_corrected(export)
    by_loss = {one.predicted_loss: one for one in corrected.labels.persons}
    assert by_loss.keys() == {3.0, 2.5}
    assert by_loss[3.0].points[0] == (1.5, 2.5)
    assert by_loss[3.0].visibility == (1, 0, *[2] * 12)
    assert by_loss[2.5].visibility == (1,) * 14
    assert by_loss[2.5].region == (50, 1.25, 45, 46.5)  # the vehicle still asked so
    assert (corrected.deleted, corrected.untouched, corrected.added) == (1, 0, 0)
    (said,) = corrected.said
    assert said.endswith("annotations.json: 1 without keypoints left out")


def test_deleted_persons_are_counted_and_their_image_not_copied(
    tmp_path: Path, export: Path
) -> None:
    edit(export, touch)
    edit(export, lambda document: document["annotations"].pop(0))
    corrected = read_corrected(export)
    assert (len(corrected.labels.persons), corrected.deleted) == (2, 1)
    import_coco(export, tmp_path / "labels")
    assert len(files_below(tmp_path / "labels" / "images")) == 1


def rounded(digits: int) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        for one in document["annotations"]:
            one["keypoints"] = [round(number, digits) for number in one["keypoints"]]

    return change


def cut(document: dict[str, Any]) -> None:
    for one in document["annotations"]:
        one["keypoints"] = list(map(int, one["keypoints"]))


@pytest.mark.parametrize("tool", [drop_key, rounded(2), rounded(1), rounded(0), cut])
def test_untouched_persons_are_left_out(
    export: Path, tool: Callable[[dict[str, Any]], object]
) -> None:
    """However the tool rounds; and one joint that was moved is enough."""
    edit(export, tool)
    edit(export, lambda document: document["annotations"][1]["keypoints"].__setitem__(4, 30))
    corrected = read_corrected(export)
    assert [one.predicted_loss for one in corrected.labels.persons] == [0.25]
    assert (corrected.untouched, corrected.deleted) == (2, 0)
    assert len(read_corrected(export, trust_untouched=True).labels.persons) == 3


def test_nobody_was_looked_at(tmp_path: Path, export: Path) -> None:
    with pytest.raises(DataError, match=r"has all 3 persons as they were.* --trust-untouched"):
        import_coco(export, tmp_path / "labels")
    assert not (tmp_path / "labels").exists()


def test_persons_whom_annotators_add_are_labels(tmp_path: Path) -> None:
    """Their frame was kept with one probability for everybody in it; nobody asked about them."""
    rare = collected("rare", persons=[person(0, loss=0.25)])
    with stored(tmp_path / "store", rare) as store:
        export_annotations(store, tmp_path / "export")

    def add(document: dict[str, Any]) -> None:
        first = document["annotations"][0]
        points = [[x + 40, y, 2] for x, y in points_of(rare, 0)]
        new = {**first, "id": 70, "keypoints": np.ravel(points).tolist(), "bbox": [41, 2, 90, 20]}
        document["annotations"].append(new)  # a copy that was moved keeps our key

    edit(tmp_path / "export", touch)
    edit(tmp_path / "export", add)
    for change in (lambda document: None, drop_key):
        edit(tmp_path / "export", change)
        corrected = read_corrected(tmp_path / "export")
        known, added = corrected.labels.persons
        assert (corrected.added, corrected.deleted) == (1, 0)
        assert added.id == f"{known.id[:16]}-added-1"
        assert (added.predicted_loss, known.predicted_loss) == (None, 0.25)
        assert added.sampling_probability == known.sampling_probability == pytest.approx(0.01)
        assert added.region == (41, 2, 79, 20)  # as far as it is in the image
        assert np.abs(np.array(added.points) - points_of(rare, 0) - [40, 0]).max() < 0.001


@pytest.mark.parametrize("change", [lambda document: None, drop_key])
def test_whom_the_detector_missed_is_a_label(
    tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    """A frame in which nobody was found has no annotations, and a probability nevertheless."""
    nobody = collected("nobody", persons=[])
    nobody.nobody.kept, nobody.nobody.sampling_probability = KEEP_REASON_AUDIT, 0.01
    with stored(tmp_path / "store", FRAMES[0], nobody) as store:
        counts = export_annotations(store, tmp_path / "export")
    assert (counts.images, counts.unusable) == (2, 0)

    def add(document: dict[str, Any]) -> None:
        change(document)
        document["images"][1].pop("misgiving")
        first = document["annotations"][0]
        document["annotations"] = [first | {"id": 70, "image_id": 2}]

    edit(tmp_path / "export", add)
    corrected = read_corrected(tmp_path / "export")
    (missed,) = corrected.labels.persons
    assert missed.sampling_probability == pytest.approx(0.01)
    assert missed.predicted_loss is None
    assert missed.id.endswith("-added-1")
    assert missed.device_id == "car-7"


def test_who_is_written_twice_is_one(export: Path) -> None:
    def double(document: dict[str, Any]) -> None:
        document["annotations"].append({**document["annotations"][0], "id": 70})

    edit(export, touch)
    edit(export, drop_key)
    edit(export, double)
    corrected = read_corrected(export)
    assert (len(corrected.labels.persons), corrected.added) == (3, 0)
    (said,) = corrected.said
    assert said.startswith("annotation 70 of ")
    assert said.endswith("has the joints of 1: left out")


def test_failures_of_the_network_come_back(tmp_path: Path) -> None:
    """It looked in the wrong place, and the tool counted ids anew: still nobody is lost."""
    frames = [collected(str(n), persons=[person(0), person(1)][: 1 + n % 2]) for n in range(6)]
    with stored(tmp_path / "store", *frames) as store:
        export_annotations(store, tmp_path / "export")

    def correct(document: dict[str, Any]) -> None:
        drop_key(document)
        document["images"].sort(key=lambda image: image["file_name"])
        document["annotations"].sort(key=lambda one: -one["id"])
        for number, one in enumerate(document["annotations"], 1):
            points = np.reshape(one["keypoints"], (-1, 3)) * [0.2, 0.2, 1] + [100, 50, 0]
            low, high = points[:, :2].min(0), points[:, :2].max(0)
            one |= {"id": number, "keypoints": points.ravel().tolist()}
            one["bbox"] = [*low.tolist(), *(high - low).tolist()]

    edit(tmp_path / "export", correct)
    corrected = read_corrected(tmp_path / "export")
    assert len({one.id for one in corrected.labels.persons}) == 9
    assert (corrected.added, corrected.deleted, corrected.untouched) == (0, 0, 0)


def test_tool_that_counts_anew_and_renames(export: Path) -> None:
    """As CVAT does (ids from 1 in its own order) and Label Studio (folder, hash and dash)."""

    def rewrite(document: dict[str, Any]) -> None:
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

    edit(export, touch)
    edit(export, rewrite)
    corrected = read_corrected(export)
    assert corrected.deleted == 1
    assert [one.predicted_loss for one in corrected.labels.persons] == [0.25, 2.5]
    for one, index in zip(corrected.labels.persons, (0, 1), strict=True):
        assert np.abs(np.array(one.points) - points_of(FRAMES[1], index))[1:].max() < 0.001


@pytest.mark.parametrize(("width", "height"), [(640, 640), (60, 30), (97, 31)])
def test_labels_of_resized_images_are_scaled_back(export: Path, width: int, height: int) -> None:
    edit(export, lambda document: touch({"annotations": document["annotations"][:2]}))
    before = json.loads((export / "annotations.json").read_text())["annotations"][0]["keypoints"]

    def change(document: dict[str, Any]) -> None:
        drop_key(document)
        for one in document["annotations"]:
            flat = np.reshape(one["keypoints"], (-1, 3)) * [width / 120, height / 60, 1]
            one["keypoints"] = flat.round(2).ravel().tolist()
            del one["bbox"]
        for image in document["images"]:
            image |= {"width": width, "height": height}

    edit(export, change)
    corrected = read_corrected(export)
    assert (len(corrected.labels.persons), corrected.untouched) == (2, 1)
    got = next(one for one in corrected.labels.persons if one.predicted_loss == 3.0)
    assert np.abs(np.array(got.points) - np.reshape(before, (-1, 3))[:, :2]).max() < 0.02
    (said,) = corrected.said
    assert f"is 120 x 60 px; {export}/annotations.json says {width} x {height} px" in said
    assert "labels of 2 resized images are scaled back" in said


@pytest.mark.parametrize("choose", [min, max])
def test_black_edges_and_cuts_are_no_stretched_images(
    export: Path, choose: Callable[[float, float], float]
) -> None:
    """Roboflow's other ways to make an image square: fit within it, or fill it."""

    def change(document: dict[str, Any]) -> None:
        drop_key(document)
        for one in document["annotations"]:
            middle = np.array([60, 30, 0])
            flat = (np.reshape(one["keypoints"], (-1, 3)) - middle) * [*[scale] * 2, 1]
            one["keypoints"] = (flat + [320, 320, 0]).ravel().tolist()
        for image in document["images"]:
            image |= {"width": 640, "height": 640}

    scale = choose(640 / 120, 640 / 60)
    edit(export, touch)
    edit(export, change)
    with pytest.raises(DataError, match="added black edges or cut some off"):
        read_corrected(export)


def backslashes(document: dict[str, Any]) -> None:
    for image in document["images"]:
        image["file_name"] = f"images\\{image['file_name']}"


def roboflow(document: dict[str, Any]) -> None:
    for image in document["images"]:
        image["file_name"] = image["file_name"].replace(".png", f"_png.rf.{'0a' * 16}.jpg")
    document["categories"].insert(0, {"id": 0, "name": "batch", "supercategory": "none"})


def another_order(document: dict[str, Any]) -> None:
    document["categories"][0]["keypoints"].reverse()
    for one in document["annotations"]:
        one["keypoints"] = np.reshape(one["keypoints"], (-1, 3))[::-1].ravel().tolist()


def another_spelling(document: dict[str, Any]) -> None:
    category = document["categories"][0]
    category["keypoints"] = [name.title().replace("_", "") for name in category["keypoints"]]


def texts(document: dict[str, Any]) -> None:
    for part in (*document["images"], *document["annotations"], *document["categories"]):
        part |= {key: str(value) for key, value in part.items() if key.endswith("id")}


@pytest.mark.parametrize(
    "tool",
    [
        lambda document: document["annotations"][1].update(bbox=[]),
        lambda document: document["categories"][0].update(supercategory=None),
        lambda document: [image.pop("width") for image in document["images"]],
        lambda document: [one.pop("num_keypoints") for one in document["annotations"]],
        lambda document: [one.update(misgiving={"x": 1}) for one in document["annotations"]],
        lambda document: [one.update(misgiving="x") for one in document["annotations"]],
        backslashes,
        roboflow,
        another_order,
        another_spelling,
        texts,
    ],
)
def test_what_tools_do_to_a_file(export: Path, tool: Callable[[dict[str, Any]], object]) -> None:
    edit(export, touch)
    expected = read_corrected(export).labels
    edit(export, drop_key)
    edit(export, tool)
    corrected = read_corrected(export)
    assert corrected.labels == expected
    assert (corrected.deleted, corrected.untouched, corrected.added) == (0, 0, 0)


@pytest.mark.parametrize("mark", [codecs.BOM_UTF8, b""])
def test_a_byte_order_mark_does_no_harm(export: Path, mark: bytes) -> None:
    edit(export, touch)
    path = export / "annotations.json"
    path.write_bytes(mark + path.read_bytes())
    assert len(read_corrected(export).labels.persons) == 3
