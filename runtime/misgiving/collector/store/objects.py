"""The frames themselves, by the sha256 of their bytes: in a folder, or in S3 (``s3.py``)."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from misgiving.collector.store.uploads import checked, is_digest
from misgiving.runtime.durable import sync_folder
from misgiving.runtime.errors import DataError


class Objects(Protocol):
    """Where frames are. Every method may be called from any thread.

    What cannot be reached raises an OSError or StoreUnavailable.
    """

    in_files: bool
    """Whether an object is made of its upload's file, or of the bytes."""

    def has(self, digest: str) -> bool: ...

    def body(self, digest: str) -> bytes:
        """The bytes of a frame.

        Raises:
            DataError: its object is missing or altered.
        """
        ...

    def make(self, uploads: Mapping[str, tuple[Path, bytes]]) -> None:
        """Make objects of finished uploads; durable when this returns.

        Args:
            uploads: by digest the file, whose bytes are durable where :attr:`in_files` says so,
                and which may be gone then; and its bytes.
        """
        ...

    def delete(self, digest: str) -> None:
        """Delete an object, if there is one; for good when this returns."""
        ...

    def digests(self, prefix: str) -> set[str]:
        """Of the objects whose names begin with these two digits."""
        ...

    def made_ns(self, digest: str) -> int:
        """When an object that is there was made, in Unix nanoseconds."""
        ...


class FolderObjects:
    """Objects in files. A finished upload becomes one by a rename, so its bytes are written once.

    Objects and parts therefore lie on one file system.

    Args:
        folder: of the store; what it lacks is made.
    """

    in_files = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "objects"
        self.folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder)
        self._there = set[Path]()  # folders whose names are durable

    def has(self, digest: str) -> bool:
        return self._path(digest).is_file()

    def body(self, digest: str) -> bytes:
        path = self._path(digest)
        try:
            body = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}; restore it from a backup") from error
        return check_object(str(path), digest, body)

    def make(self, uploads: Mapping[str, tuple[Path, bytes]]) -> None:
        folders = set[Path]()
        for digest, (part, _) in uploads.items():
            path = self._new_path(digest)
            os.replace(part, path)
            folders.add(path.parent)
        for folder in folders:
            sync_folder(folder)

    def delete(self, digest: str) -> None:
        path = self._path(digest)
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            sync_folder(path.parent)

    def digests(self, prefix: str) -> set[str]:
        folder = self.folder / prefix
        return set(filter(is_digest, os.listdir(folder))) if folder.is_dir() else set()

    def made_ns(self, digest: str) -> int:
        return self._path(digest).stat().st_mtime_ns

    def _path(self, digest: str) -> Path:
        return self.folder / checked(digest)[:2] / digest

    def _new_path(self, digest: str) -> Path:
        """Its path, in a folder that is there for good."""
        path = self._path(digest)
        if path.parent not in self._there or not path.parent.is_dir():
            path.parent.mkdir(exist_ok=True)
            sync_folder(self.folder)
            self._there.add(path.parent)
        return path


def check_object(name: str, digest: str, body: bytes) -> bytes:
    """The bytes of an object; raises DataError where they are not the digest's."""
    if hashlib.sha256(body).hexdigest() != digest:
        raise DataError(f"{name} is altered: its sha256 differs from its name. Restore it")
    return body


def check_whole(digest: str, body: bytes) -> None:
    """Raise DataError where the bytes of an upload are not the digest's."""
    if (got := hashlib.sha256(body).hexdigest()) != digest:
        raise DataError(
            f"upload has sha256 {got[:12]}… over {len(body)} bytes; expected "
            f"{digest[:12]}…. The bytes were altered: send them again from 0"
        )
