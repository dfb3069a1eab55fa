"""Real processes, started by torchrun on the CPU, train what one process that does all would."""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.keypoints import LSP
from misgiving.trainer import heatmaps
from misgiving.trainer.checkpoint import load_checkpoint
from misgiving.trainer.config import HeadConfig
from misgiving.trainer.data.augmentation import batches
from misgiving.trainer.data.crops import Batch, Crops, load_crops
from misgiving.trainer.fit import EpochLog, fit
from misgiving.trainer.heads import objectives
from misgiving.trainer.models import Network
from misgiving.trainer.team import Team
from misgiving.trainer.training import Compute
from shared.training import CONV_KL, CPU, TINY, people

EPOCHS, HEAD_EPOCHS = 3, 2
GAP_ALL = HeadConfig(kind="gap", objective="margin", pairs="all")
RECIPE = replace(
    TINY,
    model=replace(TINY.model, heads=(CONV_KL, GAP_ALL)),
    fit=replace(TINY.fit, epochs=EPOCHS, head_epochs=HEAD_EPOCHS, freeze_batch_norm=True),
)
DATA, VALIDATION = "synthetic:1,24,0-0.5", "synthetic:2,9,0-0.5"
KILLED = """
import os, signal
from misgiving.runtime.verbs import command
from misgiving.trainer import restart
restart.EVERY_S = 0.0
save = restart.Restart.save
def kill(self, state, epochs, last):
    save(self, state, epochs, last)
    if epochs == 2:
        os.kill(os.getpid(), signal.SIGKILL)
restart.Restart.save = kill
command.main()
"""
"""The process that writes dies, as if the machine's memory had run out."""

UNREADABLE = """
import os
from misgiving.runtime.verbs import command
from misgiving.runtime.errors import DataError
from misgiving.trainer import training
def broken(*_):
    raise DataError("the disk of process 1 is gone")
command.PATIENCE_S = 0.5
if os.environ["RANK"] == "1":
    training.load_crops = broken
command.main()
"""
"""Of two processes the second one's data cannot be read, while the first waits for it."""


def torchrun(folder: Path, script: str, out: str) -> subprocess.CompletedProcess[str]:
    """``train`` by two processes; the script is what each runs."""
    (folder / "recipe.json").write_text(json.dumps(asdict(RECIPE)))
    (folder / "script.py").write_text(script)
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--local-addr", "127.0.0.1"]
    launch += [
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        "127.0.0.1:0",
        str(folder / "script.py"),
    ]
    options = f"train --data {DATA} --val {VALIDATION} --recipe recipe.json --threads 1 --out {out}"
    return subprocess.run(
        [sys.executable, *launch, *options.split(), "--device", "cpu"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes trained that were killed after half of the epochs, and started again."""
    folder = tmp_path_factory.mktemp("team")
    killed = torchrun(folder, KILLED, "run")
    assert killed.returncode != 0
    assert (folder / "run.restart").exists(), killed.stderr
    assert not (folder / "run").exists()
    done = torchrun(folder, "from misgiving.runtime.verbs.command import main; main()", "run")
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    (folder / "stderr").write_text(done.stderr)
    return folder


@cache
def crops() -> Crops:
    CPU.prepare()
    return load_crops(people(1, 24), TINY.model.crop, torch.device("cpu"), range(24))


def start() -> Network:
    torch.manual_seed(RECIPE.fit.seed)
    return Network(RECIPE.model, LSP)


def loss_of(network: Network, batch: Batch) -> Tensor:
    """What a step makes small, written out."""
    output = network(batch.images)
    targets = heatmaps.encode(batch.points / 2, batch.labelled, 16, RECIPE.fit.sigma)
    observed = heatmaps.observed_loss(output.pose.heatmaps, targets, batch.labelled)
    kl = objectives.pairwise_kl(output.predicted_losses["conv-kl"], observed)
    margin = objectives.margin_ranking(
        output.predicted_losses["gap-margin-all"], observed, RECIPE.fit.margin, "all"
    )
    return observed.mean() + kl + margin


def one_cycle(steps: int) -> list[float]:
    """Shares of the highest learning rate: a straight rise, then half a cosine."""
    rise = max(1, round(RECIPE.fit.warmup * steps))
    fall = [0.5 + 0.5 * math.cos(math.pi * i / (steps - rise)) for i in range(steps - rise)]
    return [*((i + 1) / rise for i in range(rise)), *fall]


def accumulated() -> dict[str, Tensor]:
    """The weights after one process went through both processes' parts of each batch."""
    network = start().eval()  # batch normalisation is frozen, and nothing else knows the mode
    # Else Adam makes other rounding into 1e-4.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    groups = [{"params": part.parameters()} for part in (network.pose, network.heads)]
    optimiser = torch.optim.AdamW(groups, weight_decay=RECIPE.fit.weight_decay)
    rates = [*one_cycle(EPOCHS * 3), *one_cycle(HEAD_EPOCHS * 3)]
    generators = [torch.Generator().manual_seed(RECIPE.fit.seed) for _ in range(2)]
    for epoch in range(EPOCHS + HEAD_EPOCHS):
        network.pose.requires_grad_(epoch < EPOCHS)
        parts: list[Iterator[Batch]] = [
            batches(crops(), 8, RECIPE.augment, generator, Team(rank, 2).part)
            for rank, generator in enumerate(generators)
        ]
        for both in zip(*parts, strict=True):
            optimiser.zero_grad()
            for batch in both:
                (loss_of(network, batch) / 2).backward()
            share = rates.pop(0)
            pose, heads = optimiser.param_groups
            pose["lr"] = share * RECIPE.fit.learning_rate
            heads["lr"] = share * RECIPE.fit.head_learning_rate
            optimiser.step()
    return network.state_dict()


def furthest(one: dict[str, Tensor], other: dict[str, Tensor], part: str = "") -> float:
    assert one.keys() == other.keys()
    return max(float((one[k] - other[k]).abs().max()) for k in one if k.startswith(part))


@pytest.mark.slow
def test_two_processes_are_one_that_accumulates_their_parts(run: Path) -> None:
    trained = load_checkpoint(run / "run")[0].state_dict()
    assert furthest(trained, accumulated()) < 1e-5
    assert furthest(trained, start().state_dict()) > 1e-2


@pytest.mark.slow
def test_a_usual_training_pairs_the_same_images(run: Path) -> None:
    """Pairs by halves do not depend on the number of processes. (The heads' own weights do: what
    a ranking leaves open, such as the last bias, Adam moves by its gradient's rounding.)"""
    network, told = start(), list[EpochLog]()
    fit(network, RECIPE, crops(), EPOCHS, told.append)
    trained = load_checkpoint(run / "run")[0].state_dict()
    assert furthest(trained, network.state_dict(), "pose") < 1e-5
    events = EventAccumulator(str(run / "run-logs"))
    events.Reload()
    for tag, expected in [
        ("loss/pose", [log.pose_loss for log in told]),
        ("loss/head/conv-kl", [log.head_losses["conv-kl"] for log in told]),
        ("pck/train", [log.pck for log in told]),
    ]:
        scalars = events.Scalars(tag)  # of both parts, though one process writes them
        assert [s.step for s in scalars] == list(range(EPOCHS + HEAD_EPOCHS)), tag
        assert [s.value for s in scalars] == pytest.approx(expected, rel=1e-3), tag


@pytest.mark.slow
def test_one_process_writes_and_speaks(run: Path) -> None:
    lines = (run / "stderr").read_text().splitlines()
    told = [re.sub(" +pose.*", "", line) for line in lines if re.match("run|training", line)]
    assert told == [
        "run.restart: going on after epoch 2 of 5",
        "training: epoch 3/5",
        "training: epoch 4/5",
        "training: epoch 5/5",
    ]
    assert (run / "stdout").read_text().count("checkpoint run ") == 1
    names = {path.name for path in run.iterdir()}
    assert names == {"recipe.json", "script.py", "stdout", "stderr", "run", "run-logs"}
    assert len(list((run / "run-logs").iterdir())) == 2  # the killed one's events, and these
    assert load_checkpoint(run / "run")[2].metrics["persons"] == 9


@pytest.mark.slow
def test_an_error_of_one_process_ends_all(tmp_path: Path) -> None:
    """The first one has nothing to say of its own. (It waits where Python hears no signal, so that
    torchrun kills it after its half minute.)"""
    failed = torchrun(tmp_path, UNREADABLE, "run")
    assert failed.returncode != 0
    said = [line for line in failed.stderr.splitlines() if line.startswith("misgiving: ")]
    assert said == ["misgiving: the disk of process 1 is gone"]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("size", "count", "parts"),
    [
        (4, 1, [[0, 1, 2, 3]]),  # alone: everything, in its order
        (4, 2, [[0, 2], [1, 3]]),  # one pair each: k and k + B/2
        (8, 2, [[0, 1, 4, 5], [2, 3, 6, 7]]),
        (12, 3, [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]),
    ],
)
def test_parts(size: int, count: int, parts: list[list[int]]) -> None:
    rows = torch.arange(2 * size).view(2, size)
    for rank, part in enumerate(parts):
        team = Team(rank, count)
        team.check_batch(size)
        assert team.part(rows)[0].tolist() == part
        assert team.part(rows)[1].tolist() == [size + place for place in part]
        assert torch.equal(team.part(rows[..., None].expand(2, size, 3))[..., 1], team.part(rows))


@pytest.mark.parametrize(("size", "count"), [(8, 3), (6, 2), (2, 2)])
def test_batches_without_equal_parts(size: int, count: int) -> None:
    message = rf"batch_size is {size}; expected a multiple of {2 * count}, one pair for each of "
    with pytest.raises(InvalidInput, match=message):
        Team(0, count).check_batch(size)
    recipe = replace(TINY, fit=replace(TINY.fit, batch_size=size))
    with pytest.raises(InvalidInput, match=message):
        fit(start(), recipe, crops(), 1, lambda log: None, team=Team(0, count))


STARTED = {"TORCHELASTIC_RUN_ID": "x", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}


def test_who_is_asked_to_train_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that torchrun started, if they are asked to: other verbs run each for itself."""
    assert Compute(together=True).team == Team()
    for name, value in (STARTED | {"LOCAL_WORLD_SIZE": "4"}).items():
        monkeypatch.setenv(name, value)
    assert Compute().team == Team()
    assert Compute(together=True).team == Team(rank=5, count=8, local_rank=1, local_count=4)
    assert not Compute(together=True).team.first


def test_each_process_has_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    Team(3, 4, local_rank=1, local_count=2).choose_gpu()
    assert chosen == [1]
    with pytest.raises(InvalidInput, match=r"started 3 processes on 2 GPU\(s\); expected at most"):
        Team(0, 3, local_rank=0, local_count=3).choose_gpu()
