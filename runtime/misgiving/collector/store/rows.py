"""The rows of a store: one for each frame, in SQLite or another database."""

import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from misgiving.runtime.nouns import Reason
from misgiving.runtime.wire.collected import KeptFrame

_tables = sa.MetaData()
frames_table = sa.Table(
    "frames",
    _tables,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("frame_id", sa.Text, nullable=False),
    sa.Column("stream_id", sa.Text, nullable=False),
    sa.Column("device_id", sa.Text, nullable=False, index=True),
    sa.Column("capture_time_unix_nano", sa.BigInteger, nullable=False),
    sa.Column("received_time_unix_nano", sa.BigInteger, nullable=False, index=True),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("bundle_digest", sa.Text, nullable=False, index=True),
    sa.Column("max_predicted_loss", sa.Double, nullable=True),
    sa.Column("reason", sa.Text, nullable=False),
)


@dataclass(frozen=True, kw_only=True)
class StoredFrame:
    """One row of a :class:`Store`: what a list needs without opening the object."""

    digest: str
    frame_id: str
    stream_id: str
    device_id: str
    capture_time_unix_nano: int
    """Zero where unknown."""
    received_time_unix_nano: int
    size_bytes: int
    bundle_digest: str
    max_predicted_loss: float | None
    """None where there is no person, or one whose loss is not finite."""
    reason: str
    """The strongest of its persons, or of nobody: ``predicted_loss``, ``audit`` or empty."""


class Rows:
    """The table of frames.

    Args:
        url: SQLAlchemy's name of the database.
    """

    def __init__(self, url: str | sa.URL) -> None:
        self._engine = _engine(url)
        _tables.create_all(self._engine)

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    @property
    def files(self) -> list[Path]:
        """The database's file; none where it is a server's."""
        name = self._engine.url.database if self._engine.dialect.name == "sqlite" else None
        return [Path(name)] if name and os.path.isfile(name) else []

    def count(self) -> int:
        with self._engine.connect() as database:
            return database.scalar(sa.select(sa.func.count()).select_from(frames_table)) or 0

    def has(self, digest: str) -> bool:
        row = sa.select(frames_table.c.digest).where(frames_table.c.digest == digest)
        with self._engine.connect() as database:
            return database.scalar(row) is not None

    def insert(self, row: StoredFrame) -> bool:
        """Make a row durable; False where it is there already."""
        try:
            with self._engine.begin() as database:
                database.execute(sa.insert(frames_table), asdict(row))
        except sa.exc.IntegrityError:  # another process stored it at the same moment
            return False
        return True

    def of_bundle(self, bundle: str) -> list[StoredFrame]:
        """The rows of bundles whose digests begin so, in order of arrival."""
        rows = sa.select(frames_table).order_by(
            frames_table.c.received_time_unix_nano, frames_table.c.digest
        )
        rows = rows.where(frames_table.c.bundle_digest.startswith(bundle, autoescape=True))
        with self._engine.connect() as database:
            return [StoredFrame(**row) for row in database.execute(rows).mappings()]

    def digests(self, prefix: str) -> set[str]:
        """Digests that begin so."""
        digest = frames_table.c.digest
        rows = sa.select(digest).where(digest >= prefix, digest < f"{prefix}g")  # behind any hex
        with self._engine.connect() as database:
            return set(database.scalars(rows))


def row_of(digest: str, body: bytes, frame: KeptFrame, received_ns: int) -> StoredFrame:
    """The row of a frame that came at a time, in Unix nanoseconds."""
    losses = [person.predicted_loss for person in frame.persons]
    finite = bool(losses) and all(map(math.isfinite, losses))
    return StoredFrame(
        digest=digest,
        frame_id=frame.frame.frame_id,
        stream_id=frame.frame.stream_id,
        device_id=frame.device_id,
        capture_time_unix_nano=frame.frame.capture_time_unix_nano,
        received_time_unix_nano=received_ns,
        size_bytes=len(body),
        bundle_digest=frame.bundle_digest,
        max_predicted_loss=max(losses) if finite else None,
        reason=reason_of(frame),
    )


def reason_of(frame: KeptFrame) -> str:
    """Why a frame was collected: the strongest reason among its persons."""
    kept = {decision.kept for decision in frame.decisions}
    return next((reason.value for reason in Reason if reason in kept), "")


def _engine(url: str | sa.URL) -> sa.Engine:
    engine = sa.create_engine(url)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _set_up_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
