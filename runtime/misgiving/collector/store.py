"""Where collected frames stay: their bytes in a folder, one row for each in a database.

::

    FOLDER/objects/ab/<sha256>      serialised CollectedFrame, written once
    FOLDER/incoming/<sha256>.part   an unfinished upload
    FOLDER/store.sqlite             the rows, unless another database is named

A frame is stored when its object and then its row are durable; an object without a row is what
a crash or a restored database left, and gets its row when the store is opened. Nothing is
acknowledged once another folder or database has taken the place of the opened one.
"""

import hashlib
import logging
import math
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from google.protobuf.message import DecodeError

from misgiving.collector.indexing import index_objects
from misgiving.runtime.durable import Places, sync_folder, write_durably
from misgiving.runtime.errors import DataError, FailedPrecondition, InvalidInput
from misgiving.runtime.nouns import Reason
from misgiving.runtime.wire.collected import KeptFrame, to_kept
from misgiving.v1.fleet_pb2 import CollectedFrame

log = logging.getLogger(__name__)

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
    """The strongest of its persons: ``predicted_loss``, ``audit`` or empty."""


class Store:
    """The fleet side's frames. Every method may be called from any thread.

    >>> with Store(Path("collected"), create=False) as store:
    ...     rows = [row for row, frame in store.frames()]
    >>> [(row.device_id, row.frame_id, row.reason) for row in rows]
    [('car-7', 'first', 'predicted_loss'), ('car-7', 'second', 'predicted_loss')]

    Args:
        folder: of the objects.
        url: SQLAlchemy's name of another database than SQLite in the folder.
        create: make the folder where it is missing; else that is an error.

    Raises:
        FailedPrecondition: the folder or the database cannot be opened.
    """

    def __init__(self, folder: Path, url: str | None = None, *, create: bool = True) -> None:
        if not create and not (folder / "objects").is_dir():
            raise FailedPrecondition(
                f"{folder} is no store; expected a folder written by 'misgiving collect'. "
                "Name it with --store"
            )
        self.folder = folder
        self._locks = tuple(threading.Lock() for _ in range(16))
        with self._translated():
            for part in ("objects", "incoming"):
                (folder / part).mkdir(parents=True, exist_ok=True)
            sync_folder(folder)
            self._engine = _engine(url or sa.URL.create("sqlite", database=str(_database(folder))))
            _tables.create_all(self._engine)
            self._places = Places([folder, folder / "objects"], _file_of(self._engine))
            self._replaced = False
            index_objects(folder / "objects", self._digests, self._add_row)

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder and the database."""
        self._places.close()
        self._engine.dispose()

    def count(self) -> int:
        """Number of stored frames."""
        with self._translated(), self._engine.connect() as database:
            return database.scalar(sa.select(sa.func.count()).select_from(frames_table)) or 0

    def stored(self, digest: str) -> bool:
        """Whether a frame is stored: row and object.

        Raises:
            FailedPrecondition: the store is another one than was opened.
        """
        self._check_places()
        row = sa.select(frames_table.c.digest).where(frames_table.c.digest == _checked(digest))
        with self._translated(), self._engine.connect() as database:
            return database.scalar(row) is not None and self._object(digest).is_file()

    def offset(self, digest: str) -> int:
        """How many bytes of an unfinished upload are durable; they are made so here."""
        with self._lock(digest):
            try:
                file = self._part(digest).open("rb")
            except FileNotFoundError:
                return 0
            with file:
                os.fsync(file.fileno())
                return os.fstat(file.fileno()).st_size

    def append(self, digest: str, offset: int, data: bytes) -> int:
        """Add bytes to an unfinished upload.

        Returns:
            The offset behind them.

        Raises:
            FailedPrecondition: the upload does not stand at ``offset``: another call has
                written, or the client remembers wrongly.
        """
        with self._lock(digest):
            part = self._part(digest)
            stands = part.stat().st_size if part.exists() else 0
            if stands != offset:
                raise wrong_offset(digest, offset, stands)
            with part.open("ab") as file:
                file.write(data)
        return offset + len(data)

    def discard(self, digest: str) -> None:
        """Drop an unfinished upload."""
        with self._lock(digest):
            self._part(digest).unlink(missing_ok=True)

    def commit(self, digest: str) -> bool:
        """Store a finished upload; durable when this returns.

        Returns:
            False where it was stored already.

        Raises:
            DataError: the bytes, which are dropped, are not the digest's or no CollectedFrame.
            FailedPrecondition: the store is another one than was opened.
        """
        with self._lock(digest):
            part = self._part(digest)
            try:
                body = part.read_bytes()
            except FileNotFoundError:  # a second call of the same frame was quicker
                body = b""
            try:
                if not body and self.stored(digest):
                    return False
                if (got := hashlib.sha256(body).hexdigest()) != digest:
                    raise DataError(
                        f"upload has sha256 {got[:12]}… over {len(body)} bytes; expected "
                        f"{digest[:12]}…. The bytes were altered: send them again from 0"
                    )
                new = self._put(digest, body)
            except DataError:
                part.unlink(missing_ok=True)
                raise
            part.unlink(missing_ok=True)
            return new

    def put(self, body: bytes) -> str:
        """Store a serialised CollectedFrame and return its digest; idempotent.

        Raises:
            DataError: the bytes are no CollectedFrame with an encoded image.
        """
        digest = hashlib.sha256(body).hexdigest()
        self._put(digest, body)
        return digest

    def read(self, digest: str) -> KeptFrame:
        """A stored frame.

        Raises:
            DataError: its object is missing or altered.
        """
        path = self._object(_checked(digest))
        try:
            body = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}; restore it from a backup") from error
        if hashlib.sha256(body).hexdigest() != digest:
            raise DataError(f"{path} is altered: its sha256 differs from its name. Restore it")
        return parse(body)

    def frames(self, bundle: str = "") -> Iterator[tuple[StoredFrame, KeptFrame]]:
        """Every stored frame with its row, in order of arrival.

        Args:
            bundle: only frames whose bundle's digest begins with this.

        Raises:
            DataError: an object is missing or altered.
        """
        rows = sa.select(frames_table).order_by(
            frames_table.c.received_time_unix_nano, frames_table.c.digest
        )
        rows = rows.where(frames_table.c.bundle_digest.startswith(bundle, autoescape=True))
        with self._translated(), self._engine.connect() as database:
            found = [StoredFrame(**row) for row in database.execute(rows).mappings()]
        for row in found:
            yield row, self.read(row.digest)

    def _put(self, digest: str, body: bytes) -> bool:
        row = _row(digest, body, parse(body))
        if self.stored(digest):
            return False
        path = self._object(digest)
        path.parent.mkdir(exist_ok=True)
        sync_folder(path.parent.parent)
        write_durably(path, body)
        with self._translated():
            new = self._insert(asdict(row))
        self._check_places()  # object and row are in the same store, under the names it has
        return new

    def _insert(self, row: dict[str, Any]) -> bool:
        try:
            with self._engine.begin() as database:
                database.execute(sa.insert(frames_table), row)
        except sa.exc.IntegrityError:  # another process stored it at the same moment
            return False
        return True

    def _check_places(self) -> None:
        if not (replaced := self._places.replaced()):
            return
        error = FailedPrecondition(
            f"{replaced} is gone, or another one than was opened; expected the store to stay. "
            "Nothing is taken until the collector is started again"
        )
        if not self._replaced:  # once: the vehicles will ask again and again
            self._replaced = True
            log.error("%s", error)
        raise error

    def _digests(self, prefix: str) -> set[str]:
        """Digests of the rows that begin so."""
        digest = frames_table.c.digest
        rows = sa.select(digest).where(digest >= prefix, digest < f"{prefix}g")  # behind any hex
        with self._engine.connect() as database:
            return set(database.scalars(rows))

    def _add_row(self, path: Path) -> bool:
        """Make the row of an object; False where it has one by now, or is not whole."""
        body = path.read_bytes()
        if hashlib.sha256(body).hexdigest() != path.name:
            return False
        row = asdict(_row(path.name, body, parse(body)))
        return self._insert(row | {"received_time_unix_nano": path.stat().st_mtime_ns})

    def _object(self, digest: str) -> Path:
        return self.folder / "objects" / digest[:2] / digest

    def _part(self, digest: str) -> Path:
        return self.folder / "incoming" / f"{_checked(digest)}.part"

    def _lock(self, digest: str) -> threading.Lock:
        return self._locks[int(_checked(digest)[0], 16)]

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FailedPrecondition(
                f"store {self.folder}: {error.strerror}; expected a folder that can be written. "
                "Name another --store"
            ) from error
        except sa.exc.SQLAlchemyError as error:
            cause = str(getattr(error, "orig", None) or error).partition("\n")[0]
            damaged = "not a database" in cause or "malformed" in cause
            hint = "Restore it" if damaged else "Free its disk, or let it be written"
            raise FailedPrecondition(
                f"database of store {self.folder}: {cause}; expected one written by "
                f"'misgiving collect'. {hint}, or name another --store"
            ) from error


def parse(body: bytes) -> KeptFrame:
    """The message in bytes that claim to be a collected frame.

    Raises:
        DataError: they are not, or it lacks its encoded image.
    """
    try:
        message = CollectedFrame.FromString(body)
    except DecodeError as error:
        raise DataError(
            f"{len(body)} bytes are no CollectedFrame: {error}; send one as the spool writes it"
        ) from error
    if not message.frame.image.encoded:
        raise DataError(
            f"frame {message.frame.frame_id!r} has no encoded image; expected a JPEG or PNG in it. "
            "Send a CollectedFrame as the spool writes it"
        )
    return to_kept(message)


def wrong_offset(digest: str, offset: int, stands: int) -> FailedPrecondition:
    """The error of an upload that does not go on where the durable bytes end."""
    return FailedPrecondition(
        f"upload of {digest[:12]}… goes on at byte {offset}; {stands} bytes are durable. "
        f"Send the rest from byte {stands}"
    )


def reason_of(frame: KeptFrame) -> str:
    """Why a frame was collected: the strongest reason among its persons."""
    kept = {person.flag.kept for person in frame.persons}
    return next((reason.value for reason in Reason if reason in kept), "")


def _row(digest: str, body: bytes, frame: KeptFrame) -> StoredFrame:
    losses = [person.predicted_loss for person in frame.persons]
    finite = bool(losses) and all(map(math.isfinite, losses))
    return StoredFrame(
        digest=digest,
        frame_id=frame.frame.frame_id,
        stream_id=frame.frame.stream_id,
        device_id=frame.device_id,
        capture_time_unix_nano=frame.frame.capture_time_unix_nano,
        received_time_unix_nano=time.time_ns(),
        size_bytes=len(body),
        bundle_digest=frame.bundle_digest,
        max_predicted_loss=max(losses) if finite else None,
        reason=reason_of(frame),
    )


def _checked(digest: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise InvalidInput(f"digest is {digest[:80]!r}; expected a sha256 as 64 hex digits")
    return digest


def _database(folder: Path) -> Path:
    return folder / "store.sqlite"


def _engine(url: str | sa.URL) -> sa.Engine:
    engine = sa.create_engine(url)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _set_up_sqlite)
    return engine


def _file_of(engine: sa.Engine) -> list[Path]:
    """The database's file; none where it is a server's."""
    name = engine.url.database if engine.dialect.name == "sqlite" else None
    return [Path(name)] if name and os.path.isfile(name) else []


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
