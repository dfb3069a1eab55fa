"""The bytes of a store: objects, which are whole, and uploads that are not finished.

An upload grows in a part. A finished part is made durable and becomes the object by a rename,
so its bytes are written once. Objects and parts therefore lie on one file system.
"""

import hashlib
import os
import re
import threading
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import BinaryIO

from misgiving.runtime.durable import sync_folder, write_durably
from misgiving.runtime.errors import DataError, FailedPrecondition, InvalidInput


class Objects:
    """Frames by the sha256 of their bytes.

    Args:
        folder: of the store; what it lacks is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._incoming = folder / "objects", folder / "incoming"
        for part in (self.folder, self._incoming):
            part.mkdir(parents=True, exist_ok=True)
        sync_folder(folder)
        self._locks = tuple(threading.Lock() for _ in range(16))

    def has(self, digest: str) -> bool:
        return self._object(digest).is_file()

    def body(self, digest: str) -> bytes:
        """The bytes of a frame.

        Raises:
            DataError: its object is missing or altered.
        """
        path = self._object(digest)
        try:
            body = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}; restore it from a backup") from error
        if hashlib.sha256(body).hexdigest() != digest:
            raise DataError(f"{path} is altered: its sha256 differs from its name. Restore it")
        return body

    def write(self, digest: str, body: bytes) -> None:
        """Make an object of bytes that came at once; durable when this returns."""
        write_durably(self._new_object(digest), body)

    def adopt(self, digest: str) -> None:
        """Make an object of a finished upload; durable when this returns."""
        part, path = self._part(digest), self._new_object(digest)
        with part.open("rb") as file:
            _sync(file, part)
        os.replace(part, path)
        sync_folder(path.parent)

    def delete(self, digest: str) -> None:
        """Delete an object, if there is one; for good when this returns."""
        path = self._object(digest)
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            sync_folder(path.parent)

    def unfinished(self, before_ns: int) -> list[str]:
        """Digests of the uploads to which nothing was added since a time, in Unix nanoseconds."""
        found = []
        for part in self._incoming.glob("*.part"):
            with suppress(FileNotFoundError):  # finished meanwhile
                if part.stat().st_mtime_ns < before_ns:
                    found.append(part.stem)
        return found

    def lock(self, digest: str) -> AbstractContextManager[object]:
        """Held by whoever changes an upload."""
        return self._locks[int(checked(digest)[0], 16)]

    def offset(self, digest: str) -> int:
        """How many bytes of an unfinished upload are durable; they are made so here."""
        part = self._part(digest)
        try:
            file = part.open("rb")
        except FileNotFoundError:
            return 0
        with file:
            _sync(file, part)
            return os.fstat(file.fileno()).st_size

    def append(self, digest: str, offset: int, data: bytes) -> None:
        """Add bytes to an unfinished upload.

        Raises:
            FailedPrecondition: it does not stand at ``offset``.
        """
        part = self._part(digest)
        stands = part.stat().st_size if part.exists() else 0
        if stands != offset:
            raise wrong_offset(digest, offset, stands)
        # At the offset, not at the end: a process that is late writes what is there already.
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT, 0o666), "wb") as file:
            file.seek(offset)
            file.write(data)

    def discard(self, digest: str) -> None:
        """Drop an unfinished upload."""
        self._part(digest).unlink(missing_ok=True)

    def received(self, digest: str) -> bytes:
        """The bytes of an upload so far; none where there is no such upload."""
        try:
            return self._part(digest).read_bytes()
        except FileNotFoundError:
            return b""

    def _object(self, digest: str) -> Path:
        return self.folder / checked(digest)[:2] / digest

    def _new_object(self, digest: str) -> Path:
        """Its path, in a folder that is there for good."""
        path = self._object(digest)
        path.parent.mkdir(exist_ok=True)
        sync_folder(self.folder)
        return path

    def _part(self, digest: str) -> Path:
        return self._incoming / f"{checked(digest)}.part"


def _sync(file: BinaryIO, part: Path) -> None:
    """Make an upload's bytes durable; drop them where that fails.

    After a failed fsync the kernel may take lost pages for written, and a second fsync succeeds.
    """
    try:
        os.fsync(file.fileno())
    except OSError:
        part.unlink(missing_ok=True)
        raise


def check_whole(digest: str, body: bytes) -> None:
    """Raise DataError where the bytes of an upload are not the digest's."""
    if (got := hashlib.sha256(body).hexdigest()) != digest:
        raise DataError(
            f"upload has sha256 {got[:12]}… over {len(body)} bytes; expected "
            f"{digest[:12]}…. The bytes were altered: send them again from 0"
        )


def wrong_offset(digest: str, offset: int, stands: int) -> FailedPrecondition:
    """The error of an upload that does not go on where the durable bytes end."""
    return FailedPrecondition(
        f"upload of {digest[:12]}… goes on at byte {offset}; {stands} bytes are durable. "
        f"Send the rest from byte {stands}"
    )


def checked(digest: str) -> str:
    """The digest; raises InvalidInput where it is none: it becomes part of a path."""
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise InvalidInput(f"digest is {digest[:80]!r}; expected a sha256 as 64 hex digits")
    return digest
