"""Image files under the names that annotation files give them.

A name may have another system's separators, a folder of the machine that wrote it, the other
Unicode form of its letters (macOS writes e and accent apart) or the signs of a URL.
"""

import os
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

from misgiving.runtime.errors import DataError


def find_files(folder: Path, names: Sequence[str]) -> list[Path]:
    """Where each image lies.

    Args:
        folder: that the names are relative to.
        names: of the image files, as an annotation file has them.

    Raises:
        DataError: an image is missing, or one file answers to two names.
    """
    finder = _Finder(folder)
    found = [finder.find(name) for name in names]
    missing = [name for name, path in zip(names, found, strict=True) if path is None]
    if missing:
        raise DataError(
            f"{folder} lacks {missing[0]} ({len(missing)} of {len(names)} images are missing); "
            "expected every annotated image. Name the folder that their file names are relative to"
        )
    paths = [path for path in found if path is not None]
    _check_apart(folder, names, paths)
    return paths


class _Finder:
    """Looks below a folder; remembers what it listed on the way."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._listed: dict[Path, dict[str, str]] = {}

    def find(self, name: str) -> Path | None:
        if os.path.isfile(self._folder / name):
            return self._folder / name
        found = (self._walk(parts) for parts in _spellings(name))
        return next((path for path in found if path and os.path.isfile(path)), None)

    def _walk(self, parts: Sequence[str]) -> Path | None:
        here = self._folder
        for part in parts:
            if not os.path.exists(here / part):
                part = self._names(here).get(unicodedata.normalize("NFC", part), "")
            if not part:
                return None
            here /= part
        return here

    def _names(self, folder: Path) -> dict[str, str]:
        """What is in a folder, by its names' composed forms."""
        if folder not in self._listed:
            names: list[str] = []
            with suppress(OSError):  # no folder, or one that may not be read: nothing is found
                names = os.listdir(folder)
            self._listed[folder] = {unicodedata.normalize("NFC", name): name for name in names}
        return self._listed[folder]


def _spellings(name: str) -> Iterator[list[str]]:
    """What a name written on another machine may be below the folder, the likeliest first."""
    for text in dict.fromkeys((name, unquote(name))):
        parts = [part for part in text.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        yield from (parts[first:] for first in range(len(parts)))


def _check_apart(folder: Path, names: Sequence[str], paths: Sequence[Path]) -> None:
    """What was found only by a part of its name must not be another image as well."""
    known: dict[Path, str] = {}
    for name, path in zip(names, paths, strict=True):
        if (other := known.setdefault(path, name)) != name:
            raise DataError(
                f"{folder} has one file {path.name} for {other} and {name}; expected an image "
                "each. Name the folder that their file names are relative to"
            )
