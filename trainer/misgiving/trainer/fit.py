"""One training: pose net and loss heads together, the heads on detached features."""

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from misgiving.runtime.errors import DataError, InvalidInput
from misgiving.trainer import heatmaps
from misgiving.trainer.config import FitConfig, Recipe
from misgiving.trainer.data.augmentation import batches
from misgiving.trainer.data.crops import Batch, Crops
from misgiving.trainer.heads.head_objectives import Truth, torso_lengths
from misgiving.trainer.models import Network, NetworkOutput
from misgiving.trainer.restart import Restart, State
from misgiving.trainer.team import Team

_APART = 1_000_003
"""Between the seeds of processes that train together, so that they do not drop out alike."""
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)


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
    team: Team = Team(),
) -> None:
    """Train a network in place on the device where the crops are.

    Args:
        network: new, or one to train on; a fresh optimiser either way, as in the paper.
        recipe: network, optimiser and augmentation.
        crops: the training set.
        epochs: how often each person is seen by pose net and heads together; the recipe's
            ``head_epochs`` of the heads alone follow.
        report: told of each epoch.
        log_folder: where TensorBoard events go, None for nowhere.
        restart: takes the state while the training runs, and gives back an earlier process's.
        team: the processes that train together, which have met; each calls this alike, and the
            first alone reports, logs and saves.

    Raises:
        DataError: there is nobody to train on.
        InvalidInput: a batch has no equal part for each process, or the training diverges.
    """
    team.check_batch(recipe.fit.batch_size)
    if len(crops) == 0:
        raise DataError("the training set is empty; expected at least one labelled person")
    network.to(crops.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = _start(network, recipe.fit, epochs, len(crops))
    done = restart.epochs if restart else 0
    if restart:
        restart.restore(state)
    whole = epochs + recipe.fit.head_epochs
    with _events(log_folder if team.first else None, done) as write:
        for log in _epochs(state, recipe, crops, team, range(done, whole), epochs):
            if not team.first:
                continue
            report(log)
            write(log)
            if restart:
                restart.save(state, log.epoch + 1, last=log.epoch + 1 == whole)
    team.even(network)
    network.pose.requires_grad_(True)
    network.eval()


def _start(network: Network, config: FitConfig, epochs: int, persons: int) -> State:
    """Before the first step."""
    steps = max(1, persons // config.batch_size)
    optimiser, schedule = _optimiser(network, config, epochs * steps, config.head_epochs * steps)
    return State(network, optimiser, schedule, torch.Generator().manual_seed(config.seed))


def _epochs(
    state: State, recipe: Recipe, crops: Crops, team: Team, numbers: range, together: int
) -> Iterator[EpochLog]:
    """Epoch by epoch; from number ``together`` on the heads alone learn."""
    network = state.network
    for epoch in numbers:
        alone = epoch >= together
        if epoch in (numbers.start, together):
            network.pose.requires_grad_(not alone)
            network.pose.first_blocks(recipe.fit.frozen_blocks).requires_grad_(False)
            shared = team.shared(network, crops.device)
        # For dropout, which draws from torch's own: a training that goes on draws the same.
        torch.manual_seed(recipe.fit.seed + epoch + _APART * team.rank)
        log = _epoch(shared, state, recipe, crops, team, alone).log(epoch, network, team)
        _check_finite(log, network)
        yield log


def _epoch(
    shared: nn.Module, state: State, recipe: Recipe, crops: Crops, team: Team, alone: bool
) -> "_Tally":
    network, config, generator = state.network, recipe.fit, state.generator
    _to_training_mode(network, config, alone)
    augment = recipe.augment if alone else replace(recipe.augment, astray=0.0)
    tally = _Tally()
    for batch in batches(crops, config.batch_size, augment, generator, team.part):
        tally.add(_step(network, shared, recipe, batch, state.optimiser), batch)
        state.schedule.step()
    return tally


def _check_finite(log: EpochLog, network: Network) -> None:
    """Raise InvalidInput where a loss or a weight is NaN or infinite: nothing is learned then."""
    losses = {"pose": log.pose_loss, **log.head_losses}
    wrong = [
        f"the {name} loss is {loss}" for name, loss in losses.items() if not math.isfinite(loss)
    ]
    if not all(bool(weight.isfinite().all()) for weight in network.parameters()):
        wrong.append("weights are not finite")
    if wrong:
        raise InvalidInput(
            f"the training diverged in epoch {log.epoch + 1}: {wrong[0]}; expected finite numbers. "
            "Lower learning_rate or head_learning_rate in the recipe"
        )


def _to_training_mode(network: Network, config: FitConfig, alone: bool) -> None:
    network.train()
    if alone:
        network.pose.eval()
    elif config.freeze_batch_norm:
        for module in network.pose.modules():
            if isinstance(module, _BATCH_NORMS):
                module.eval()
    network.pose.first_blocks(config.frozen_blocks).eval()


def _optimiser(
    network: Network, config: FitConfig, together: int, alone: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    groups = [
        {"params": network.pose.parameters(), "lr": config.learning_rate},
        {"params": network.heads.parameters(), "lr": config.head_learning_rate},
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=config.weight_decay)

    def rate(step: int) -> float:
        """The heads' rate rises again where they go on alone."""
        if step < together:
            return _one_cycle(step, together, config.warmup)
        return _one_cycle(step - together, alone, config.warmup)

    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, rate)


def _one_cycle(step: int, steps: int, warmup_share: float) -> float:
    """Share of the peak's learning rate: a straight rise, then half a cosine."""
    warmup = max(1, round(warmup_share * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


@dataclass(frozen=True, slots=True)
class _StepResult:
    observed: Tensor
    head_losses: dict[str, Tensor]
    cells: Tensor
    """(B, K, 2), predicted."""


def _step(
    network: Network,
    shared: nn.Module,
    recipe: Recipe,
    batch: Batch,
    optimiser: torch.optim.Optimizer,
) -> _StepResult:
    """Learn from a batch; ``shared`` is the network itself, or its team's wrapper around it."""
    cells = batch.points / recipe.model.stride
    targets = heatmaps.encode(cells, batch.labelled, recipe.model.heatmap_size, recipe.fit.sigma)
    images = batch.images.contiguous(memory_format=torch.channels_last)
    # bfloat16 keeps float32's range, so there is no loss to scale.
    with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda):
        output: NetworkOutput = shared(images)
    observed = heatmaps.observed_loss(output.pose.heatmaps, targets, batch.labelled)
    predicted, size = output.pose.decoded()[0], recipe.model.heatmap_size
    truth = Truth(observed.detach(), predicted, cells, batch.labelled, size)
    own = len(images) - batch.astray
    head_losses = {}
    for name, outputs in output.head_outputs.items():
        objective = network.objectives[name]
        seen = len(images) if objective.astray else own
        head_losses[name] = objective.loss(outputs[:seen].float(), truth.first(seen), recipe.fit)
    optimiser.zero_grad(set_to_none=True)
    pose_loss = network.pose.training_loss(output.pose, observed, cells, batch.labelled)
    total = pose_loss + torch.stack(list(head_losses.values())).sum()
    total.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return _StepResult(truth.loss[:own], head_losses, predicted[:own])


class _Tally:
    """Sums over an epoch, kept on the device so that no step waits for a copy."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._images = 0
        self._pose: list[Tensor] = []
        self._heads: dict[str, list[Tensor]] = {}
        self._answers: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, result: _StepResult, batch: Batch) -> None:
        own = len(result.observed)
        self._images += own
        self._pose.append(result.observed.mean())
        for name, loss in result.head_losses.items():
            self._heads.setdefault(name, []).append(loss.detach())
        self._answers.append((result.cells, batch.points[:own], batch.labelled[:own]))

    def log(self, epoch: int, network: Network, team: Team) -> EpochLog:
        """Of all processes' parts; here alone the epoch waits for the device."""
        means = [torch.stack(part).mean()[None] for part in (self._pose, *self._heads.values())]
        cells, points, labelled = (torch.cat(column) for column in zip(*self._answers, strict=True))
        found = _found(cells * network.config.stride, points, labelled, network)
        pose, *heads, hits, asked = team.mean(torch.cat([*means, found])).tolist()
        return EpochLog(
            epoch=epoch,
            pose_loss=pose,
            head_losses=dict(zip(self._heads, heads, strict=True)),
            pck=hits / asked if asked else math.nan,
            images_per_second=team.count * self._images / (time.perf_counter() - self._start),
        )


def _found(answers: Tensor, points: Tensor, labelled: Tensor, network: Network) -> Tensor:
    """(2,): joints found and joints asked for, among persons whose torso is labelled.

    From (N, K, 2) of answers and labels in input px, and (N, K) of what is labelled.
    """
    if not network.keypoints.torso:
        return torch.zeros(2, device=answers.device)
    torso, known = torso_lengths(points, labelled, network.keypoints)
    asked = labelled & known[:, None]
    near = (answers - points).norm(dim=-1) < 0.2 * torso[:, None]
    return torch.stack([(near & asked).sum(), asked.sum()]).float()


@contextmanager
def _events(folder: Path | None, done: int) -> Iterator[Reporter]:
    """Gives what writes an epoch for TensorBoard, or nothing where there is no folder."""
    if folder is None:
        yield lambda log: None
        return
    with ExitStack() as stack:
        writer = stack.enter_context(SummaryWriter(str(folder), purge_step=done or None))
        try:
            yield partial(_write, writer)
        except (KeyboardInterrupt, SystemExit):
            # The signal may have cut short a write to its queue; closing would wait for ever.
            stack.pop_all()
            raise


def _write(writer: SummaryWriter, log: EpochLog) -> None:
    values: Iterable[tuple[str, float]] = (
        ("loss/pose", log.pose_loss),
        *((f"loss/head/{name}", loss) for name, loss in log.head_losses.items()),
        ("pck/train", log.pck),
        ("images_per_second", log.images_per_second),
    )
    for name, value in values:
        writer.add_scalar(name, value, log.epoch)
    writer.flush()
