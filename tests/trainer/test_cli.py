"""``train`` and ``cycle`` as commands: what ``--keypoints`` and ``--init`` do to the data."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from misgiving.runtime.errors import DataError
from misgiving.runtime.keypoints import COCO, LSP
from misgiving.trainer.checkpoint import load_checkpoint
from misgiving.trainer.cli import app
from misgiving.trainer.config import to_json
from shared.training import TINY
from trainer.annotating import annotation, coco, document

LSP_SPEC = "synthetic:3,8"
WRISTS = """
name = "wrists"
names = ["left_wrist", "right_wrist"]
skeleton = []
torso = []
"""


def invoke(folder: Path, verb: str, *arguments: str) -> str:
    """Run a command with a tiny recipe; gives what it wrote to stderr."""
    (folder / "tiny.json").write_text(to_json(TINY))
    tiny = str(folder / "tiny.json")
    recipe = [tiny] if verb == "cycle" else ["--recipe", tiny]
    small = ("--epochs", "1", "--device", "cpu", "--threads", "1")
    command = [verb, *recipe, *arguments, *small]
    return CliRunner().invoke(app, command, catch_exceptions=False).stderr


def hands(folder: Path) -> str:
    """A COCO set with three joints, of which LSP has the wrists."""
    return coco(folder / "hands", document(annotation(1), annotation(2, 7)))


def test_keypoints_of_a_file_map_every_set(tmp_path: Path) -> None:
    (tmp_path / "wrists.toml").write_text(WRISTS)
    sets = ("--data", hands(tmp_path), "--data", LSP_SPEC, "--val", "synthetic:2,4")
    out = tmp_path / "run"
    said = invoke(
        tmp_path, "train", *sets, "--keypoints", str(tmp_path / "wrists.toml"), "--out", str(out)
    )
    record = load_checkpoint(out)[2]
    assert record.keypoints.names == ("left_wrist", "right_wrist")
    assert record.label_count == 10
    assert "as wrists: left out nose\n" in said
    assert said.count("as wrists: left out right_ankle, right_knee") == 2  # training, validation


def test_without_keypoints_the_first_set_s_own(tmp_path: Path) -> None:
    spec = hands(tmp_path)
    out = tmp_path / "run"
    invoke(tmp_path, "train", "--data", f"{spec}#1-1", "--val", f"{spec}#2-2", "--out", str(out))
    assert load_checkpoint(out)[2].keypoints.name == "person"
    for sets in (
        ("--data", spec, "--data", LSP_SPEC, "--val", "synthetic:2,4"),
        ("--data", LSP_SPEC, "--val", spec),
    ):
        with pytest.raises(DataError, match=r"have different keypoints .* with --keypoints"):
            invoke(tmp_path, "train", *sets, "--out", str(tmp_path / "other"))


def test_training_on_takes_the_checkpoint_s(checkpoint: Path, tmp_path: Path) -> None:
    sets = ("--data", hands(tmp_path), "--val", "synthetic:2,4", "--init", str(checkpoint))
    invoke(tmp_path, "train", *sets, "--out", str(tmp_path / "run"))
    assert load_checkpoint(tmp_path / "run")[2].keypoints == LSP
    with pytest.raises(DataError, match=r"the keypoints of coco17, the checkpoint those of lsp14"):
        invoke(tmp_path, "train", *sets, "--keypoints", "coco17", "--out", str(tmp_path / "other"))


def test_training_on_takes_the_checkpoint_s_recipe(checkpoint: Path, tmp_path: Path) -> None:
    sets = ["--data", "synthetic:9,16", "--val", "synthetic:2,4", "--init", str(checkpoint)]
    command = ["train", *sets, "--out", str(tmp_path / "run"), "--device", "cpu", "--threads", "1"]
    CliRunner().invoke(app, command, catch_exceptions=False)
    assert load_checkpoint(tmp_path / "run")[1] == TINY


def test_a_cycle_maps_all_its_sets(tmp_path: Path) -> None:
    sets = ("--base", LSP_SPEC, "--pool", hands(tmp_path), "--test", "synthetic:2,4")
    rest = (*sets, "--budget", "1", "--stages", "1", "--out", str(tmp_path / "run"))
    invoke(tmp_path, "cycle", *rest, "--keypoints", "coco17")
    assert load_checkpoint(tmp_path / "run" / "seed-5" / "base")[2].keypoints == COCO
    with pytest.raises(DataError, match=r"have different keypoints .* with --keypoints"):
        invoke(tmp_path, "cycle", *rest[:-1], str(tmp_path / "other"))
    assert not (tmp_path / "other").exists()
