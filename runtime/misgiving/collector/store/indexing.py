"""Objects without a row, and rows without an object, when a store is opened.

A crash leaves the one; a folder or a database that was restored from a copy leaves either.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from misgiving.collector.store.uploads import is_digest
from misgiving.runtime.errors import DataError, FailedPrecondition

log = logging.getLogger(__name__)


def index_objects(
    folder: Path, rows: Callable[[str], set[str]], add_row: Callable[[Path], bool]
) -> None:
    """Give every whole object its row, and say how many there were, and how many it lacks.

    Args:
        folder: of the objects.
        rows: gives the digests of the rows that begin so.
        add_row: makes the row of an object; False where that cannot be.
    """
    made, lost = 0, list[str]()
    for number in range(256):  # by folder, so that not all digests are in memory at once
        prefix = f"{number:02x}"
        objects, digests = set(_names(folder / prefix)), rows(prefix)
        made += sum(_added(folder / prefix / name, add_row) for name in objects - digests)
        lost += sorted(digests - objects)
    if made:
        log.warning("%s: %d frames had no row in the database, and have one now", folder, made)
    if lost:
        log.warning(
            "%s: %d frames of the database are not there, %s for one; restore them from a backup",
            *(folder, len(lost), lost[0]),
        )


def fill_rows(digests: list[str], fill: Callable[[str], None]) -> None:
    """Complete the rows that an earlier release made, from their objects.

    Args:
        digests: of those rows.
        fill: completes one.
    """
    if digests:
        log.warning("%d rows of an earlier release are completed from their frames", len(digests))
    for digest in digests:
        with suppress(
            DataError, FailedPrecondition
        ):  # lost, altered or sealed: said when it is asked for
            fill(digest)


def _added(path: Path, add_row: Callable[[Path], bool]) -> bool:
    try:
        return add_row(path)
    except (DataError, FailedPrecondition, OSError) as error:
        log.warning("%s has no row in the database: %s", path, error)
        return False


def _names(folder: Path) -> Iterator[str]:
    paths = folder.iterdir() if folder.is_dir() else ()
    return (path.name for path in paths if is_digest(path.name))
