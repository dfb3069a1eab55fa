"""A folder of files that we make, kept below a size: the oldest make room for the newest."""

import os
from pathlib import Path

from misgiving.runtime.errors import FailedPrecondition

QUOTA_BYTES = 1 << 30
"""Of the files of one shelf together."""


class Shelf:
    """Files of one ending in a folder; others in it are never touched.

    Args:
        folder: made where it is missing.
        ending: of our files, for example ``.clip.mp4``; no other program should use it.
        quota_bytes: beyond it the oldest go, by name.

    Raises:
        FailedPrecondition: the folder cannot be made or written to.
    """

    def __init__(self, folder: Path, ending: str, quota_bytes: int = QUOTA_BYTES) -> None:
        self._folder = folder
        self._ending = ending
        self._quota_bytes = quota_bytes
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for unfinished in folder.glob(f".*{ending}"):  # of a process that was killed
                unfinished.unlink()
        except OSError as error:
            raise FailedPrecondition(
                f"{folder}: {error.strerror}; expected a folder to write to. Name another one"
            ) from error
        if not os.access(folder, os.W_OK):
            raise FailedPrecondition(
                f"{folder} cannot be written to; expected a folder of ours. Change its rights, or "
                "name another one"
            )

    def begin(self, name: str) -> Path:
        """Where to write a file; it has its own name only once it is kept."""
        return self._folder / f".{name}{self._ending}"

    def keep(self, name: str) -> None:
        """The file is whole."""
        os.replace(self.begin(name), kept := self._folder / f"{name}{self._ending}")
        self._make_room(kept)

    def drop(self, name: str) -> None:
        """The file came to nothing."""
        self.begin(name).unlink(missing_ok=True)

    def _make_room(self, newest: Path) -> None:
        """Delete the oldest beyond the quota; the newest stays, whatever its size."""
        written = newest.stat().st_mtime_ns
        found = [(path, path.stat()) for path in self._files() if path != newest]
        # Those of a clock that was ahead go first: else each new file would be the oldest.
        found.sort(key=lambda one: one[1].st_mtime_ns <= written)
        total = newest.stat().st_size + sum(about.st_size for _, about in found)
        for path, about in found:
            if total <= self._quota_bytes:
                return
            path.unlink(missing_ok=True)
            total -= about.st_size

    def _files(self) -> list[Path]:
        """The oldest first: their names begin with the time."""
        ours = self._folder.glob(f"*{self._ending}")
        return sorted(path for path in ours if not path.name.startswith("."))
