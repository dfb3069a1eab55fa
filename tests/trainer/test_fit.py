"""One training: it learns, it repeats bit by bit, and the heads leave the pose net alone."""

import math
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from misgiving.runtime.errors import DataError, InvalidInput
from misgiving.runtime.keypoints import LSP
from misgiving.trainer import heatmaps
from misgiving.trainer.config import HeadConfig, Recipe
from misgiving.trainer.data.augmentation import batches
from misgiving.trainer.data.crops import Crops, load_crops
from misgiving.trainer.fit import EpochLog, fit, pick_device
from misgiving.trainer.models import Network
from shared.training import CONV_KL, GAP_MARGIN, JOINTS, STILL, TINY, people

CPU = torch.device("cpu")


def crops(count: int = 16) -> Crops:
    return load_crops(people(1, 48), TINY.model.crop, CPU, range(count))


def run(
    recipe: Recipe = TINY, epochs: int = 1, count: int = 16, logs: Path | None = None
) -> tuple[Network, list[EpochLog]]:
    """A new network after so many epochs, and what was reported."""
    torch.manual_seed(recipe.fit.seed)
    network = Network(recipe.model, LSP)
    reported: list[EpochLog] = []
    fit(network, recipe, crops(count), epochs, reported.append, logs)
    return network, reported


def changed_fit(**changes: object) -> Recipe:
    return replace(TINY, fit=replace(TINY.fit, **changes))


def test_the_loss_falls() -> None:
    recipe = replace(changed_fit(learning_rate=1e-2), augment=STILL)
    network, logs = run(recipe, epochs=12)
    assert logs[-1].pose_loss < 0.85 * logs[0].pose_loss
    assert logs[-1].pck > logs[0].pck + 0.1
    assert not network.training


def test_the_heads_learn() -> None:
    """With a still pose net and the same pairs, both objectives fall."""
    recipe = changed_fit(learning_rate=1e-12, head_learning_rate=1e-2, weight_decay=0.0)
    _, logs = run(replace(recipe, augment=STILL), epochs=60, count=8)
    for name in ("conv-kl", "gap-margin"):
        early, late = (
            sum(log.head_losses[name] for log in part) for part in (logs[:10], logs[-10:])
        )
        assert late < 0.9 * early, name


def test_what_is_reported() -> None:
    _, logs = run(epochs=3)
    assert [log.epoch for log in logs] == [0, 1, 2]
    assert all(list(log.head_losses) == ["conv-kl", "gap-margin"] for log in logs)
    numbers = [n for log in logs for n in (log.pose_loss, log.pck, *log.head_losses.values())]
    assert all(math.isfinite(number) for number in numbers)
    assert all(0 <= log.pck <= 1 and log.images_per_second > 0 for log in logs)
    # A net that answers nothing yet: METHOD's unit at sigma 1 and 16 cells.
    silent = 900 * math.pi / 16**2
    assert logs[0].pose_loss == pytest.approx(silent, rel=0.15)


def weights(network: Network, part: str = "") -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in network.state_dict().items() if k.startswith(part)}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_a_seed_gives_the_same_weights_bit_by_bit() -> None:
    first, second, other = run(epochs=2), run(epochs=2), run(changed_fit(seed=6), epochs=2)
    assert equal(weights(first[0]), weights(second[0]))
    assert not equal(weights(first[0]), weights(other[0]))
    assert [log.pose_loss for log in first[1]] == [log.pose_loss for log in second[1]]


def test_the_seed_also_draws_batches_and_augmentation() -> None:
    """Two trainings from the same weights, whose seeds differ, see other images."""
    start = Network(TINY.model, LSP)
    results = []
    for seed in (1, 2):
        network = Network(TINY.model, LSP)
        network.load_state_dict(start.state_dict())
        fit(network, changed_fit(seed=seed), crops(), 1, lambda log: None)
        results.append(weights(network))
    assert not equal(*results)


@pytest.mark.parametrize(
    "heads",
    [
        (GAP_MARGIN,),  # another head
        (CONV_KL, GAP_MARGIN),  # both: they share the backbone of one run
    ],
)
def test_heads_do_not_change_the_pose_net(heads: tuple[object, ...]) -> None:
    """Bit by bit: a backbone trained once serves any number of heads."""
    alone, _ = run(replace(TINY, model=replace(TINY.model, heads=(CONV_KL,))), epochs=2)
    recipe = replace(TINY, model=replace(TINY.model, heads=heads))
    together, _ = run(recipe, epochs=2)
    assert equal(weights(alone, "pose"), weights(together, "pose"))


def test_every_part_is_trained() -> None:
    torch.manual_seed(TINY.fit.seed)
    before = weights(Network(TINY.model, LSP))
    after = weights(run(changed_fit(head_learning_rate=1e-2))[0])
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert still == {"mean", "std", "projection"}


@pytest.mark.parametrize("kind", ["gap", "conv", "levels", "evidence"])
def test_every_step_reaches_every_parameter(kind: Any) -> None:
    """What many processes need, which average each gradient of each step."""
    head = HeadConfig(kind=kind, objective="margin")
    net = replace(TINY.model.net, stacks=2)
    recipe = replace(TINY, model=replace(TINY.model, net=net, heads=(head,)))
    network, _ = run(recipe)
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


def test_frozen_batch_norm() -> None:
    """Its statistics stay, whatever they are, and a step normalises by them; the rest learns."""
    recipe, results = changed_fit(freeze_batch_norm=True), []
    for mean in (0.0, 0.5):
        torch.manual_seed(0)
        network = Network(TINY.model, LSP)
        before = weights(network)
        network.pose.stem[1].running_mean.fill_(mean)
        fit(network, recipe, crops(), 1, lambda log: None)
        after = weights(network)
        same = {name for name in before if torch.equal(before[name], after[name])}
        statistics = {name for name in before if "running_" in name or "num_batches" in name}
        moved = {"pose.stem.1.running_mean"} if mean else set()
        assert same == (statistics - moved) | {"mean", "std", "projection"}
        results.append(after)
    assert not torch.equal(results[0]["pose.stem.0.weight"], results[1]["pose.stem.0.weight"])


def test_heads_alone() -> None:
    """The pose net stays as it is, its statistics too, and the heads learn."""
    heads = (HeadConfig(kind="conv", objective="kl"), HeadConfig(kind="evidence", objective="miss"))
    recipe = replace(TINY, model=replace(TINY.model, heads=heads, dropout=0.2))
    recipe = replace(recipe, fit=replace(recipe.fit, head_epochs=2))
    torch.manual_seed(0)
    network = Network(recipe.model, LSP)
    before, logs = weights(network), []
    fit(network, recipe, crops(), 0, logs.append)
    after = weights(network)
    kept = {name for name in before if torch.equal(before[name], after[name])}
    assert kept == {name for name in before if not name.startswith("heads.")}
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert logs[0].pose_loss == pytest.approx(logs[1].pose_loss, rel=0.2)


def test_the_heads_go_on_alone() -> None:
    """After the epochs of all, the pose net is what it was, and crops that go astray change what
    the head learns that may see them, and nothing else."""
    heads = (HeadConfig(kind="gap", objective="kl"), HeadConfig(kind="gap", objective="miss"))
    after = []
    for head_epochs, astray in ((0, 0.0), (1, 0.0), (1, 0.25)):
        recipe = replace(
            TINY,
            model=replace(TINY.model, heads=heads),
            fit=replace(TINY.fit, head_epochs=head_epochs),
            augment=replace(TINY.augment, astray=astray),
        )
        after.append(weights(run(recipe)[0]))
    alone, changed = (
        {name for name in after[1] if not torch.equal(after[1][name], other[name])}
        for other in (after[0], after[2])
    )
    learnt = {name for name in after[0] if name.startswith("heads.")}
    assert alone == learnt
    assert changed == {name for name in learnt if name.startswith("heads.gap-miss.")}


def test_a_step_decodes_its_heatmaps_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the head that reads them, three objectives, a risk, and the PCK of the epoch."""
    decode, seen = heatmaps.decode, []

    def counted(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(len(maps))
        return decode(maps)

    monkeypatch.setattr(heatmaps, "decode", counted)
    kinds: tuple[Any, ...] = ("miss", "aleatoric", "links")
    heads = tuple(HeadConfig(kind="evidence", objective=kind) for kind in kinds)
    run(replace(TINY, model=replace(TINY.model, heads=heads)))
    assert seen == [8, 8]  # two batches of 16 persons


class _Moves(TorchDispatchMode):
    """Counts what goes from one device to another; numbers without axes, as Adam's step, aside."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
        self.count += len({t.device.type for t in tensors if t.ndim}) > 1
        return out


@pytest.mark.parametrize("count", [8, 32])
def test_no_step_moves_anything_between_devices(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would wait for the GPU. The device here has no numbers: to ask for one is an error,
    which ends the training where its first epoch is told."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # knows it not
    meta, cpu = torch.device("meta"), crops(count)
    there = Crops(
        cpu.images.to(meta),
        cpu.points.to(meta),
        cpu.labelled.to(meta),
        cpu.rule,
        cpu.mirror.to(meta),
    )
    network = Network(TINY.model, LSP).to(meta)
    with _Moves() as moves, pytest.raises(NotImplementedError, match="out of meta tensor"):
        fit(network, TINY, there, 1, lambda log: None)
    assert moves.count == 5  # before the first step: the order, and the four parts of the changes


def test_tensorboard_events(tmp_path: Path) -> None:
    _, logs = run(epochs=2, logs=tmp_path / "logs")
    events = EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    expected = {
        "loss/pose": [log.pose_loss for log in logs],
        "loss/head/conv-kl": [log.head_losses["conv-kl"] for log in logs],
        "loss/head/gap-margin": [log.head_losses["gap-margin"] for log in logs],
        "pck/train": [log.pck for log in logs],
        "images_per_second": [log.images_per_second for log in logs],
    }
    assert set(events.Tags()["scalars"]) == set(expected)
    for name, values in expected.items():
        scalars = events.Scalars(name)
        assert [s.step for s in scalars] == [0, 1], name
        assert [s.value for s in scalars] == pytest.approx(values, rel=1e-6), name


@pytest.mark.parametrize("count", [1, 3, 8, 11])  # alone, below a batch, one batch, a remainder
def test_small_sets_train(count: int) -> None:
    before = weights(Network(TINY.model, LSP), "pose.answers")
    network, logs = run(count=count)
    assert not equal(before, weights(network, "pose.answers"))
    assert math.isfinite(logs[0].pose_loss)


def test_nobody_to_train_on() -> None:
    none = crops(1)
    empty = Crops(none.images[:0], none.points[:0], none.labelled[:0], none.rule, none.mirror)
    with pytest.raises(DataError, match=r"training set is empty; expected at least one"):
        fit(Network(TINY.model, LSP), TINY, empty, 1, lambda log: None)


@pytest.mark.parametrize(
    ("rate", "what"),
    [
        ("learning_rate", "the pose loss is (nan|inf)"),
        ("head_learning_rate", "the conv-kl loss is (nan|inf)"),
    ],
)
def test_a_training_that_diverges(rate: str, what: str) -> None:
    reported: list[EpochLog] = []
    wild = changed_fit(**{rate: 1e30})
    with pytest.raises(InvalidInput, match=rf"diverged in epoch 1: {what}.* Lower .*recipe$"):
        fit(Network(wild.model, LSP), wild, crops(), 3, reported.append)
    assert not reported


def test_weights_that_the_last_step_breaks() -> None:
    """The epoch's loss is that of before the step."""
    wild = changed_fit(learning_rate=math.inf)
    with pytest.raises(InvalidInput, match="diverged in epoch 1: weights are not finite"):
        fit(Network(wild.model, LSP), wild, crops(wild.fit.batch_size), 1, lambda log: None)


def test_unlabelled_joints_teach_nothing() -> None:
    """Whatever stands in their place."""
    results = []
    for place in (3.0, 1e4):
        part = crops()
        part.labelled[:, :5] = False
        part.points[:, :5] = place
        torch.manual_seed(0)
        network = Network(TINY.model, LSP)
        fit(network, TINY, part, 1, lambda log: None)
        results.append(weights(network))
    assert equal(*results)


@pytest.mark.parametrize(
    ("warmup", "steps", "shares"),
    [
        # rises in four steps, then a half cosine
        (0.5, 8, [0.25, 0.5, 0.75, 1.0, 1.0, 0.8536, 0.5, 0.1464]),
        # at least one step of warm-up, which is the peak itself
        (0.0, 4, [1.0, 1.0, 0.75, 0.25]),
        (0.5, 1, [1.0]),
    ],
)
def test_learning_rates(warmup: float, steps: int, shares: list[float]) -> None:
    recipe = changed_fit(
        head_epochs=steps, learning_rate=1e-2, head_learning_rate=1e-4, warmup=warmup
    )
    rates: list[tuple[float, ...]] = []

    def note(optimiser: torch.optim.Optimizer, *_: object) -> None:
        rates.append(tuple(group["lr"] for group in optimiser.param_groups))

    hook = register_optimizer_step_pre_hook(note)
    try:
        run(recipe, epochs=steps, count=8)  # a step an epoch
    finally:
        hook.remove()
    pose, heads = zip(*rates, strict=True)
    assert pose == pytest.approx([1e-2 * share for share in 2 * shares], rel=1e-3)
    assert heads == pytest.approx([1e-4 * share for share in 2 * shares], rel=1e-3)  # alone, again


def test_found_counts_persons_with_a_torso() -> None:
    """Joint by joint; person 1 lacks a hip, so that nobody asks about them."""
    recipe = replace(changed_fit(learning_rate=1e-2), augment=STILL)
    network, _ = run(recipe, epochs=20, count=8)
    part = crops(8)
    part.labelled[1, 2] = part.labelled[0, 13] = False
    (batch,) = batches(part, 8, STILL, torch.Generator().manual_seed(recipe.fit.seed))
    with torch.no_grad():
        output = deepcopy(network).train()(batch.images)
    answers = heatmaps.decode(output.pose.heatmaps[:, -1])[0] * recipe.model.stride
    found: list[bool] = []
    for person, answer, labelled in zip(batch.points, answers, batch.labelled, strict=True):
        near = 0.2 * LSP.torso_size(person.numpy(), labelled.numpy())
        if not math.isnan(near):
            found += [math.dist(answer[k], person[k]) < near for k in range(JOINTS) if labelled[k]]
    logs: list[EpochLog] = []
    fit(network, recipe, part, 1, logs.append)
    assert 0 < sum(found) < len(found) == 7 * JOINTS - 1
    assert logs[0].pck == pytest.approx(sum(found) / len(found))


@pytest.mark.parametrize(
    ("name", "message"),
    [("gpu", r"device is 'gpu'; expected auto, cpu or cuda"), ("", r"device is ''")],
)
def test_unknown_devices(name: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        pick_device(name)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("cpu") == pick_device("auto") == CPU
    with pytest.raises(InvalidInput, match=r"torch finds no GPU here; expected cpu or auto"):
        pick_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda")
