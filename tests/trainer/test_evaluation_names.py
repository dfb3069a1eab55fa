"""A bundle measured on data that calls the joints otherwise, or has too few of them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from misgiving.runtime.images import encode_png
from misgiving.runtime.keypoints import LSP
from misgiving.trainer.cli import app
from shared.training import people

COUNT = 6


def written(folder: Path, names: list[str], joints: int = len(LSP)) -> str:
    """Spec of a COCO file with the first joints of some people."""
    data = people(4, COUNT)
    images, annotations = [], []
    for index in range(COUNT):
        sample = data[index]
        (folder / f"{index}.png").write_bytes(encode_png(sample.image))
        images.append({"id": index, "file_name": f"{index}.png"})
        values = [v for x, y in sample.points[:joints].tolist() for v in (x, y, 2)]
        person = {"id": index, "image_id": index, "category_id": 1, "keypoints": values}
        annotations.append(person)
    category = {"id": 1, "name": "person", "keypoints": names, "skeleton": []}
    content = {"images": images, "annotations": annotations, "categories": [category]}
    (folder / "c.json").write_text(json.dumps(content))
    return f"coco:{folder}/c.json@{folder}"


def pck(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["evaluate", "--threads", "1", *arguments])
    assert result.exit_code == 0, result.output
    return next(line for line in result.stdout.splitlines() if line.startswith("PCK@0.2"))


@pytest.mark.parametrize("spelt", ["{0}_{1}", "{1}{0}", "{1}_{2}"])
def test_the_same_joints_in_another_spelling_measure_the_same(spelt: str, tmp_path: Path) -> None:
    names = []
    for name in LSP.names:
        side, _, joint = name.partition("_")
        paired = side in ("left", "right")
        parts = (side[0], joint.title(), side.upper())
        names.append(spelt.format(*parts) if paired else name.title())
    plain = tmp_path / "plain"
    plain.mkdir()
    expected = pck("--data", written(plain, list(LSP.names)))
    assert pck("--data", written(tmp_path, names)) == expected


def test_only_the_joints_of_a_set_are_measured(tmp_path: Path) -> None:
    spec = written(tmp_path, list(LSP.names))
    shared = [n for n in LSP.names if n not in ("neck", "head_top")]
    own = tmp_path / "mine.toml"
    own.write_text(f'\ufeffname = "mine"\nnames = {shared}\nskeleton = []\ntorso = []\n', "utf-8")
    one = pck("--data", spec, "--keypoints", str(own))
    assert one == pck("--data", spec, "--keypoints", "coco17") != pck("--data", spec)


def test_what_no_label_can_measure_is_refused(tmp_path: Path) -> None:
    """A table of dashes would say that nobody failed."""
    spec = written(tmp_path, ["neck", "tail"], 2)
    result = CliRunner().invoke(app, ["evaluate", "--threads", "1", "--data", spec])
    assert result.exit_code != 0
    assert "has nobody whose torso is labelled" in str(result.exception)
