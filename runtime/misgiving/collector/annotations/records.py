"""What a store notes of batches and label sets, and what people said of their frames."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from misgiving.collector.store import Store
from misgiving.collector.store.tables import BATCH_FRAMES, BATCHES, LABEL_SETS, LABELLED, MARKS
from misgiving.runtime.labelset import Split

_AT_ONCE = 500
"""Frames in one statement: databases limit its parameters."""


def record_batch(store: Store, name: str, format: str, digests: Iterable[str]) -> None:
    """Note which frames went out; those of a batch of the same name stay noted."""
    now = time.time_ns()
    with store.database.connect() as database:
        made = _insert(database, BATCHES).values(name=name, created_unix_nano=now, format=format)
        newer = {"created_unix_nano": now, "format": format}
        database.execute(made.on_conflict_do_update(index_elements=["name"], set_=newer))
        _add(database, BATCH_FRAMES, [{"batch": name, "digest": one} for one in digests])


def record_labels(
    store: Store, version: str, path: Path | str, frames: Mapping[str, Split]
) -> None:
    """Note a label set, where it is, of which frames it has labels, and on which side these are.

    >>> corrected = read_corrected(Path("batch"))
    >>> with Store(Path("collected"), create=False) as store:
    ...     record_labels(store, corrected.labels.version, Path("labels-1"), corrected.frames)
    """
    path = Path(path)
    row = {"version": version, "created_unix_nano": time.time_ns(), "path": str(path)}
    with store.database.connect() as database:
        _add(database, LABEL_SETS, [row])
        rows = [{"version": version, "digest": one, "split": frames[one]} for one in frames]
        _add(database, LABELLED, rows)


def false_alarms(store: Store, digests: Iterable[str]) -> set[str]:
    """Which of some frames somebody has called a false alarm, and nothing else since."""
    newest: dict[str, str] = {}
    c = MARKS.c
    with store.database.connect(reads=True) as database:
        for some in _parts(list(digests)):
            marks = sa.select(c.digest, c.mark).where(c.digest.in_(some))
            for digest, mark in database.execute(marks.order_by(c.at_unix_nano, c.id)):
                newest[digest] = mark
    return {digest for digest, mark in newest.items() if mark == "false_alarm"}


def _add(database: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    for some in _parts(rows):
        database.execute(_insert(database, table).values(some).on_conflict_do_nothing())


def _insert(database: sa.Connection, table: sa.Table) -> Any:
    dialect = postgresql if database.dialect.name == "postgresql" else sqlite
    return dialect.insert(table)


def _parts(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for first in range(0, len(rows), _AT_ONCE):
        yield rows[first : first + _AT_ONCE]
