"""Durable store-and-forward on the vehicle: what is stored stays until the fleet side has it.

:meth:`Spool.offer` only puts a frame into a bounded queue; one thread serialises the frames and
commits them. A frame is *stored* once its commit has returned from fsync, and not before.
Pending and refused frames survive a restart; the counters start again at zero.
"""

import hashlib
import logging
import os
import queue
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from misgiving.runtime.durable import Places, sync_folder
from misgiving.runtime.errors import FailedPrecondition, ResourceExhausted
from misgiving.runtime.wire.collected import KeptFrame, to_message
from misgiving.runtime.wire.offers import header_in

log = logging.getLogger(__name__)

DATABASE = "spool.sqlite"

_SETUP = (
    # The lock is held until close, and falls with the process: two spools never share a folder.
    "PRAGMA locking_mode=EXCLUSIVE",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    """CREATE TABLE IF NOT EXISTS frames (
        seq INTEGER PRIMARY KEY,
        digest TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL,
        size INTEGER NOT NULL,
        refusal TEXT,  -- NULL while it is to be uploaded, else what the collector said
        body BLOB NOT NULL,
        stored_at REAL  -- Unix time; NULL of a release that did not note it
    )""",
)


@dataclass(frozen=True)
class SpoolCounts:
    """What became of the frames. Offered = stored + lost + those still in the queue."""

    offered: int
    """Since the start, as the four below."""
    stored: int
    """Made durable; a frame that was there already counts again."""
    lost: int
    """Never stored: queue or disk full, the spool replaced by another one, or a frame that cannot
    be serialised."""
    evicted: int
    """Deleted to keep the quota."""
    declined: int
    """Removed because the collector has written down that it does not want them."""
    uploaded: int
    """Removed because the collector has them."""
    pending: int
    """Stored and not uploaded, now."""
    refused: int
    """Kept, but the collector does not want them, now."""
    bytes: int
    """Size of those pending and refused, now."""
    uploaded_bytes: int
    """Size of those uploaded, since the start."""
    oldest_age_s: float
    """Since the oldest pending frame was stored, before this process by the wall clock; 0 where
    none is pending."""

    def line(self) -> str:
        """What became of them, for people."""
        return (
            f"spool: {self.stored:,} frames stored, {self.lost:,} lost, {self.evicted:,} evicted, "
            f"{self.uploaded:,} uploaded; {self.pending:,} pending"
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """What is remembered of a stored frame."""

    name: str
    size: int
    refused: bool = False
    stored_at: float = 0.0
    """Unix time; 0 where an earlier release stored it."""
    since_s: float = 0.0
    """The same on the monotonic clock of this process, which nobody sets."""


class Spool:
    """A folder of frames on their way to the fleet side.

    Args:
        folder: made where it is missing; belongs to one process at a time.
        quota_bytes: of stored frames; beyond it the oldest go, refused ones first.
        queue_size: frames that wait for the disk; beyond it they are lost.
        queue_bytes: of these frames together; a stalled disk must not take the memory.

    Raises:
        FailedPrecondition: the folder cannot be opened, or another process has it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        quota_bytes: int = 1 << 30,
        queue_size: int = 64,
        queue_bytes: int = 256 << 20,
    ) -> None:
        self.arrived = threading.Event()
        """Set whenever a frame has been stored; the one uploader clears it."""
        self._folder = folder
        self._quota_bytes = quota_bytes
        self._queue: queue.Queue[KeptFrame | None] = queue.Queue(queue_size)
        self._queue_bytes = queue_bytes
        self._queued_bytes = 0
        self._turned_away = 0  # for want of room in the queue, since it was last empty
        self._counts: Counter[str] = Counter()
        self._state = threading.Lock()  # counters and entries; never held during disk I/O
        self._disk = threading.Lock()  # the connection
        self._closed = False
        self._database = _open(folder)
        self._places = Places([folder], [folder / DATABASE])
        with self._transaction() as database:
            self._entries = _read_entries(database)
        self._writer = threading.Thread(target=self._write, name="spool", daemon=True)
        self._writer.start()

    def offer(self, frame: KeptFrame) -> bool:
        """Hand over a frame, whose image must not be changed from then on; never blocks.

        Returns:
            False where the frame is lost: the queue is full, or the spool closed.
        """
        size = frame.size
        with self._state:
            self._counts["offered"] += 1
            try:
                if self._closed or self._queued_bytes + size > self._queue_bytes:
                    raise queue.Full
                self._queue.put_nowait(frame)
            except queue.Full:
                self._counts["lost"] += 1
                self._turned_away += 1
                first = self._turned_away == 1
            else:
                self._queued_bytes += size
                return True
        if first:
            why = "the spool is closed" if self._closed else "too many wait for the disk"
            log.warning("frame %s is lost: %s", frame.frame.name, why, extra=frame.frame.ids)
        return False

    def pending(self) -> list[str]:
        """Digests of the frames to be uploaded, oldest first."""
        with self._state:
            return [digest for digest, entry in self._entries.items() if not entry.refused]

    def read(self, digest: str) -> bytes:
        """The serialised frame.

        Raises:
            KeyError: it is not, or no longer, in the spool.
        """
        with self._transaction() as database:
            row = database.execute("SELECT body FROM frames WHERE digest = ?", [digest]).fetchone()
        if row is None:
            raise KeyError(digest)
        return bytes(row[0])

    def header(self, digest: str) -> tuple[bytes, int]:
        """What is said of a frame before it travels, see ``wire/offers.py``, and its bytes' number.

        Raises:
            KeyError: it is not, or no longer, in the spool.
        """
        body = self.read(digest)
        return header_in(body), len(body)

    def remove(self, digest: str) -> None:
        """Forget a frame that the collector has acknowledged."""
        if entry := self._delete(digest, "uploaded"):
            with self._state:
                self._counts["uploaded_bytes"] += entry.size

    def decline(self, digest: str, why: str) -> None:
        """Forget a frame that the collector has written down as not wanted."""
        if entry := self._delete(digest, "declined"):
            log.warning("frame %s (%s) is declined by the collector: %s", entry.name, digest, why)

    def _delete(self, digest: str, counted: str) -> Entry | None:
        with self._transaction() as database:
            database.execute("DELETE FROM frames WHERE digest = ?", [digest])
            database.commit()
            with self._state:
                entry = self._entries.pop(digest, None)
                self._counts[counted] += entry is not None
        return entry

    def refuse(self, digest: str, why: str) -> None:
        """Move a frame aside which the collector will never take; it stays on disk."""
        with self._transaction() as database:
            database.execute("UPDATE frames SET refusal = ? WHERE digest = ?", [why, digest])
            database.commit()
            with self._state:
                if (entry := self._entries.get(digest)) is None:
                    return
                self._entries[digest] = replace(entry, refused=True)
        log.warning("frame %s (%s) is refused by the collector: %s", entry.name, digest, why)

    def counts(self) -> SpoolCounts:
        """The counters of this moment, without disk I/O."""
        with self._state:
            entries = list(self._entries.values())
            names = (
                "offered",
                "stored",
                "lost",
                "evicted",
                "declined",
                "uploaded",
                "uploaded_bytes",
            )
            since_start = {name: self._counts[name] for name in names}
        pending = [entry for entry in entries if not entry.refused]
        known = bool(pending and pending[0].stored_at)
        return SpoolCounts(
            **since_start,
            pending=len(pending),
            refused=len(entries) - len(pending),
            bytes=sum(entry.size for entry in entries),
            oldest_age_s=time.monotonic() - pending[0].since_s if known else 0.0,
        )

    def close(self) -> None:
        """Store what is queued, then let go of the folder."""
        with self._state:
            if self._closed:
                return
            self._closed = True
        self._queue.put(None)
        self._writer.join()
        with self._disk:
            self._database.close()
            self._places.close()

    def _write(self) -> None:
        in_a_row = 0
        while (frame := self._queue.get()) is not None:
            try:
                self._store(frame)
            except Exception as error:  # whatever it is, the next frame gets its chance
                in_a_row += 1
                self._lose(frame, error, logging.WARNING if in_a_row == 1 else logging.DEBUG)
            else:
                if in_a_row > 1:
                    log.warning("the spool stores again; %d frames in a row are lost", in_a_row)
                in_a_row = 0
            with self._state:
                self._queued_bytes -= frame.size
                turned_away = self._turned_away if self._queue.empty() else 0
                self._turned_away -= turned_away
            if turned_away:
                log.warning("the spool has room again; %d frames are lost", turned_away)

    def _lose(self, frame: KeptFrame, error: Exception, level: int) -> None:
        """Of losses in a row the first is told: a full disk would fill the log, too."""
        with self._state:
            self._counts["lost"] += 1
        log.log(level, "frame %s is lost: %s", frame.frame.name, error, extra=frame.frame.ids)

    def _store(self, frame: KeptFrame) -> None:
        body = to_message(frame).SerializeToString(deterministic=True)
        digest = hashlib.sha256(body).hexdigest()
        entry = Entry(frame.frame.name, len(body), False, time.time(), time.monotonic())
        self._check_places()
        evicted: list[Entry] = []
        with self._transaction() as database:
            if digest not in self._entries:
                victims = choose_victims(self._entries, entry.size, self._quota_bytes)
                database.executemany("DELETE FROM frames WHERE digest = ?", [[v] for v in victims])
                database.execute(
                    "INSERT OR IGNORE INTO frames (digest, name, size, body, stored_at) "
                    "VALUES (?, ?, ?, ?, ?)",
                    [digest, entry.name, entry.size, body, entry.stored_at],
                )
                database.commit()
                evicted = self._remember(digest, entry, victims)
        for victim in evicted:
            log.warning("frame %s is evicted: the spool's quota is full", victim.name)
        with self._state:
            self._counts["stored"] += 1
        self.arrived.set()

    def _check_places(self) -> None:
        """What goes into a file that has lost its name would be gone with this process."""
        if replaced := self._places.replaced():
            raise FailedPrecondition(
                f"{replaced} is gone, or another one than was opened; expected the spool to stay. "
                "Start the server again"
            )

    def _remember(self, digest: str, entry: Entry, victims: list[str]) -> list[Entry]:
        with self._state:
            self._entries[digest] = entry
            self._counts["evicted"] += len(victims)
            return [self._entries.pop(victim) for victim in victims]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._disk, self._database:
                yield self._database
        except sqlite3.Error as error:
            raise FailedPrecondition(
                f"spool {self._folder}: {error}; {_remedy(str(error), self._folder)}"
            ) from error


def choose_victims(entries: dict[str, Entry], size: int, quota_bytes: int) -> list[str]:
    """Which frames go so that ``size`` bytes more fit the quota: refused ones, then the oldest.

    Args:
        entries: by digest, oldest first.
        size: of the new frame, in bytes.
        quota_bytes: of all frames together.

    Raises:
        ResourceExhausted: the new frame alone is larger than the quota.
    """
    if size > quota_bytes:
        raise ResourceExhausted(
            f"it has {size:,} bytes; the spool's quota is {quota_bytes:,}. Raise the quota"
        )
    excess = sum(entry.size for entry in entries.values()) + size - quota_bytes
    victims: list[str] = []
    for digest in sorted(entries, key=lambda digest: not entries[digest].refused):
        if excess <= 0:
            break
        victims.append(digest)
        excess -= entries[digest].size
    return victims


def _open(folder: Path) -> sqlite3.Connection:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(folder / DATABASE, timeout=0, check_same_thread=False)
        try:
            for statement in _SETUP:
                database.execute(statement)
            if "stored_at" not in _columns(database):
                database.execute("ALTER TABLE frames ADD COLUMN stored_at REAL")
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


def _read_entries(database: sqlite3.Connection) -> dict[str, Entry]:
    rows = database.execute(
        "SELECT digest, name, size, stored_at, refusal FROM frames ORDER BY seq"
    )
    wall, now = time.time(), time.monotonic()
    return {
        digest: Entry(
            name, size, why is not None, stored_at or 0.0, now - max(0.0, wall - (stored_at or 0.0))
        )
        for digest, name, size, stored_at, why in rows
    }


def _columns(database: sqlite3.Connection) -> set[str]:
    return {name for _, name, *_ in database.execute("PRAGMA table_info(frames)")}
