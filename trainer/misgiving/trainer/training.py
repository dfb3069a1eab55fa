"""A training from data sets to a checkpoint: what ``misgiving train`` and each stage do."""

import ctypes
import hashlib
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from misgiving.runtime.bundles.bundle import sha256_file
from misgiving.runtime.cores import usable_cores
from misgiving.runtime.durable import check_new, locked_folder
from misgiving.runtime.errors import DataError, InvalidInput
from misgiving.trainer import progress
from misgiving.trainer.answers.scoring import Scores, score, summarise
from misgiving.trainer.checkpoint import (
    WEIGHTS,
    Record,
    code_commit,
    load_checkpoint,
    save_checkpoint,
)
from misgiving.trainer.config import Recipe, check_own, to_dict
from misgiving.trainer.data import PoseSet, check_alike, check_apart, check_labelled
from misgiving.trainer.data.crops import load_crops
from misgiving.trainer.fit import fit, pick_device
from misgiving.trainer.mirroring import mirroring
from misgiving.trainer.models import Network
from misgiving.trainer.models.pretrained import load_trunk, with_trunk
from misgiving.trainer.restart import Restart, difference
from misgiving.trainer.team import Team

_ALONE = "training"
"""Names the progress bar of one that is no part of a cycle."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Names of malloc.h."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Compute:
    """Where to compute.

    >>> Compute(device="cpu", threads=1).prepare()
    device(type='cpu')
    """

    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda``."""
    threads: int | None = None
    """CPU threads of torch; None takes this process's share of the cores, at most 8."""
    together: bool = False
    """Whether the processes that torchrun started train one network, or each its own."""

    @property
    def team(self) -> Team:
        """The processes that compute together."""
        return Team.of_torchrun() if self.together else Team()

    def prepare(self) -> torch.device:
        """Set torch's threads and give the device."""
        cores = usable_cores() // self.team.local_count
        torch.set_num_threads(self.threads or min(8, max(1, cores)))
        _keep_freed_memory()
        device = pick_device(self.device)
        if self.together and device.type == "cuda":
            self.team.choose_gpu()
        return device


def _keep_freed_memory() -> None:
    """Let malloc give nothing back to the system, where it is glibc's.

    A network on the CPU frees what it takes again a moment later; without this up to a quarter of
    the time goes into page faults.
    """
    with suppress(AttributeError):
        c_library = ctypes.CDLL(None)
        c_library.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        c_library.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


@dataclass(frozen=True)
class Trained:
    """A finished training, as :func:`train` gives it."""

    network: Network
    recipe: Recipe
    record: Record
    validation: Scores


def train(
    recipe: Recipe,
    data: PoseSet,
    validation: PoseSet,
    out: Path | str,
    compute: Compute,
    init: Path | str | None = None,
    what: str = _ALONE,
    foreign: bytes | None = None,
) -> Trained:
    """Train, measure on the validation data, write the checkpoint.

    A training that was killed goes on from ``<out>.restart``. It then expects the same options,
    and on the CPU its weights become the same bit by bit.

    >>> trained = train(
    ...     recipe_named("demo", epochs=1),
    ...     open_data("synthetic:1,32,0-0.4"),
    ...     open_data("synthetic:2,16"),
    ...     Path("runs/second"),
    ...     Compute(device="cpu", threads=1),
    ... )
    >>> trained.record.label_count, trained.record.metrics["persons"]
    (32, 16.0)

    With ``compute.together``, the processes that torchrun started train one network, each on its
    part of every batch. All return the same; the first alone writes and shows progress.

    Args:
        recipe: the run.
        data: labelled persons.
        validation: persons that are not in ``data``.
        out: the checkpoint's folder, which must be new; TensorBoard events go to ``<out>-logs``.
        compute: where.
        init: a checkpoint to train on from, with a fresh optimiser. Its heads that the recipe has
            too are kept; others of the recipe start new.
        what: names the progress bar.
        foreign: the ONNX file of the recipe's foreign net, None of ours; see ``attach``.

    Raises:
        DataError: ``out`` is not new or is being written; ``data`` and ``validation`` share a
            person or have different keypoints, or somebody in them is not labelled; too many cannot
            be read; ``<out>.restart`` is of another training.
        InvalidInput: ``init`` is of another network than the recipe's, or a batch has no equal part
            for each process.
    """
    out = Path(out)
    init = Path(init) if init else None
    if not compute.team.first:
        progress.be_silent()
    check_new(out)
    check_apart(data, validation)
    check_labelled(validation)
    recipe, flips = mirroring(recipe, data.keypoints)
    recipe, trunk = (recipe, "") if init else with_trunk(recipe)
    device, team = compute.prepare(), compute.team
    torch.manual_seed(recipe.fit.seed)
    network, earlier = _start(recipe, data, init, foreign)
    network.pose.first_blocks(recipe.fit.frozen_blocks)  # refused before anything is read
    check_alike([data, validation])
    count = recipe.fit.continued_epochs if init else recipe.fit.epochs
    team.check_batch(recipe.fit.batch_size)
    logs = out.with_name(out.name + "-logs")
    with locked_folder(logs) if team.first else nullcontext():
        whole = count + recipe.fit.head_epochs
        crops = load_crops(data, recipe.model.crop, device, progress.counted(len(data), "reading"))
        given, data = len(data), crops.data or data
        restart = _restart(recipe, data, out, whole, init)
        if what == _ALONE:  # a cycle has said it
            progress.print_lines(epochs_line(count, recipe.fit.head_epochs), flips, trunk)
        with team.meeting(device), progress.epochs(whole, what) as report:
            fit(network, recipe, crops, count, report, logs, restart, team)
        # By each process for itself: none waits for another, however long it takes.
        scores = score(network, recipe, validation, device, _counted(validation))
        record = _record(data, validation, earlier, scores, given - len(data))
        if team.first:
            save_checkpoint(out, network, recipe, record)
            restart.remove()
    return Trained(network, recipe, record, scores)


def epochs_line(together: int, alone: int) -> str:
    """How many epochs a training has, where the heads learn alone in some of them, else nothing."""
    if not alone:
        return ""
    if not together:
        return f"{alone} epochs of the heads, on a pose net that stays as it is"
    return (
        f"{together + alone} epochs: {together} of pose net and heads, {alone} of the heads alone"
    )


def _record(
    data: PoseSet, validation: PoseSet, earlier: tuple[str, ...], scores: Scores, unreadable: int
) -> Record:
    return Record(
        keypoints=data.keypoints,
        training_data=(*earlier, data.spec),
        label_count=len(data),
        unreadable=unreadable,
        validation_data=validation.spec,
        metrics=summarise(scores),
        commit=code_commit(),
    )


def _restart(recipe: Recipe, data: PoseSet, out: Path, epochs: int, init: Path | None) -> Restart:
    identity = {
        "recipe": to_dict(recipe),
        "keypoints": data.keypoints.names,
        "data": data.spec,
        "persons": hashlib.sha256("\n".join(data.ids).encode()).hexdigest(),
        "epochs": epochs,
        "init": sha256_file(init / WEIGHTS) if init else "",
    }
    path = out.with_name(out.name + ".restart")
    restart = Restart(path, identity)
    if restart.epochs:
        progress.print_line(f"{path}: going on after epoch {restart.epochs} of {epochs}")
    return restart


def _start(
    recipe: Recipe, data: PoseSet, init: Path | None, foreign: bytes | None
) -> tuple[Network, tuple[str, ...]]:
    if foreign is None:
        check_own(recipe)
    network = Network(recipe.model, data.keypoints, foreign)
    if init is None:
        if recipe.fit.epochs == 0 and foreign is None:
            raise InvalidInput(
                "the recipe has no epochs but the heads', which leave the pose net as it is; "
                "expected a trained one. Give --init CHECKPOINT"
            )
        load_trunk(recipe.model.net, network.pose)
        return network, ()
    old, old_recipe, record = load_checkpoint(init)
    check_keypoints(record, data)
    _check_model(recipe, old_recipe, init)
    network.take_over(old)
    return network, record.training_data


def _check_model(recipe: Recipe, old: Recipe, init: Path) -> None:
    """Raise InvalidInput where a checkpoint's network differs in more than its heads."""
    asked, found = (to_dict(one)["model"] for one in (recipe, old))
    if where := difference({**found, "heads": []}, {**asked, "heads": []}):
        raise InvalidInput(
            f"recipe {recipe.name} has another {where} than {init}; expected the same network. "
            "Leave the recipe out to train on with the checkpoint's own"
        )


def check_keypoints(record: Record, data: PoseSet) -> None:
    """Raise DataError unless the data has the checkpoint's keypoints."""
    if record.keypoints.names != data.keypoints.names:
        raise DataError(
            f"{data.spec} has the keypoints of {data.keypoints.name}, the checkpoint those of "
            f"{record.keypoints.name}; expected the same. Give that set with --keypoints, or none"
        )


def _counted(data: PoseSet) -> Iterator[int]:
    return progress.counted(len(data), "scoring")
