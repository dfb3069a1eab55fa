"""The floor: the lowest release of a model that this device still takes.

It rises to a bundle's release once that bundle has survived its probation, and not when it is
installed: until then the one before can be put back. It never sinks. It counts only where keys
are configured: an unsigned bundle could otherwise shut out every later one.

A floor that cannot be read counts as none, and one that cannot be written stays; both are said
loudly, and inference goes on. Whoever can damage the file could as well delete it, so refusing
would protect from nobody, and stop a car after a power loss.
"""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from misgiving.runtime.durable import locked_folder, write_durably
from misgiving.runtime.errors import FailedPrecondition

log = logging.getLogger(__name__)

STATE_VARIABLE = "MISGIVING_STATE"
FILE = "floors.json"
PROBATION_PERSONS = 1000
PROBATION_S = 600.0


def survives(persons: int, seconds: float) -> bool:
    """Whether a bundle has proved itself, by what it did since its engine last failed.

    Args:
        persons: answered.
        seconds: served.
    """
    return persons >= PROBATION_PERSONS and seconds >= PROBATION_S


def risen(floors: Mapping[str, int], name: str, release: int) -> dict[str, int]:
    """The floors after ``release`` of a model has survived; none sinks."""
    return {**floors, name: max(release, floors.get(name, 0))}


def state_folder() -> Path:
    """Where a device keeps what must outlive its processes."""
    if chosen := os.environ.get(STATE_VARIABLE):
        return Path(chosen)
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    if not os.path.isabs(base):
        raise FailedPrecondition(
            f"this user has no home, and {STATE_VARIABLE} is not set; expected a folder that keeps "
            "the floor. Set it"
        )
    return Path(base, "misgiving")


def read() -> dict[str, int]:
    """The floors by name of the model; empty, with a warning, where they cannot be read."""
    path = state_folder() / FILE
    try:
        return _parse(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning(
            "floor %s cannot be read (%s): older releases are not refused until a bundle has "
            "survived its probation; check this device's disk",
            *(path, error),
        )
        return {}


def rise(name: str, release: int) -> bool:
    """Raise the floor of a model durably; False, with a warning, where that fails.

    Processes that do so at once wait for each other: none undoes another's.
    """
    folder = state_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked_folder(folder, wait=True):
            floors = risen(read(), name, release)
            write_durably(folder / FILE, (json.dumps(floors, indent=2) + "\n").encode())
    except OSError as error:
        log.warning(
            "floor of %s cannot be raised to %d in %s (%s): older releases are still taken; "
            "give this device a state folder that can be written (%s)",
            *(name, release, folder, error.strerror or error, STATE_VARIABLE),
        )
        return False
    return True


def _parse(text: bytes) -> dict[str, int]:
    floors: dict[str, int] = json.loads(text)
    whole = isinstance(floors, dict) and all(
        isinstance(release, int) and release >= 0 for release in floors.values()
    )
    if not whole:
        raise ValueError("expected an object of whole numbers")
    return floors
