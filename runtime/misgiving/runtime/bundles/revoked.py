"""Keys and bundles that this device was told to take no longer, by a key that it trusts.

They are kept beside the floor, and as it: nothing is ever taken from the list, and a file that
cannot be read counts as empty, loudly. Whoever can damage it could as well delete it.
"""

import logging
import re
from collections.abc import Iterable

from misgiving.runtime.bundles.floor import STATE_VARIABLE, state_folder
from misgiving.runtime.durable import locked_folder, write_durably
from misgiving.runtime.errors import FailedPrecondition

log = logging.getLogger(__name__)

FILE = "revoked"


def parse_revoked(text: bytes, name: object) -> frozenset[str]:
    """Ids of keys and digests of bundles, one a line; ``#`` begins a comment.

    Raises:
        FailedPrecondition: a line is neither: a revocation must not be passed over.
    """
    words = lines_of(text)
    for word in words:
        if not re.fullmatch("[0-9a-f]{16}|[0-9a-f]{64}", word):
            raise FailedPrecondition(
                f"{name} has a line {word[:80]!r}; expected the id of a key (16 hex digits) or the "
                "digest of a bundle (64), one a line"
            )
    return frozenset(words)


def lines_of(text: bytes) -> list[str]:
    """The lines that say something."""
    lines = text.decode("utf-8", "replace").splitlines()
    return [word for line in lines if (word := line.partition("#")[0].strip())]


def read() -> frozenset[str]:
    """What the device was told; empty, with a warning, where that cannot be read."""
    path = state_folder() / FILE
    try:
        return parse_revoked(path.read_bytes(), path)
    except FileNotFoundError:
        return frozenset()
    except (OSError, FailedPrecondition) as error:
        log.warning(
            "revocations that came cannot be read (%s): they count as none until they come again; "
            "check this device's disk",
            error,
        )
        return frozenset()


def add(words: Iterable[str]) -> bool:
    """Remember them durably, beside those before; says whether any of them is new.

    Raises:
        FailedPrecondition: they cannot be written.
    """
    folder = state_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked_folder(folder, wait=True):
            before = read()
            after = before | set(words)
            if after != before:
                text = "".join(f"{word}\n" for word in sorted(after))
                write_durably(folder / FILE, text.encode())
    except OSError as error:
        raise FailedPrecondition(
            f"{folder / FILE} cannot be written: {error.strerror or error}; expected a state "
            f"folder of this device with room. Name one by {STATE_VARIABLE}"
        ) from error
    return after != before
