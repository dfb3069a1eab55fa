"""Checkpoints: a folder with the weights (safetensors), the resolved recipe and the record."""

import hashlib
import json
import subprocess
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from pydantic import ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from misgiving.runtime.bundles.locate import DEFAULT_CHECKPOINT
from misgiving.runtime.bundles.manifest import MANIFEST
from misgiving.runtime.durable import new_folder
from misgiving.runtime.errors import DataError, InvalidInput, first_problem
from misgiving.runtime.keypoints import KeypointSet
from misgiving.trainer.config import Recipe, read_recipe, to_json
from misgiving.trainer.foreign.pose import ForeignPose
from misgiving.trainer.foreign_config import ForeignConfig
from misgiving.trainer.models import Network

WEIGHTS = "model.safetensors"
RECIPE = "recipe.json"
RECORD = "record.json"
FOREIGN = "foreign.onnx"
"""The pose net of somebody else, byte for byte, where the checkpoint is of one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What a checkpoint was trained on and how well it does; see :func:`load_checkpoint`."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    keypoints: KeypointSet
    training_data: tuple[str, ...]
    """Specs, earlier trainings' first."""
    label_count: int
    """Persons that were learned from."""
    validation_data: str
    metrics: dict[str, float]
    """Of the validation data."""
    commit: str
    """Commit of the code, empty where it was not a checkout."""
    unreadable: int = 0
    """Persons of the training data who were left out. Checkpoints of before do not say it."""


_ADAPTER = TypeAdapter(Record)


def save_checkpoint(folder: Path, network: Network, recipe: Recipe, record: Record) -> None:
    """Write a checkpoint; the folder, which must be new, appears when it is whole."""
    weights = {name: value.contiguous().cpu() for name, value in network.state_dict().items()}
    with new_folder(folder) as part:
        (part / WEIGHTS).write_bytes(save(weights))  # unlike save_file, raises OSError
        (part / RECIPE).write_text(to_json(recipe), encoding="utf-8")
        (part / RECORD).write_bytes(_ADAPTER.dump_json(record, indent=2) + b"\n")
        if isinstance(network.pose, ForeignPose):
            (part / FOREIGN).write_bytes(network.pose.content)


def find_checkpoint(path: Path) -> Path:
    """The folder that was named: ``default`` is the checkpoint of the bundle in the package."""
    return DEFAULT_CHECKPOINT if path == Path("default") else path


def load_checkpoint(folder: Path | str) -> tuple[Network, Recipe, Record]:
    """Read a checkpoint, on the CPU and in evaluation mode.

    >>> network, recipe, record = load_checkpoint(Path("runs/first"))
    >>> recipe.model.input_size, record.label_count, list(network.heads)
    (32, 48, ['conv-kl', 'gap-margin'])

    Raises:
        DataError: no checkpoint, or one whose parts do not fit each other.
    """
    folder = Path(folder)
    with _readable(folder):
        record, recipe = _record(folder), read_recipe(folder / RECIPE)
        network = Network(recipe.model, record.keypoints, _foreign(folder, recipe))
        network.load_state_dict(load_file(folder / WEIGHTS))
    return network.eval(), recipe, record


def _foreign(folder: Path, recipe: Recipe) -> bytes | None:
    """The foreign net's file, which must be the one that was attached."""
    net = recipe.model.net
    if not isinstance(net, ForeignConfig):
        return None
    content = (folder / FOREIGN).read_bytes()
    if (digest := hashlib.sha256(content).hexdigest()) != net.sha256:
        raise InvalidInput(
            f"{FOREIGN} has sha256 {digest[:12]}…; the heads were trained on {net.file} with "
            f"{net.sha256[:12]}…"
        )
    return content


def load_record(folder: Path) -> Record:
    """Read a checkpoint's record alone, without its weights; errors as :func:`load_checkpoint`."""
    with _readable(folder):
        return _record(folder)


def _record(folder: Path) -> Record:
    return _ADAPTER.validate_json((folder / RECORD).read_bytes())


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Raise DataError for whatever a folder that is no whole checkpoint makes go wrong inside."""
    try:
        yield
    except OSError as error:
        if said := _of_bundle(folder):
            raise DataError(f"{folder} is no checkpoint but a bundle: {said}") from error
        reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise DataError(
            f"{folder} is no checkpoint: {reason}; "
            "expected a folder written by 'misgiving train', 'cycle' or 'attach'"
        ) from error
    except (ValidationError, InvalidInput, SafetensorError, RuntimeError) as error:
        raise DataError(
            f"{folder} is a damaged checkpoint: {_reason(error)}; train it again"
        ) from error


def _of_bundle(folder: Path) -> str:
    """What to train on instead of a bundle; empty where it is none."""
    try:
        if folder.is_file():
            with ZipFile(folder) as packed:
                name = next(n for n in packed.namelist() if n.endswith(MANIFEST))
                manifest = json.loads(packed.read(name))
        else:
            manifest = json.loads((folder / MANIFEST).read_bytes())
        origin = manifest["provenance"]
        data, commit = " + ".join(origin["training_data"]), origin["commit"] or "unknown"
        made = f"recipe {origin['recipe']}, trained on {data}, commit {commit[:12]}"
    except (OSError, ValueError, KeyError, TypeError, StopIteration, BadZipFile):
        return ""
    return (
        "it has a graph to run, but neither weights to train on nor their recipe. Give the "
        f"checkpoint that it was exported from ({made})"
    )


def _reason(error: Exception) -> str:
    """What is wrong, on one line; torch lists every tensor, of which the first few do."""
    if isinstance(error, ValidationError):
        return f"{RECORD}: {first_problem(error)}"
    return textwrap.shorten(" ".join(str(error).splitlines()[:2]), 300, placeholder=" …")


def code_commit() -> str:
    """The commit that this code runs from, with ``-dirty`` where files differ from it.

    Empty where it is no checkout.
    """
    describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    command = ["git", "-C", str(Path(__file__).parent), *describe]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
