"""A bundle as one zip, for transport: written plainly, and read as if an enemy had written it.

Only flat names of regular files are taken, so nothing can be written elsewhere. How many files,
and how much of each, is bounded before and while they are read, whatever the archive's own table
says.
"""

import io
import os
import re
import shutil
import stat
import struct
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from misgiving.runtime.durable import write_durably
from misgiving.runtime.errors import BundleError, DataError

MAX_FILES = 32
MAX_BYTES = 1 << 30
"""Of all files together, unpacked."""
MAX_RATIO = 100
"""Unpacked to packed size of a file; weights shrink by a tenth, a manifest by nine tenths."""
_FREE_BYTES = 1 << 20
"""A file up to this size may shrink as it likes."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_END = struct.Struct("<4s4H2LH")
_LOCATOR_BYTES = 20
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError)
"""What zipfile raises for archives that are damaged, or encrypted, or of kinds that it lacks."""


class Unpacked:
    """A folder that only this user can read; it goes with this object, at the latest at exit."""

    def __init__(self, label: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"misgiving-{label}-"))  # 0700
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)


class Packed:
    """An open archive whose table of files has been found sound."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path = path
        self._archive = archive
        if problem := _problem(archive.infolist()):
            raise BundleError(f"{path} is refused: {problem}. Pack it with 'misgiving pack'")

    def read(self, name: str, limit: int) -> bytes | None:
        """One file of at most ``limit`` bytes, None where there is none of that name."""
        if name not in self._archive.namelist():
            return None
        return b"".join(self._blocks(name, limit))

    def unpack(self, label: str) -> Unpacked:
        """All files, in a new folder below TMPDIR."""
        unpacked = Unpacked(label)
        try:
            for name in self._archive.namelist():
                with (unpacked.folder / name).open("xb") as file:
                    file.writelines(self._blocks(name, MAX_BYTES))
        except OSError as error:
            raise BundleError(
                f"{self._path} cannot be unpacked: {error.strerror}; expected room for temporary "
                "files. Free some, or set TMPDIR to a folder that has it"
            ) from error
        return unpacked

    def _blocks(self, name: str, limit: int) -> Iterator[bytes]:
        """A file's content; zipfile gives at most what the table declares, which was bounded."""
        info = self._archive.getinfo(name)
        limit = min(limit, max(_FREE_BYTES, MAX_RATIO * info.compress_size))
        size = 0
        try:
            with self._archive.open(info) as file:
                while block := file.read(1 << 16):
                    if (size := size + len(block)) > limit:
                        raise BundleError(
                            f"{self._path} is refused: {name} unpacks to more than {limit:,} bytes"
                            ". Get it from who made it"
                        )
                    yield block
        except (*_BROKEN, OSError) as error:  # by a place before the file's start, too
            raise BundleError(f"{self._path}: {name} is damaged; copy it again") from error


@contextmanager
def opened(path: Path) -> Iterator[Packed]:
    """A bundle's archive.

    Raises:
        BundleError: no zip, or one with something else than a bundle's flat, plain files.
    """
    with ExitStack() as undo:
        try:
            file = undo.enter_context(path.open("rb"))
            _check_end(file)
            archive = undo.enter_context(zipfile.ZipFile(file))
        except OSError as error:
            raise BundleError(f"{path} is no bundle: {error.strerror}; name another") from error
        except _BROKEN as error:
            raise BundleError(
                f"{path} is no bundle: {error}; expected a folder written by 'misgiving export' or "
                "a zip by 'misgiving pack'. Name one, or copy it again"
            ) from error
        yield Packed(path, archive)


def write_zip(files: Iterable[tuple[str, bytes]], out: Path) -> None:
    """Pack files; the same files give the same bytes. Not compressed: weights hardly shrink.

    Raises:
        DataError: ``out`` is there already, or cannot be written.
    """
    if os.path.lexists(out):
        raise DataError(f"{out} is there already; nothing is overwritten. Give another name")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files:
            info = zipfile.ZipInfo(name)  # of 1980
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, data)
    try:
        write_durably(out, buffer.getvalue())
    except OSError as error:
        raise DataError(
            f"{out} cannot be written: {error.strerror or error}; expected a file on a disk with "
            "room. Name another"
        ) from error


def _check_end(file: BinaryIO) -> None:
    """Raise BadZipFile where the archive's last record announces too large a table.

    zipfile reads the whole table into memory, before anybody can look at it.
    """
    file.seek(max(0, file.seek(0, os.SEEK_END) - _END.size - _LOCATOR_BYTES))
    tail = file.read()
    if len(tail) < _END.size:
        raise zipfile.BadZipFile("not a zip")
    magic, _, _, _, count, table_bytes, _, _ = _END.unpack(tail[-_END.size :])
    if magic != b"PK\5\6":
        raise zipfile.BadZipFile("not a zip, or cut short, or with a comment at its end")
    if tail.startswith(b"PK\6\7"):
        raise zipfile.BadZipFile("a zip64")
    if count > MAX_FILES or table_bytes > MAX_FILES * 1024:
        raise zipfile.BadZipFile(f"a zip of {count} files in a table of {table_bytes} bytes")


def _problem(infos: list[zipfile.ZipInfo]) -> str | None:
    """What in an archive's table is not as a bundle has it."""
    if len(infos) > MAX_FILES:
        return f"it holds {len(infos)} files; expected at most {MAX_FILES}"
    seen: set[str] = set()
    for info in infos:
        name, mode = info.orig_filename, info.external_attr >> 16
        # They differ behind a NUL, or where a further field brings a name of its own.
        if not _NAME.fullmatch(name) or name != info.filename:
            return f"it holds {name[:80]!r}; expected plain file names, without folders"
        if name.lower() in seen:
            return f"it holds {name} twice"
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            return f"{name} is no regular file but a link or device"
        if info.flag_bits & 0x1 or info.compress_type not in _KINDS:
            return f"{name} is encrypted or compressed in a way that is not taken"
        seen.add(name.lower())
    if (declared := sum(info.file_size for info in infos)) > MAX_BYTES:
        return f"it unpacks to {declared:,} bytes; expected at most {MAX_BYTES:,}"
    return None
