"""The spool's SQLite database, and what an earlier release left in it."""

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from misgiving.runtime.durable import sync_folder
from misgiving.runtime.errors import DataError, FailedPrecondition
from misgiving.runtime.outbox.value import Entry, reason_of, score_of
from misgiving.runtime.wire.collected import read_kept, to_message
from misgiving.runtime.wire.offers import header_of

DATABASE = "spool.sqlite"

_SETUP = (
    # The lock is held until close, and falls with the process: two spools never share a folder.
    "PRAGMA locking_mode=EXCLUSIVE",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    """CREATE TABLE IF NOT EXISTS frames (
        seq INTEGER PRIMARY KEY,
        digest TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL,  -- empty of a sealed frame
        size INTEGER NOT NULL,
        refusal TEXT,  -- NULL while it is to be uploaded, else what the collector said
        body BLOB NOT NULL,
        stored_at REAL,  -- Unix time; NULL of a release that did not note it
        score REAL,  -- NULL of a release that did not note it, as the next
        reason TEXT,
        twin INTEGER NOT NULL DEFAULT 0,
        sealed INTEGER NOT NULL DEFAULT 0,
        header BLOB
    )""",
)
_ADDED = {
    "stored_at": "REAL",
    "score": "REAL",
    "reason": "TEXT",
    "twin": "INTEGER NOT NULL DEFAULT 0",
    "sealed": "INTEGER NOT NULL DEFAULT 0",
    "header": "BLOB",
}
"""Columns that earlier releases lack."""

_NEWER_THAN = 1_767_225_600.0
"""Unix time of 2026-01-01: a clock that stands before it has not been set."""


@dataclass(frozen=True, slots=True)
class Record:
    """A frame on its way to the disk."""

    digest: str
    entry: Entry
    body: bytes
    header: bytes
    """A FrameHeader."""
    sealed: bool


class Records:
    """The frames in a folder. Every change is durable when its call returns.

    Raises:
        FailedPrecondition: the folder cannot be opened, or another process has it; so do all
            methods where the disk fails.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.lock = threading.RLock()
        """Whoever holds it is alone with the database."""
        self._database = _open(folder)
        with self.transaction() as database:
            _fill_values(database)

    def close(self) -> None:
        """Let go of the database."""
        with self.lock:
            self._database.close()

    def entries(self, wall: float, now_s: float) -> dict[str, Entry]:
        """By digest, oldest first.

        Args:
            wall: Unix time, by a clock that may be wrong.
            now_s: the same moment on the clock of ``Entry.since_s``.
        """
        columns = "digest, name, size, refusal, stored_at, score, reason, twin, sealed"
        with self.transaction() as database:
            rows = database.execute(f"SELECT {columns} FROM frames ORDER BY seq").fetchall()
        return {
            digest: Entry(
                name or digest[:16],
                size,
                why is not None,
                stored_at or 0.0,
                now_s - _age(stored_at, wall),
                0.0 if score is None else score,
                reason or "",
                bool(twin),
                "" if sealed else digest,
            )
            for digest, name, size, why, stored_at, score, reason, twin, sealed in rows
        }

    def change(self, new: Iterable[Record], gone: Sequence[str], twins: Sequence[str]) -> None:
        """Add frames, delete others, and note of others that one resembles them: in one commit."""
        with self.transaction() as database:
            database.executemany("DELETE FROM frames WHERE digest = ?", [[one] for one in gone])
            database.executemany(
                "INSERT OR IGNORE INTO frames (digest, name, size, body, stored_at, score, reason, "
                "twin, sealed, header) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                map(_row, new),
            )
            database.executemany(
                "UPDATE frames SET twin = 1 WHERE digest = ?", [[x] for x in twins]
            )

    def body(self, digest: str) -> bytes:
        """Raises KeyError where there is no such frame."""
        return self._blob("body", digest)

    def header(self, digest: str) -> bytes:
        """Raises KeyError where there is no such frame; empty of one that could not be read."""
        return self._blob("header", digest)

    def _blob(self, column: str, digest: str) -> bytes:
        query = f"SELECT {column} FROM frames WHERE digest = ?"
        with self.transaction() as database:
            row = database.execute(query, [digest]).fetchone()
        if row is None:
            raise KeyError(digest)
        return bytes(row[0] or b"")

    def refuse(self, digest: str, why: str) -> None:
        """Note what the collector said; of a sealed frame not that, for it may name the frame."""
        with self.transaction() as database:
            database.execute(
                "UPDATE frames SET refusal = iif(sealed, 'refused', ?) WHERE digest = ?",
                [why, digest],
            )

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The database, of which nobody else has anything meanwhile."""
        try:
            with self.lock, self._database:
                yield self._database
        except sqlite3.Error as error:
            raise FailedPrecondition(
                f"spool {self._folder}: {error}; {_remedy(str(error), self._folder)}"
            ) from error


def _row(new: Record) -> tuple[object, ...]:
    one, name = new.entry, "" if new.sealed else new.entry.name
    value = (one.stored_at, one.score, one.reason, one.twin)
    return (new.digest, name, one.size, new.body, *value, new.sealed, new.header)


def _open(folder: Path) -> sqlite3.Connection:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(folder / DATABASE, timeout=0, check_same_thread=False)
        try:
            for statement in _SETUP:
                database.execute(statement)
            for name in _ADDED.keys() - _columns(database):
                database.execute(f"ALTER TABLE frames ADD COLUMN {name} {_ADDED[name]}")
            sync_folder(folder)
        except BaseException:
            database.close()
            raise
    except OSError as error:
        raise FailedPrecondition(
            f"spool {folder} cannot be opened: {error.strerror}; expected a folder that can be "
            "written. Name another one"
        ) from error
    except sqlite3.Error as error:
        raise FailedPrecondition(
            f"spool {folder / DATABASE} cannot be opened: {error}; {_remedy(str(error), folder)}"
        ) from error
    return database


def _remedy(problem: str, folder: Path) -> str:
    """What to do about what SQLite says; a spool that is merely out of room holds frames."""
    if "locked" in problem:
        return "expected a spool that no other process uses. Stop the other process"
    if "not a database" in problem or "malformed" in problem:
        return "expected a spool's database. Move it away to start an empty spool"
    if not os.access(folder, os.W_OK):  # SQLite calls that an I/O error
        return "expected a folder that can be written; this one is read-only. Name another one"
    return "expected a disk that can be written. Free some space, or name another folder"


def _fill_values(database: sqlite3.Connection) -> None:
    """What an earlier release did not note of its frames; of one that it damaged, nothing."""
    for (seq,) in database.execute("SELECT seq FROM frames WHERE score IS NULL").fetchall():
        (body,) = database.execute("SELECT body FROM frames WHERE seq = ?", [seq]).fetchone()
        try:
            frame = read_kept(body)
            value = (score_of(frame), reason_of(frame), header_of(to_message(frame)))
        except DataError:
            value = (0.0, "", b"")
        database.execute(
            "UPDATE frames SET score = ?, reason = ?, header = ? WHERE seq = ?", [*value, seq]
        )


def _age(stored_at: float | None, wall: float) -> float:
    """Seconds; 0 where that is not known, or the clock was set since: one without a battery starts
    long ago."""
    if not stored_at or stored_at < _NEWER_THAN <= wall:
        return 0.0
    return max(0.0, wall - stored_at)


def _columns(database: sqlite3.Connection) -> set[str]:
    return {name for _, name, *_ in database.execute("PRAGMA table_info(frames)")}
