"""One training: pose net and loss heads together, the heads on detached features."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from misgiving.runtime.errors import DataError, InvalidInput
from misgiving.trainer import heatmaps
from misgiving.trainer.config import FitConfig, Recipe
from misgiving.trainer.data.crops import Batch, Crops, augment, shuffled
from misgiving.trainer.head_objectives import Truth
from misgiving.trainer.models import Network, NetworkOutput
from misgiving.trainer.restart import Restart, State


@dataclass(frozen=True, slots=True)
class EpochLog:
    """What one epoch did."""

    epoch: int
    pose_loss: float
    """Mean observed loss of the training images, in the paper's units."""
    head_losses: dict[str, float]
    pck: float
    """Of the augmented training images at 0.2 torso lengths, NaN where no torso is labelled."""
    images_per_second: float


class Reporter(Protocol):
    """Is told of each epoch as it ends."""

    def __call__(self, log: EpochLog, /) -> None: ...


def pick_device(name: str) -> torch.device:
    """``auto`` takes a GPU where there is one.

    Raises:
        InvalidInput: the device is unknown or not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise InvalidInput("device is cuda, but torch finds no GPU here; expected cpu or auto")
    if name not in ("cpu", "cuda"):
        raise InvalidInput(f"device is {name!r}; expected auto, cpu or cuda")
    return torch.device(name)


def fit(
    network: Network,
    recipe: Recipe,
    crops: Crops,
    epochs: int,
    report: Reporter,
    log_folder: Path | None = None,
    restart: Restart | None = None,
) -> None:
    """Train a network in place on the device where the crops are.

    Args:
        network: new, or one to train on; a fresh optimiser either way, as in the paper.
        recipe: network, optimiser and augmentation.
        crops: the training set.
        epochs: how often each person is seen.
        report: told of each epoch.
        log_folder: where TensorBoard events go, None for nowhere.
        restart: takes the state while the training runs, and gives back an earlier process's.

    Raises:
        DataError: there is nobody to train on.
    """
    if len(crops) == 0:
        raise DataError("the training set is empty; expected at least one labelled person")
    device = crops.device
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    config = recipe.fit
    generator = torch.Generator().manual_seed(config.seed)
    steps = epochs * max(1, len(crops) // config.batch_size)
    optimiser, schedule = _optimiser(network, config, steps)
    state = State(network, optimiser, schedule, generator)
    done = restart.epochs if restart else 0
    if restart:
        restart.restore(state)
    writer = SummaryWriter(str(log_folder), purge_step=done or None) if log_folder else None
    for epoch in range(done, epochs):
        network.train()
        # For dropout, which draws from torch's own: a training that goes on draws the same.
        torch.manual_seed(config.seed + epoch)
        tally = _Tally()
        for chosen in shuffled(len(crops), config.batch_size, generator):
            batch = augment(crops, chosen, recipe.augment, generator)
            tally.add(_step(network, recipe, batch, optimiser), batch, network)
            schedule.step()
        log = tally.log(epoch)
        report(log)
        _write(writer, log)
        if restart:
            restart.save(state, epoch + 1, last=epoch + 1 == epochs)
    network.eval()
    if writer:
        writer.close()


def _optimiser(
    network: Network, config: FitConfig, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    groups = [
        {"params": network.pose.parameters(), "lr": config.learning_rate},
        {"params": network.heads.parameters(), "lr": config.head_learning_rate},
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
    warmup = max(1, round(config.warmup * steps))

    def rate(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, rate)


@dataclass(frozen=True, slots=True)
class _StepResult:
    observed: Tensor
    head_losses: dict[str, Tensor]
    last_heatmaps: Tensor


def _step(
    network: Network, recipe: Recipe, batch: Batch, optimiser: torch.optim.Optimizer
) -> _StepResult:
    cells = batch.points / recipe.model.stride
    targets = heatmaps.encode(cells, batch.labelled, recipe.model.heatmap_size, recipe.fit.sigma)
    images = batch.images.contiguous(memory_format=torch.channels_last)
    # bfloat16 keeps float32's range, so there is no loss to scale.
    with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda):
        output: NetworkOutput = network(images)
    observed = heatmaps.observed_loss(output.pose.heatmaps, targets, batch.labelled)
    truth = Truth(observed.detach(), output.pose.heatmaps[:, -1].detach(), cells, batch.labelled)
    head_losses = {
        name: network.objectives[name].loss(outputs.float(), truth, recipe.fit)
        for name, outputs in output.head_outputs.items()
    }
    optimiser.zero_grad(set_to_none=True)
    pose_loss = network.pose.training_loss(output.pose, observed, cells, batch.labelled)
    total = pose_loss + torch.stack(list(head_losses.values())).sum()
    total.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return _StepResult(truth.loss, head_losses, truth.heatmaps)


class _Tally:
    """Sums over an epoch, kept on the device so that no step waits for a copy."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._images = 0
        self._pose: list[Tensor] = []
        self._heads: dict[str, list[Tensor]] = {}
        self._found: list[Tensor] = []

    def add(self, result: _StepResult, batch: Batch, network: Network) -> None:
        self._images += len(batch.images)
        self._pose.append(result.observed.mean())
        for name, loss in result.head_losses.items():
            self._heads.setdefault(name, []).append(loss.detach())
        self._found.append(_found(result.last_heatmaps.float(), batch, network))

    def log(self, epoch: int) -> EpochLog:
        found = torch.stack(self._found).sum(0)
        heads = {name: float(torch.stack(part).mean()) for name, part in self._heads.items()}
        return EpochLog(
            epoch=epoch,
            pose_loss=float(torch.stack(self._pose).mean()),
            head_losses=heads,
            pck=float(found[0] / found[1]),
            images_per_second=self._images / (time.perf_counter() - self._start),
        )


@torch.no_grad()
def _found(maps: Tensor, batch: Batch, network: Network) -> Tensor:
    """(2,): joints found and joints asked for, among persons whose torso is labelled."""
    if not network.keypoints.torso:
        return torch.zeros(2, device=maps.device)
    points = heatmaps.decode(maps)[0] * network.config.stride
    torso = torch.stack(
        [(batch.points[:, a] - batch.points[:, b]).norm(dim=-1) for a, b in network.keypoints.torso]
    ).amax(0)
    joints = sorted({index for pair in network.keypoints.torso for index in pair})
    asked = batch.labelled & batch.labelled[:, joints].all(1, keepdim=True)
    near = (points - batch.points).norm(dim=-1) < 0.2 * torso[:, None]
    return torch.stack([(near & asked).sum(), asked.sum()]).float()


def _write(writer: SummaryWriter | None, log: EpochLog) -> None:
    if writer is None:
        return
    values: Iterable[tuple[str, float]] = (
        ("loss/pose", log.pose_loss),
        *((f"loss/head/{name}", loss) for name, loss in log.head_losses.items()),
        ("pck/train", log.pck),
        ("images_per_second", log.images_per_second),
    )
    for name, value in values:
        writer.add_scalar(name, value, log.epoch)
