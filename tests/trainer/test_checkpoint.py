"""Checkpoints: bit-equal after the round trip, one line for what is none."""

import json
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from misgiving.runtime.bundles.releasing import pack_bundle
from misgiving.runtime.errors import DataError
from misgiving.runtime.keypoints import LSP
from misgiving.trainer.checkpoint import (
    Record,
    code_commit,
    load_checkpoint,
    load_record,
    save_checkpoint,
)
from misgiving.trainer.models import Network
from shared import tiny
from shared.training import TINY, TRAINING_SPEC

WEIGHTS, RECIPE, RECORD = "model.safetensors", "recipe.json", "record.json"

SAVED = Record(
    keypoints=LSP,
    training_data=("a", "b"),
    label_count=3,
    validation_data="c",
    metrics={"pck": 0.1 + 0.2},
    commit="",
)


def test_round_trip(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = Network(TINY.model, LSP)
    folder = tmp_path / "deeper" / "checkpoint"
    save_checkpoint(folder, network, TINY, SAVED)
    loaded, recipe, record = load_checkpoint(folder)
    assert recipe == TINY
    assert record == SAVED
    before, after = network.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not loaded.training
    assert sorted(p.name for p in folder.iterdir()) == [WEIGHTS, RECIPE, RECORD]
    assert [p.name for p in folder.parent.iterdir()] == ["checkpoint"]  # nothing half-written


def test_the_record_alone_needs_no_weights(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", Network(TINY.model, LSP), TINY, SAVED)
    (tmp_path / "c" / WEIGHTS).unlink()
    assert load_record(tmp_path / "c") == SAVED
    (tmp_path / "c" / RECORD).write_text("{")
    with pytest.raises(DataError, match=r"c is a damaged checkpoint: record\.json: "):
        load_record(tmp_path / "c")
    with pytest.raises(DataError, match=r"d is no checkpoint: .*No such file"):
        load_record(tmp_path / "d")


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(DataError, match="expected a folder on a disk with room"):
            save_checkpoint(tmp_path / "c", Network(TINY.model, LSP), TINY, SAVED)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_channels_last_weights_survive(tmp_path: Path) -> None:
    """Training leaves them in another memory layout."""
    network = Network(TINY.model, LSP)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    save_checkpoint(tmp_path / "c", network, TINY, SAVED)
    loaded = load_checkpoint(tmp_path / "c")[0].state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in network.state_dict().items())


def test_it_answers_as_before(checkpoint: Path, tmp_path: Path) -> None:
    network, recipe, record = load_checkpoint(checkpoint)
    assert record.training_data == (TRAINING_SPEC,)
    save_checkpoint(tmp_path / "again", network, recipe, record)
    again = load_checkpoint(tmp_path / "again")[0]
    image = torch.rand(2, 3, 32, 32) * 255
    with torch.no_grad():
        first, second = network(image), again(image)
    assert torch.equal(first.pose.heatmaps, second.pose.heatmaps)
    for name, predicted in first.predicted_losses.items():
        assert torch.equal(predicted, second.predicted_losses[name])


def test_the_rest_of_an_earlier_attempt_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "c.part").mkdir()
    (tmp_path / "c.part" / "half").write_text("written")
    save_checkpoint(tmp_path / "c", Network(TINY.model, LSP), TINY, SAVED)
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == [WEIGHTS, RECIPE, RECORD]
    assert not (tmp_path / "c.part").exists()


def rewrite(name: str, *path: str, value: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        place = content
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        (folder / name).write_text(json.dumps(content), encoding="utf-8")

    return damage


def cut(name: str, size: int) -> Callable[[Path], None]:
    """Keep the first bytes, or all but some last ones."""

    def damage(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:size])

    return damage


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def rename_a_tensor(folder: Path) -> None:
    weights = {k: v.clone() for k, v in load_file(folder / WEIGHTS).items()}
    weights["pose.other"] = weights.pop("pose.answers.0.bias")
    save_file(weights, folder / WEIGHTS)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        # a file is missing
        (without(RECORD), r"is no checkpoint: .*record.json: No such file .*; expected a folder"),
        (without(WEIGHTS), r"is no checkpoint: .*No such file .*model.safetensors; expected"),
        (without(RECIPE), r"recipe.json: No such file"),
        (shutil.rmtree, r"is no checkpoint: .*record.json: No such file"),
        # cut short
        (cut(WEIGHTS, -10), r"is a damaged checkpoint: .+; train it again"),
        (cut(WEIGHTS, 100), r"is a damaged checkpoint: .+; train it again"),
        (cut(WEIGHTS, 0), r"is a damaged checkpoint: .+; train it again"),
        (cut(RECORD, 20), r"is a damaged checkpoint: record.json: Invalid JSON"),
        (cut(RECIPE, 20), r"is a damaged checkpoint: .*recipe.json: Invalid JSON"),
        (cut(RECIPE, 0), r"is a damaged checkpoint: .*recipe.json: Invalid JSON"),
        # parts that do not say what they must
        (rewrite(RECORD, "extra", value=1), r"record.json: extra: Unexpected keyword"),
        (rewrite(RECORD, "label_count", value="x"), r"record.json: label_count: Input should be"),
        (rewrite(RECORD, "keypoints", "names", value=["a"]), r"record.json: keypoints: .*has bone"),
        (rewrite(RECIPE, "model", "input_size", value=33), r"input_size is 33; expected a mult"),
        # parts that do not fit each other
        (rewrite(RECIPE, "model", "net", "channels", value=8), r"size mismatch for [a-z]+"),
        (rewrite(RECIPE, "model", "net", "stacks", value=2), r"Missing key\(s\) in state_dict"),
        # another kind of net: of its hundreds of tensors only the first few are named
        (
            rewrite(RECIPE, "model", "net", value={"kind": "edge"}),
            r"Missing key\(s\) .{,300} …; tr",
        ),
        (rewrite(RECIPE, "model", "net", value={"kind": "vit"}), r"net: Input tag 'vit' found"),
        (rewrite(RECIPE, "model", "net", value={"width": 8}), r"net: Unable to extract tag"),
        (rename_a_tensor, r'Missing key\(s\) in state_dict: "pose.answers.0.bias"'),
    ],
)
def test_what_is_no_checkpoint(
    damage: Callable[[Path], None], message: str, checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "c"
    shutil.copytree(checkpoint, folder)
    damage(folder)
    with pytest.raises(DataError, match=message) as error:
        load_checkpoint(folder)
    assert str(error.value).startswith(str(folder))
    assert "\n" not in str(error.value)


def test_the_commit_is_one_or_nothing() -> None:
    commit = code_commit().removesuffix("-dirty")
    assert commit == "" or (len(commit) == 40 and set(commit) <= set("0123456789abcdef"))


@pytest.mark.parametrize("packed", [False, True])
def test_a_bundle_is_named_as_one(packed: bool, tmp_path: Path) -> None:
    """With what it was exported from: that is what can be trained on."""
    folder = tiny.BUNDLE
    if packed:
        pack_bundle(tiny.BUNDLE, tmp_path / "tiny.zip")
        folder = tmp_path / "tiny.zip"
    message = (
        r"is no checkpoint but a bundle: .* neither weights .*exported from \(recipe .*trained"
    )
    with pytest.raises(DataError, match=message) as error:
        load_checkpoint(folder)
    assert "\n" not in str(error.value)
