"""Bundles that the fleet side has released to this device, in a folder.

::

    FOLDER/<digest>.zip          whole, and found good by the keys of this device
    FOLDER/<digest>.part         what is there of the next one
    FOLDER/shelf.json            which of them is to answer, which did before, which were no good
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from misgiving.runtime.durable import write_durably
from misgiving.runtime.errors import DataError
from misgiving.runtime.wire.releases import Release


@dataclass(frozen=True, slots=True)
class _Order:
    current: str = ""
    former: str = ""
    rejected: dict[str, str] = field(default_factory=dict)
    """Digest → why."""


class Shelf:
    """A folder of one process at a time.

    Args:
        folder: made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._file = folder / "shelf.json"
        try:
            self._order = _Order(**json.loads(self._file.read_text("utf-8")))
        except (FileNotFoundError, ValueError, TypeError):  # damaged, all is fetched again
            self._order = _Order()

    @property
    def current(self) -> Path | None:
        """The bundle that is to answer; None where none was released."""
        path = self.path(self._order.current)
        return path if self._order.current and path.is_file() else None

    def rejected(self, digest: str) -> str:
        """Why a release was no good; empty where it was not tried, or was good."""
        return self._order.rejected.get(digest, "")

    def path(self, digest: str) -> Path:
        """Where a whole release is."""
        return self._folder / f"{digest}.zip"

    def offset(self, release: Release) -> int:
        """Bytes of it that are there."""
        part = self._part(release)
        return part.stat().st_size if part.is_file() else 0

    def append(self, release: Release, chunk: bytes) -> None:
        """Add bytes to what is there.

        Raises:
            DataError: that would be more than it has.
        """
        if self.offset(release) + len(chunk) > release.size_bytes:
            self._part(release).unlink(missing_ok=True)
            raise DataError(f"release is longer than its {release.size_bytes:,} bytes")
        with self._part(release).open("ab") as file:
            file.write(chunk)

    def finish(self, release: Release) -> Path:
        """Give it its name, once it is whole.

        Raises:
            DataError: its bytes are others than were announced; they are dropped.
        """
        part, path = self._part(release), self.path(release.digest)
        found = hashlib.sha256()
        with part.open("rb") as file:
            while block := file.read(1 << 20):
                found.update(block)
            os.fsync(file.fileno())
        if (digest := found.hexdigest()) != release.sha256:
            part.unlink()
            raise DataError(f"release has sha256 {digest[:12]}…; expected {release.sha256[:12]}…")
        os.replace(part, path)
        return path

    def choose(self, digest: str) -> None:
        """Have it answer from the next start on; the one before is kept until another comes."""
        order = self._order
        former = order.former if order.current == digest else order.current
        self._write(replace(order, current=digest, former=former))
        for path in self._folder.glob("*.zip"):
            if path.stem not in (digest, former):
                path.unlink()

    def reject(self, digest: str, why: str) -> None:
        """Never take it again; the one before it answers at the next start."""
        order = replace(self._order, rejected={**self._order.rejected, digest: why})
        if order.current == digest:
            order = replace(order, current=order.former, former="")
        self._write(order)
        self.path(digest).unlink(missing_ok=True)

    def _part(self, release: Release) -> Path:
        return self._folder / f"{release.digest}.part"

    def _write(self, order: _Order) -> None:
        write_durably(self._file, json.dumps(asdict(order)).encode())
        self._order = order
