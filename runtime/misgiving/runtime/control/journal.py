"""Reports that the fleet side does not have yet, and the campaign that it gave last, on disk."""

import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from misgiving.runtime.errors import FailedPrecondition

log = logging.getLogger(__name__)

JOURNAL = "reports.sqlite"

MOST = 7 * 24 * 60
"""Reports that wait, a week's; beyond it the oldest go, which the fleet side sees as a gap."""

_SETUP = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "CREATE TABLE IF NOT EXISTS reports (at INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS campaign (one INTEGER PRIMARY KEY CHECK (one = 1), body BLOB)",
)


class Journal:
    """A file in a spool's folder, which belongs to one process at a time. For one thread at a time.

    Args:
        folder: of the spool, which is open.
        most: reports that may wait.

    Raises:
        FailedPrecondition: the file cannot be opened.
    """

    def __init__(self, folder: Path, most: int = MOST) -> None:
        self._most = most
        path = folder / JOURNAL
        try:
            self._database = _opened(path)
        except sqlite3.Error as error:
            raise FailedPrecondition(
                f"{path} cannot be opened: {error}; expected the reports of a vehicle on a disk "
                "that can be written. Free some space, or move the file away"
            ) from error

    def add(self, report: bytes) -> None:
        """Keep a report until it is removed; durable when this returns."""
        with self._database as database:
            database.execute("INSERT INTO reports (body) VALUES (?)", [report])
            oldest = "SELECT at FROM reports ORDER BY at DESC LIMIT 1 OFFSET ?"
            gone = database.execute(f"DELETE FROM reports WHERE at <= ({oldest})", [self._most])
        if gone.rowcount:
            log.warning("the oldest report is dropped: %d wait for the collector", self._most)

    def reports(self) -> Iterator[tuple[int, bytes]]:
        """Those that wait, oldest first, each with the number by which it is removed."""
        last = 0
        query = "SELECT at, body FROM reports WHERE at > ? ORDER BY at LIMIT 1"
        while row := self._database.execute(query, [last]).fetchone():
            last = row[0]
            yield last, bytes(row[1])

    def remove(self, number: int) -> None:
        """Forget a report."""
        with self._database as database:
            database.execute("DELETE FROM reports WHERE at = ?", [number])

    @property
    def campaign(self) -> bytes:
        """The one that was given last; empty where there is none."""
        row = self._database.execute("SELECT body FROM campaign").fetchone()
        return bytes(row[0]) if row else b""

    @campaign.setter
    def campaign(self, body: bytes) -> None:
        if body == self.campaign:
            return
        with self._database as database:
            database.execute("INSERT OR REPLACE INTO campaign VALUES (1, ?)", [body])

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()


def _opened(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False)
    try:
        for statement in _SETUP:
            database.execute(statement)
    except BaseException:
        database.close()
        raise
    return database
