"""Files and folders that appear whole or not at all, and stay after a power loss."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from misgiving.runtime.errors import DataError
from misgiving.runtime.spool import sync_folder


def write_durably(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, fsync it, and then give it its name for good."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to fill; it becomes ``out`` when the block ends well, and vanishes otherwise.

    Raises:
        DataError: ``out`` is there already, or cannot be written.
    """
    if out.exists():
        raise DataError(f"{out} is there already; expected a new folder. Name another --out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        try:
            yield temporary
            temporary.chmod(0o755)  # mkdtemp's is for one user alone
            sync_folder(temporary)
            temporary.rename(out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        sync_folder(out.parent)
    except OSError as error:
        raise DataError(
            f"{out} cannot be written: {error.strerror}; expected a folder on a disk with room. "
            "Name another --out"
        ) from error
