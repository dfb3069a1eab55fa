"""Who was picked of a pool goes out to annotators with pictures and pre-labels, and comes back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from misgiving.collector import read_corrected, write_labels
from misgiving.export import prelabel
from misgiving.runtime.errors import DataError
from misgiving.runtime.estimator import Estimator
from misgiving.runtime.images import read_bytes
from misgiving.runtime.labelset import read_labels
from misgiving.trainer import open_data
from shared.annotating import edit, touch
from trainer.annotating import write_images


def test_a_selection_comes_back_as_labels(tmp_path: Path) -> None:
    write_images(tmp_path / "pool", 5)
    ids = open_data(f"images:{tmp_path / 'pool'}").ids
    (tmp_path / "picked.txt").write_text(f"{ids[3]}\n{ids[1]}\n")
    picked = open_data(f"images:{tmp_path / 'pool'}#@{tmp_path / 'picked.txt'}")
    estimator, batch = Estimator.load(), tmp_path / "batch"
    counts = prelabel(estimator, picked, batch)
    assert (counts.images, counts.persons, counts.flagged) == (2, 2, 0)
    edit(batch, touch)
    labels = read_corrected(batch).labels
    write_labels(labels, batch, tmp_path / "labels")
    assert read_labels(tmp_path / "labels") == labels
    by_picture = {read_bytes(batch / "images" / one.image): one for one in labels.persons}
    for sample in (picked[0], picked[1]):
        image = read_bytes(sample.path)
        (answer,) = estimator.infer(image).persons
        label = by_picture[image]
        moved = np.array(label.points) - answer.keypoints[:, :2]
        assert np.abs(moved[0] - [0, 2]).max() < 0.002
        assert np.abs(moved[1:]).max() < 0.002
        assert label.predicted_loss == answer.predicted_loss
        assert label.sampling_probability == 1
        assert label.bundle_digest == estimator.bundle.digest


def test_persons_of_one_image_share_its_picture(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 1)
    (image,) = (tmp_path / "images").iterdir()
    joints: list[Any] = np.ravel([[10 + at, 20 + at % 3, 2] for at in range(14)]).tolist()
    person = {"image_id": 1, "category_id": 1, "keypoints": joints}
    boxes = ([0, 0, 24, 30], [4, 4, 20, 24])
    names = open_data("synthetic:1,1").keypoints.names
    document = {
        "images": [{"id": 1, "file_name": image.name}],
        "categories": [{"id": 1, "name": "person", "keypoints": names}],
        "annotations": [person | {"id": at, "bbox": box} for at, box in enumerate(boxes, 1)],
    }
    (tmp_path / "p.json").write_text(json.dumps(document))
    data = open_data(f"coco:{tmp_path / 'p.json'}@{tmp_path / 'images'}")
    counts = prelabel(Estimator.load(), data, tmp_path / "batch", format="label-studio")
    assert (counts.images, counts.persons) == (1, 2)
    (task,) = json.loads((tmp_path / "batch" / "tasks.json").read_text())
    kinds = [one["type"] for one in task["predictions"][0]["result"]]
    assert (kinds.count("rectanglelabels"), kinds.count("keypointlabels")) == (2, 28)


def test_nothing_is_left_where_the_pool_is_gone(tmp_path: Path) -> None:
    write_images(tmp_path / "pool", 2)
    pool = open_data(f"images:{tmp_path / 'pool'}")
    for image in (tmp_path / "pool").iterdir():
        image.write_bytes(b"")
    with pytest.raises(DataError, match="2 of 2 persons"):
        prelabel(Estimator.load(), pool, tmp_path / "batch")
    assert not (tmp_path / "batch").exists()
