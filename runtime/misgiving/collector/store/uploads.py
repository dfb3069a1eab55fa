"""Uploads that are not finished: each grows in a part, on the collector's own disk.

Collectors that share the folder wait for each other by the lock of the part's file. Those that do
not have parts of their own: an upload that goes on elsewhere goes on from what is there.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from misgiving.runtime.durable import sync_folder
from misgiving.runtime.errors import FailedPrecondition, InvalidInput


class Uploads:
    """Parts by the sha256 that their bytes will have.

    Args:
        folder: of the store; what it lacks is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "incoming"
        self.folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder)

    @contextmanager
    def lock(self, digest: str) -> Iterator[BinaryIO]:
        """Held by whoever changes an upload, against threads and processes; gives its file."""
        part = self.part(digest)
        while True:
            with part.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if not _is_named(part, file):  # it was finished or dropped meanwhile
                    continue
                try:
                    yield file
                finally:
                    if not os.fstat(file.fileno()).st_size:
                        self.discard(digest, file)
            return

    def offset(self, digest: str) -> int:
        """How many bytes of an unfinished upload are durable; they are made so here."""
        part = self.part(digest)
        try:
            file = part.open("rb")
        except FileNotFoundError:
            return 0
        with file:
            if size := os.fstat(file.fileno()).st_size:
                _sync(file, part)
            return size

    def append(self, digest: str, offset: int, data: bytes) -> None:
        """Add bytes to an unfinished upload.

        Raises:
            FailedPrecondition: it does not stand at ``offset``.
        """
        part = self.part(digest)
        if (stands := _size(part)) != offset:
            raise wrong_offset(digest, offset, stands)
        # At the offset, not at the end: a process that is late writes what is there already.
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT, 0o666), "wb") as file:
            file.seek(offset)
            file.write(data)

    def write(self, file: BinaryIO, body: bytes) -> None:
        """Give an upload, whose file is locked, all of its bytes."""
        file.truncate(0)
        file.write(body)
        file.flush()

    def sync(self, digest: str, file: BinaryIO) -> Path:
        """Make the bytes of an upload, whose file is locked, durable; returns where they are."""
        _sync(file, part := self.part(digest))
        return part

    def discard(self, digest: str, file: BinaryIO) -> None:
        """Drop an unfinished upload, whose file is locked; not that of another call by its name."""
        if _is_named(part := self.part(digest), file):
            part.unlink()

    def unfinished(self, before_ns: int) -> list[str]:
        """Digests of the uploads to which nothing was added since a time, in Unix nanoseconds."""
        found = []
        for part in self.folder.glob("*.part"):
            with suppress(FileNotFoundError):  # finished meanwhile
                if part.stat().st_mtime_ns < before_ns:
                    found.append(part.stem)
        return found

    def received(self, digest: str) -> bytes:
        """The bytes of an upload so far; none where there is no such upload."""
        try:
            return self.part(digest).read_bytes()
        except FileNotFoundError:
            return b""

    def part(self, digest: str) -> Path:
        """Where an unfinished upload is."""
        return self.folder / f"{checked(digest)}.part"


def _sync(file: BinaryIO, part: Path) -> None:
    """Make an upload's bytes durable; drop them where that fails.

    After a failed fsync the kernel may take lost pages for written, and a second fsync succeeds.
    """
    try:
        os.fsync(file.fileno())
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _is_named(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def wrong_offset(digest: str, offset: int, stands: int) -> FailedPrecondition:
    """The error of an upload that does not go on where the durable bytes end."""
    return FailedPrecondition(
        f"upload of {digest[:12]}… goes on at byte {offset}; {stands} bytes are durable. "
        f"Send the rest from byte {stands}"
    )


def is_digest(name: str) -> bool:
    """Whether it is a sha256 in hex."""
    return re.fullmatch("[0-9a-f]{64}", name) is not None


def checked(digest: str) -> str:
    """The digest; raises InvalidInput where it is none: it becomes part of a path."""
    if not is_digest(digest):
        raise InvalidInput(f"digest is {digest[:80]!r}; expected a sha256 as 64 hex digits")
    return digest
