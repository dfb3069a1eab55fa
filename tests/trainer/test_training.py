"""From data to a checkpoint, and on from there."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from misgiving.runtime.errors import DataError, InvalidInput
from misgiving.runtime.keypoints import LSP, KeypointSet
from misgiving.trainer import training
from misgiving.trainer.answers.scoring import summarise
from misgiving.trainer.checkpoint import load_checkpoint
from misgiving.trainer.config import AugmentConfig, HeadConfig
from misgiving.trainer.data import PoseSet, join, open_data, subset
from misgiving.trainer.fit import fit
from misgiving.trainer.training import Compute, Trained, train
from shared.training import CONV_KL, CPU, GAP_MARGIN, TINY, TRAINING_SPEC, people
from trainer.annotating import write_images

NEW = HeadConfig(kind="levels", objective="kl")


def once(out: Path, init: Path | None = None, recipe: object = None) -> Trained:
    chosen = recipe or replace(TINY, fit=replace(TINY.fit, epochs=1))
    return train(chosen, people(3, 12), people(2, 8), out, CPU, init)


def test_what_a_training_leaves(tmp_path: Path) -> None:
    trained = once(tmp_path / "run")
    network, recipe, record = load_checkpoint(tmp_path / "run")
    assert (recipe, record) == (trained.recipe, trained.record)
    assert recipe.fit.epochs == 1
    assert record.training_data == (people(3, 12).spec,)
    assert record.label_count == 12
    assert record.validation_data == people(2, 8).spec
    assert record.metrics == summarise(trained.validation)
    assert trained.validation.ids == people(2, 8).ids
    state = trained.network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run", "run-logs"]
    assert len(list((tmp_path / "run-logs").glob("events.*"))) == 1


def test_the_same_again_is_the_same_bit_by_bit(tmp_path: Path) -> None:
    torch.manual_seed(99)  # whatever was drawn before
    first = once(tmp_path / "a").network.state_dict()
    second = once(tmp_path / "b").network.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_training_on(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are the checkpoint's; epochs, rates and augmentation are the recipe's."""
    epochs: list[int] = []

    def recorded(network: object, recipe: object, crops: object, count: int, *rest: object) -> None:
        epochs.append(count)
        fit(network, recipe, crops, count, *rest)

    monkeypatch.setattr(training, "fit", recorded)
    other = replace(
        TINY,
        name="other",
        fit=replace(TINY.fit, continued_epochs=3, learning_rate=1e-9, head_learning_rate=1e-9),
        augment=AugmentConfig(flip=0.0),
    )
    trained = once(tmp_path / "on", checkpoint, other)
    assert epochs == [3]  # continued_epochs
    assert trained.recipe == other
    assert trained.record.training_data == (TRAINING_SPEC, people(3, 12).spec)
    assert trained.record.label_count == 12
    before, after = (n.state_dict() for n in (load_checkpoint(checkpoint)[0], trained.network))
    name = "pose.reads.0.1.weight"
    assert torch.allclose(before[name], after[name], atol=1e-6)  # it started from there


@pytest.mark.parametrize(
    ("heads", "kept"),
    [
        ((GAP_MARGIN,), {"gap-margin"}),  # one is dropped
        ((NEW, CONV_KL), {"conv-kl"}),  # one is dropped, another is new and comes first
        ((NEW,), set()),
    ],
)
def test_heads_of_a_training_that_goes_on(
    checkpoint: Path, tmp_path: Path, heads: tuple[HeadConfig, ...], kept: set[str]
) -> None:
    still = replace(TINY.fit, continued_epochs=1, learning_rate=1e-9, head_learning_rate=1e-9)
    recipe = replace(TINY, model=replace(TINY.model, heads=heads), fit=still)
    trained = once(tmp_path / "on", checkpoint, recipe)
    assert list(trained.network.heads) == [head.name for head in heads]
    old = load_checkpoint(checkpoint)[0]
    for name, head in trained.network.heads.items():
        earlier = old.heads[name].state_dict() if name in old.heads else {}
        weights = head.state_dict()
        same = [torch.allclose(weights[n], value, atol=1e-6) for n, value in earlier.items()]
        assert bool(same and all(same)) == (name in kept)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"input_size": 64},
            r"recipe tiny has another input_size \(32, now 64\) than .*; expected",
        ),
        ({"padding": 1.5}, r"another padding \(1.25, now 1.5\)"),
        ({"net": replace(TINY.model.net, channels=8)}, r"another net.channels \(16, now 8\) than"),
    ],
)
def test_another_network_cannot_go_on(
    checkpoint: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    recipe = replace(TINY, model=replace(TINY.model, **change))
    with pytest.raises(InvalidInput, match=message) as error:
        once(tmp_path / "on", checkpoint, recipe)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_training_on_does_not_touch_where_it_started(checkpoint: Path, tmp_path: Path) -> None:
    def content() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in checkpoint.iterdir()}

    before = content()
    once(tmp_path / "on", checkpoint)
    assert content() == before


TOES = KeypointSet(name="toes", names=("left_toe", "right_toe"), skeleton=(), torso=())


def test_other_keypoints_cannot_go_on(checkpoint: Path, tmp_path: Path) -> None:
    toes = PoseSet("toes:here", TOES, ("a",), people(3, 12).read)
    message = r"toes:here has the keypoints of toes, the checkpoint those of lsp14; expected"
    with pytest.raises(DataError, match=message):
        train(TINY, toes, people(2, 8), tmp_path / "on", CPU, checkpoint)
    assert list(tmp_path.iterdir()) == []


def test_no_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere is no checkpoint"):
        once(tmp_path / "on", tmp_path / "nowhere")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """Found out before anything is trained; an empty folder is as good as none."""
    precious = tmp_path / "thesis.txt"
    precious.write_text("years")
    for out in (tmp_path, precious):
        with pytest.raises(DataError, match=r"is there already; nothing is overwritten"):
            once(out)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    (tmp_path / "empty").mkdir()
    once(tmp_path / "empty")
    with pytest.raises(DataError, match=r"empty is there already"):
        once(tmp_path / "empty")


def test_several_sets_are_one_training_set(tmp_path: Path) -> None:
    recipe = replace(TINY, fit=replace(TINY.fit, epochs=1))
    both = join([people(3, 12), people(4, 3)])
    record = train(recipe, both, people(2, 8), tmp_path / "run", CPU).record
    assert record.label_count == 15
    assert record.training_data == (f"{people(3, 12).spec} + {people(4, 3).spec}",)
    assert record.keypoints == LSP


def test_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    for cores, threads, expected in [
        (4, None, 4),  # what this process may use
        (64, None, 8),  # at most eight
        (64, 16, 16),  # unless more are asked for
        (4, 1, 1),
    ]:
        monkeypatch.setattr(training, "usable_cores", lambda n=cores: n)
        assert Compute(device="cpu", threads=threads).prepare() == torch.device("cpu")
        assert asked.pop() == expected
    with pytest.raises(InvalidInput, match=r"device is 'tpu'"):
        Compute(device="tpu").prepare()


def test_what_is_measured_must_be_unseen(tmp_path: Path) -> None:
    seen = people(3, 12)
    with pytest.raises(
        DataError, match=r"share 1 person\(s\), synthetic/3/00011 for one; expected"
    ):
        train(TINY, seen, subset(seen, [11]), tmp_path / "run", CPU)
    assert not list(tmp_path.iterdir())


def test_a_set_without_a_torso_trains(tmp_path: Path) -> None:
    """PCK is then undefined, everything else is not."""
    names = ("left_wrist", "right_wrist", "head_top")
    hands = KeypointSet(name="hands", names=names, skeleton=(), torso=())
    sets = (open_data("synthetic:3,12", hands), open_data("synthetic:2,8", hands))
    trained = train(TINY, *sets, tmp_path / "run", CPU)
    assert trained.record.keypoints == hands
    assert trained.validation.points.shape == (8, 3, 2)
    assert trained.record.metrics == {"persons": 8, "persons_with_torso": 0, "failures": 0}


def test_what_cannot_be_measured_on(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 2)
    bare = open_data(f"images:{tmp_path / 'images'}")
    toes = PoseSet("toes:here", TOES, ("a",), people(3, 12).read)
    for data, validation, message in [
        (people(3, 12), bare, r"images has 2 person\(s\) without a label"),
        (bare, people(2, 8), r"images has 2 person\(s\) without a label"),
        (people(3, 12), toes, r"and toes:here have different keypoints .* with --keypoints"),
    ]:
        with pytest.raises(DataError, match=message):
            train(TINY, data, validation, tmp_path / "run", CPU)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_heads_alone(checkpoint: Path, tmp_path: Path) -> None:
    """Another head on a trained pose net, which stays as it is."""
    fit = replace(TINY.fit, epochs=0, continued_epochs=0, head_epochs=1)
    recipe = replace(TINY, model=replace(TINY.model, heads=(NEW,)), fit=fit)
    with pytest.raises(
        InvalidInput, match=r"no epochs but the heads', .*; expected a trained one. Give --init"
    ):
        once(tmp_path / "alone", None, recipe)
    assert list(tmp_path.iterdir()) == []
    first = once(tmp_path / "first", checkpoint, recipe)
    second = once(tmp_path / "second", tmp_path / "first", recipe)
    pose, *later = (
        network.pose.state_dict()
        for network in (load_checkpoint(checkpoint)[0], first.network, second.network)
    )
    for weights in later:
        assert all(torch.equal(value, weights[name]) for name, value in pose.items())
