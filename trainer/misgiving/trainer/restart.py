"""Where a training stands, kept beside it while it runs, so that a killed one goes on.

On the CPU the weights are then bit by bit those of a training that nobody killed.
"""

import json
import time
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from misgiving.runtime.durable import write_durably
from misgiving.runtime.errors import DataError
from misgiving.trainer.models import Network

EVERY_S = 30.0
"""Least time between two savings, so that short epochs do not wait for the disk."""


@dataclass(frozen=True, slots=True)
class State:
    """Everything of a training that an epoch changes."""

    network: Network
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    generator: torch.Generator
    """Of the shuffle and the augmentation."""


class Restart:
    """A file that holds the state after an epoch, for one training alone."""

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        """Take up what an earlier process left, if it did.

        Args:
            path: of the file.
            identity: what decides the training's outcome, as JSON values.

        Raises:
            DataError: the file is damaged, or of a training with another identity.
        """
        self._path = path
        self._identity: dict[str, Any] = json.loads(json.dumps(identity))
        self._saved_s = time.monotonic()
        self._content = _read(path) if path.exists() else None
        if self._content is not None:
            _check_identity(path, json.loads(self._content["identity"]), self._identity)

    @property
    def epochs(self) -> int:
        """Epochs that are done."""
        return int(self._content["epochs"]) if self._content else 0

    def restore(self, state: State) -> None:
        """Put a new training into the state that was saved; does nothing where none was."""
        if self._content is None:
            return
        state.network.load_state_dict(self._content["network"])
        state.optimiser.load_state_dict(self._content["optimiser"])
        state.schedule.load_state_dict(self._content["schedule"])
        state.generator.set_state(self._content["generator"])
        self._content = None

    def save(self, state: State, epochs: int, last: bool) -> None:
        """Save the state after so many epochs, unless that was done just before; always the last.

        Raises:
            OSError: the disk is full or cannot be written; what was saved before stays.
        """
        if not last and time.monotonic() - self._saved_s < EVERY_S:
            return
        buffer = BytesIO()
        content = {
            "identity": json.dumps(self._identity),
            "epochs": epochs,
            "network": state.network.state_dict(),
            "optimiser": state.optimiser.state_dict(),
            "schedule": state.schedule.state_dict(),
            "generator": state.generator.get_state(),
        }
        torch.save(content, buffer)
        write_durably(self._path, buffer.getvalue())
        self._saved_s = time.monotonic()

    def remove(self) -> None:
        """The training is finished."""
        self._path.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if not content.keys() >= {"identity", "epochs", "network", "optimiser", "generator"}:
            raise KeyError("state")
    except Exception as error:  # torch answers a damaged file with nearly any exception
        raise DataError(f"{path} is no training that can go on; remove it to begin anew") from error
    return content


def _check_identity(path: Path, saved: dict[str, Any], asked: dict[str, Any]) -> None:
    if found := difference(saved, asked):
        raise DataError(
            f"{path} is of a training with another {found}; give the same options to go on "
            "with it, remove it to begin anew, or name another --out"
        )


def difference(saved: Any, asked: Any, where: str = "") -> str:
    """The first place where two JSON values differ, with both; empty where they are equal."""
    if isinstance(saved, dict) and isinstance(asked, dict):
        for key in sorted(saved.keys() | asked.keys()):
            inner = f"{where}.{key}" if where else key
            if found := difference(saved.get(key), asked.get(key), inner):
                return found
        return ""
    return "" if saved == asked else f"{where} ({saved}, now {asked})"
