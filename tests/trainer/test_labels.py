"""Label sets that came back from annotators, as training data."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from misgiving.runtime.errors import DataError, ImageError
from misgiving.runtime.geometry import CropRule, Region, window_of
from misgiving.runtime.keypoints import LSP
from misgiving.runtime.labelset import read_labels
from misgiving.trainer.data import Collected, open_data
from misgiving.trainer.data.readable import asked_window
from misgiving.trainer.data.spec import shared_persons, without_folders
from shared.training import JOINTS, standing
from trainer.labelling import IMAGE, label_set, person


def test_a_label_set_is_training_data(tmp_path: Path) -> None:
    partly = [joint % 3 for joint in range(JOINTS)]
    folder = label_set(tmp_path, person("a", "1.png"), person("b", "1.png", partly))
    data = open_data(f"labels:{folder}")
    assert data.ids == ("a", "b")
    assert data.spec == f"labels:{folder}@v3"
    assert data.keypoints == LSP
    sample = data[1]
    assert (sample.id, sample.path) == ("b", folder / "images" / "1.png")
    np.testing.assert_array_equal(sample.image, IMAGE)
    np.testing.assert_allclose(sample.points, standing(), rtol=1e-6)
    assert (sample.points.dtype, sample.labelled.dtype) == (np.float32, np.bool_)
    assert sample.labelled.tolist() == [one > 0 for one in partly]
    assert sample.hidden is not None
    assert sample.hidden.tolist() == [one == 1 for one in partly]
    assert sample.collected == Collected(0.5, "car", "front", Region(1, 2, 10, 20))


def test_a_label_set_of_before_is_read(tmp_path: Path) -> None:
    """Schema 2 told of a joint whether it is labelled, and no more."""
    before = person("a", "1.png")
    del before["visibility"]
    before["labelled"] = [joint > 0 for joint in range(JOINTS)]
    folder = label_set(tmp_path, before, schema_version=2)
    assert read_labels(folder).persons[0].visibility == (0, *[2] * (JOINTS - 1))
    assert open_data(f"labels:{folder}")[0].labelled.tolist() == before["labelled"]


def test_a_side_of_training_and_validation(tmp_path: Path) -> None:
    sides = {"a": "train", "b": "val", "c": "neither", "d": "train"}
    persons = [person(name, "1.png") | {"split": side} for name, side in sides.items()]
    folder = label_set(tmp_path / "set", *persons, schema_version=4, version="0123456789ab")
    assert open_data(f"labels:{folder}").ids == ("a", "b", "c", "d")
    data = open_data(f"labels:{folder}#train")
    assert data.ids == ("a", "d")
    assert open_data(data.spec).ids == ("a", "d")
    assert shared_persons(open_data(f"labels:{folder}"), ["labels:set@0123456789ab#val"]) == ("b",)
    assert without_folders(f"{data.spec} + lsp:/a/b") == "labels:set@0123456789ab#train + lsp:b"
    lone = label_set(tmp_path / "lone", persons[0], schema_version=4)
    with pytest.raises(DataError, match=r"has nobody for val among 1 persons; .* without #val"):
        open_data(f"labels:{lone}#val")
    old = label_set(tmp_path / "old", person("a", "1.png"))
    with pytest.raises(DataError, match="is of before train and val were told apart"):
        open_data(f"labels:{old}#val")
    with pytest.raises(DataError, match="range is #test"):
        open_data(f"labels:{folder}#test")


def test_a_person_that_an_annotator_added(tmp_path: Path) -> None:
    added = {**person("a", "1.png"), "predicted_loss": None}
    assert open_data(f"labels:{label_set(tmp_path, added)}").ids == ("a",)


def test_a_lone_joint_is_learnt_in_the_vehicles_region(tmp_path: Path) -> None:
    """A box around it would be one pixel."""
    lone = person("a", "1.png", [2, *[0] * (JOINTS - 1)])
    assert open_data(f"labels:{label_set(tmp_path, lone)}")[0].region == Region(1, 2, 10, 20)


@pytest.mark.parametrize(
    ("region", "asked"),
    [
        ([1.0, 2.0, 10.0, 20.0], Region(1, 2, 10, 20)),  # the vehicle's, wherever the joints are
        ([0.0, 0.0, 20.0, 30.0], None),  # the whole frame, which is not padded
        ([0.0, 0.0, 20.0, 29.0], Region(0, 0, 20, 29)),
    ],
)
def test_the_bundle_is_asked_what_the_vehicle_asked(
    tmp_path: Path, region: list[float], asked: Region | None
) -> None:
    sample = open_data(f"labels:{label_set(tmp_path, {**person('a', '1.png'), 'region': region})}")[
        0
    ]
    assert sample.asked_region == asked
    rule = CropRule(height=16, width=16, padding=1.25)
    assert asked_window(sample, rule) == window_of(asked, *IMAGE.shape[:2], rule)
    assert sample.region == Region.around(sample.points[sample.labelled])  # that it is trained on


def test_persons_without_a_joint_are_left_out(tmp_path: Path) -> None:
    nothing = person("none", "1.png", [0] * JOINTS)
    data = open_data(f"labels:{label_set(tmp_path, nothing, person('a', '2.png'), nothing)}")
    assert data.ids == ("a",)
    assert data[0].path == tmp_path / "images" / "2.png"


@pytest.mark.parametrize(
    ("persons", "message"),
    [
        ([], r"has no person with a labelled joint; label some, import again"),
        ([person("a", "1.png", [0] * JOINTS)], r"has no person with a labelled joint"),
        ([person("a", "1.png", [2] * 3)], r"person a has 14 points and 3 flags; expected 14"),
        (
            [person("a", "1.png", [3] * JOINTS)],
            r"persons.0.visibility.0: Input should be 0, 1 or 2",
        ),
        ([{**person("a", "1.png"), "extra": 1}], r"persons.0.extra: Extra inputs"),
        ([{**person("a", "1.png"), "sampling_probability": 0}], r"sampling_probability"),
    ],
)
def test_bad_label_sets(tmp_path: Path, persons: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        open_data(f"labels:{label_set(tmp_path, *persons)}")
    assert "\n" not in str(error.value)


def test_a_version_may_be_asked_for(tmp_path: Path) -> None:
    """As the set names itself in a record, so that the record's data can be opened again."""
    folder = label_set(tmp_path / "x@y", person("a", "1.png"), version="0123456789ab")
    data = open_data(f"labels:{folder}")
    assert open_data(data.spec).ids == data.ids
    assert data.spec.endswith("@0123456789ab")
    with pytest.raises(DataError, match=r"has version 0123456789ab; expected ffffffffffff"):
        open_data(f"labels:{folder}@ffffffffffff")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 1}'])
def test_damaged_json(tmp_path: Path, text: str) -> None:
    label_set(tmp_path, person("a", "1.png"))
    (tmp_path / "labels.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"labels.json: .*; import the annotations again"):
        open_data(f"labels:{tmp_path}")


def test_missing_and_damaged_images(tmp_path: Path) -> None:
    folder = label_set(tmp_path, person("a", "1.png"), person("b", "2.png"))
    (folder / "images" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(ImageError, match=r"1.png is corrupt or cut short"):
        open_data(f"labels:{folder}")[0]
    (folder / "images" / "2.png").unlink()
    with pytest.raises(DataError, match=r"lacks 2.png; import the annotations again"):
        open_data(f"labels:{folder}")
