"""One bad image among many: left out, named and counted, by everything that reads a data set."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from misgiving.runtime.errors import DataError
from misgiving.runtime.estimator import Estimator
from misgiving.runtime.geometry import Region
from misgiving.runtime.images import encode_png
from misgiving.runtime.keypoints import LSP
from misgiving.trainer import Compute, cycle_named, load_checkpoint, run_cycle, score, train
from misgiving.trainer.data import PoseSet, Sample, open_data, readable
from misgiving.trainer.evaluation.bundle import evaluate
from misgiving.trainer.training import _restart
from shared.training import TINY, people

COUNT = 12
CPU = Compute(device="cpu", threads=1)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def with_alpha(path: Path) -> None:
    cv2.imwrite(str(path), np.zeros((40, 40, 4), np.uint8))


def deep(path: Path) -> None:
    cv2.imwrite(str(path), np.zeros((40, 40, 3), np.uint16))


BREAKS: list[Callable[[Path], None]] = [cut, with_alpha, deep, Path.unlink]


def written(folder: Path, first: int = 0) -> PoseSet:
    """Some people as a COCO file beside their images, ``0.png``… or from another number on."""
    data, images, annotations = people(4, first + COUNT), [], []
    folder.mkdir()
    for index in range(first, first + COUNT):
        (folder / f"{index}.png").write_bytes(encode_png(data[index].image))
        images.append({"id": index, "file_name": f"{index}.png"})
        values = [v for x, y in data[index].points.tolist() for v in (x, y, 2)]
        person = {"id": index, "image_id": index, "category_id": 1, "keypoints": values}
        annotations.append(person)
    category = {"id": 1, "name": "person", "keypoints": LSP.names, "skeleton": []}
    content = {"images": images, "annotations": annotations, "categories": [category]}
    (folder / "c.json").write_text(json.dumps(content))
    return open_data(f"coco:{folder}/c.json@{folder}")


@pytest.mark.parametrize("damage", BREAKS)
def test_a_training_learns_from_the_others(
    damage: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, validation = written(tmp_path / "a"), written(tmp_path / "b", COUNT)
    damage(tmp_path / "a" / "3.png")
    damage(tmp_path / "b" / f"{COUNT}.png")
    trained = train(TINY, data, validation, tmp_path / "out", CPU)
    record = load_checkpoint(tmp_path / "out")[2]
    assert (record.label_count, record.unreadable) == (COUNT - 1, 1)
    assert record.metrics["persons"] == COUNT - 1
    assert trained.validation.ids == validation.ids[1:]
    said = capsys.readouterr().err
    assert said.count("is skipped") == 2
    assert f"{data.ids[3]} is skipped: {tmp_path}/a/3.png" in said
    assert f"{data.spec}: 1 of {COUNT} persons are left out, they cannot be read" in said


def test_it_is_as_if_they_had_not_been_given(tmp_path: Path) -> None:
    """The same weights, and one that goes on must see the same persons."""
    data = written(tmp_path / "a")
    cut(tmp_path / "a" / "3.png")
    kept = readable.readable_part(data, TINY.model.crop)
    validation = open_data("synthetic:9,8")
    one = train(TINY, data, validation, tmp_path / "one", CPU).network.state_dict()
    other = train(TINY, kept, validation, tmp_path / "other", CPU).network.state_dict()
    assert all(bool((one[name] == other[name]).all()) for name in one)
    identity = _restart(TINY, kept, tmp_path / "x", 1, None)._identity
    assert identity["persons"] != _restart(TINY, data, tmp_path / "x", 1, None)._identity["persons"]


def test_an_evaluation_measures_the_others(tmp_path: Path) -> None:
    data = written(tmp_path / "a")
    (tmp_path / "a" / "3.png").unlink()
    evaluation = evaluate(Estimator.load(threads=1), data)
    assert evaluation.persons.ids == evaluation.data.ids == data.ids[:3] + data.ids[4:]
    assert evaluation.failures.persons == COUNT - 1
    assert evaluation.data[3].id == data.ids[4]


def test_a_cycle_goes_on_without_them(tmp_path: Path) -> None:
    base, test = open_data("synthetic:1,8"), open_data("synthetic:2,8")
    pool = written(tmp_path / "pool")
    cut(tmp_path / "pool" / "0.png")
    recipe = cycle_named("demo", methods=("coreset", "egl"), epochs=1, budget=4, stages=2)
    recipe = replace(recipe, training=TINY)
    runs = run_cycle(recipe, base, pool, test, tmp_path / "out", CPU)
    for run in runs:
        chosen = [name for stage in run.stages for name in stage.selected]
        assert len(set(chosen)) == 8
        assert pool.ids[0] not in chosen


def broken(data: PoseSet, bad: set[int]) -> PoseSet:
    """Boxes outside of their images: read, but not to be cut."""

    def read(index: int) -> Sample:
        return replace(data[index], box=Region(9999, 0, 5, 5) if index in bad else None)

    return replace(data, read=read)


def test_the_first_are_named_and_all_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    data = broken(people(3, 14), set(range(7)))
    assert len(readable.readable_part(data, TINY.model.crop)) == 7
    said = capsys.readouterr().err
    assert said.count("is skipped") == readable.NAMED
    assert "7 of 14 persons are left out" in said


def test_more_than_half_is_an_error(tmp_path: Path) -> None:
    data, device = broken(people(3, 13), set(range(7))), CPU.prepare()
    message = r"7 of 13 persons of synthetic:.* cannot be read, the first: region is .*At most 50%"
    with pytest.raises(DataError, match=message):
        train(TINY, data, open_data("synthetic:2,8"), tmp_path / "out", CPU)
    network = train(TINY, open_data("synthetic:1,8"), people(2, 8), tmp_path / "b", CPU).network
    with pytest.raises(DataError, match=message):
        score(network, TINY, data, device)
    with pytest.raises(DataError, match=message):
        evaluate(Estimator.load(threads=1), data)
