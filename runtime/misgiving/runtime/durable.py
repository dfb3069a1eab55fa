"""Files and folders that appear whole or not at all, and stay after a power loss."""

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from misgiving.runtime.errors import DataError, InUse


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; fsync of a file covers only its content."""
    _sync(folder)


def write_durably(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, fsync it, and then give it its name for good."""
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


class Places:
    """Folders and files as they were opened, told from others that have their names since.

    A disk may be mounted over a folder, and a folder moved away and restored from a copy, while
    what was opened in it goes on being written: for nobody. The folders are held open, so that no
    new one gets their numbers; a file must be held by whoever reads it (a second handle would
    take away SQLite's locks).

    Args:
        folders: that are there.
        files: that are there, and open.
    """

    def __init__(self, folders: Iterable[Path], files: Iterable[Path]) -> None:
        self._folders = {path: os.open(path, os.O_RDONLY) for path in folders}
        self._files = {path: path.stat() for path in files}

    def replaced(self) -> Path | None:
        """The first that is gone or is another one now; None where all are as they were."""
        opened = {path: os.fstat(handle) for path, handle in self._folders.items()} | self._files
        return next((path for path, was in opened.items() if not _is_still(path, was)), None)

    def close(self) -> None:
        """Let go of the folders."""
        while self._folders:
            os.close(self._folders.popitem()[1])


def _is_still(path: Path, was: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), was)
    except OSError:
        return False


def check_new(out: Path) -> None:
    """Raise DataError where something is there already: results are never overwritten."""
    if not out.name:
        raise DataError(f"{out} is not the name of a new folder; expected one. Give another --out")
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise DataError(f"{out} is there already; nothing is overwritten. Give another name")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to fill; it becomes ``out`` when the block ends well, and vanishes otherwise.

    Until then it is ``<out>.part``; what a killed process left there is removed by the next one.

    Raises:
        DataError: ``out`` holds something already, cannot be written, or is being written.
    """
    check_new(out)
    part = out.with_name(out.name + ".part")
    try:
        with locked_folder(part):
            _clear(part)
            try:
                yield part
                _sync_tree(part)
                part.rename(out)
            except BaseException:
                shutil.rmtree(part, ignore_errors=True)
                raise
            sync_folder(out.parent)
    except OSError as error:
        raise DataError(
            f"{out} cannot be written: {error.strerror or error}; expected a folder on a disk with "
            "room. Name another"
        ) from error


@contextmanager
def locked_folder(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Make a folder where there is none, and hold it against other processes.

    The lock ends with the process, however that ends.

    Args:
        folder: to make and to hold.
        wait: until another process lets go of it.

    Raises:
        InUse: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        _lock(handle, folder, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield
        except BaseException:
            with suppress(OSError):
                folder.rmdir()  # where nothing was put in yet, nothing is left
            raise
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path, how: int) -> None:
    try:
        fcntl.flock(handle, how)
        # Another process may have renamed it since it was opened: the lock is then on its result.
        if os.path.samestat(os.fstat(handle), os.stat(folder)):
            return
    except BlockingIOError:
        pass
    raise InUse(f"{folder} is in use by another process; wait for it, or name another folder")


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _sync_tree(folder: Path) -> None:
    for root, _, files in os.walk(folder):
        for name in files:
            _sync(Path(root, name))
        _sync(Path(root))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
