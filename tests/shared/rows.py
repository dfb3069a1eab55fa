"""Rows of a store that no vehicle has sent, in a database of their own."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from misgiving.collector.store.database import Database, sqlite_url
from misgiving.collector.store.rows import StoredFrame
from misgiving.collector.store.tables import BATCH_FRAMES, FRAMES, LABELLED, MARKS

HOUR = 3600 * 10**9
START = 1_800_000_000 * 10**9
"""Unix nanoseconds of the first arrival."""


def row(number: int, **changes: Any) -> StoredFrame:
    """A frame that arrived ``number`` hours after the first."""
    values = {
        "digest": f"{number:064x}",
        "frame_id": f"f{number}",
        "stream_id": "front",
        "device_id": "car-7",
        "capture_time_unix_nano": START + number * HOUR - HOUR,
        "received_time_unix_nano": START + number * HOUR,
        "size_bytes": 1000 + number,
        "bundle_digest": "b" * 64,
        "max_predicted_loss": 0.5,
        "reason": "predicted_loss",
        "image_digest": f"{number:064x}",
        "flagged": True,
        "persons": 1,
        **changes,
    }
    return StoredFrame(**values)


@contextmanager
def database_of(folder: Path, rows: Iterable[StoredFrame]) -> Iterator[Database]:
    """A database with these rows."""
    path = folder / "store.sqlite"
    database = Database(sqlite_url(path), str(path))
    try:
        with database.connect() as connection:
            for one in rows:
                connection.execute(sa.insert(FRAMES).values(asdict(one)))
        yield database
    finally:
        database.close()


def mark(connection: sa.Connection, digest: str, said: str, at_ns: int = START) -> None:
    """Somebody marks a frame."""
    values = {"digest": digest, "mark": said, "by": "ann", "at_unix_nano": at_ns}
    connection.execute(sa.insert(MARKS).values(values))


def exported(connection: sa.Connection, digest: str, batch: str = "batch-1") -> None:
    """A frame went to annotators."""
    connection.execute(sa.insert(BATCH_FRAMES).values(batch=batch, digest=digest))


def labelled(connection: sa.Connection, digest: str, version: str = "labels-1") -> None:
    """A frame's labels came back."""
    connection.execute(sa.insert(LABELLED).values(version=version, digest=digest))
