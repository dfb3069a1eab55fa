"""Where collected frames stay: their bytes in a folder or in S3, one row for each in a database.

::

    FOLDER/objects/ab/<sha256>      serialised CollectedFrame, written once, unless S3 is named
    FOLDER/incoming/<sha256>.part   an unfinished upload
    FOLDER/store.sqlite             the rows, unless another database is named

A frame is stored when its object and then its row are durable; an object without a row is what
a crash or a restored database left. It gets its row when a folder is opened, in S3 within two days.
Nothing is acknowledged once another
folder or database has taken the place of the opened one.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from misgiving.collector.store.database import StoreReplaced, StoreUnavailable, database_url
from misgiving.collector.store.finding import check_folder, check_there, database_of, objects_of
from misgiving.collector.store.indexing import fill_rows, index_objects
from misgiving.collector.store.objects import FolderObjects, check_whole
from misgiving.collector.store.opening import Opener
from misgiving.collector.store.rows import Rows, StoredFrame, row_of
from misgiving.collector.store.uploads import Uploads, checked
from misgiving.runtime.durable import Places
from misgiving.runtime.errors import DataError, FailedPrecondition, MisgivingError
from misgiving.runtime.wire.collected import KeptFrame
from misgiving.runtime.wire.sealing import OpeningKeys

log = logging.getLogger(__name__)


class Store:
    """The fleet side's frames. Every method may be called from any thread.

    >>> with Store(Path("collected"), create=False) as store:
    ...     rows = [row for row, frame in store.frames()]
    >>> [(row.device_id, row.frame_id, row.reason) for row in rows]
    [('car-7', 'first', 'predicted_loss'), ('car-7', 'second', 'predicted_loss')]

    ``database`` is what lists, marks and campaigns are asked from and written to.

    Several processes may have one store: what they must not do at once the database decides.

    Args:
        folder: of unfinished uploads, and of all that is not named elsewhere.
        url: of another database than SQLite in the folder, ``sqlite:///FILE`` or
            ``postgresql://USER:PASSWORD@HOST/NAME``.
        objects: ``s3://BUCKET/PREFIX``, for another place of the objects than the folder.
        create: make the folder where it has no objects, and should; else that is an error.
        keys: the fleet's private ones by id, which open sealed frames.

    Raises:
        InvalidInput: a URL is another's.
        FailedPrecondition: the folder, the database or the bucket cannot be opened. From every
            method, where the database or the bucket does not answer.
    """

    def __init__(
        self,
        folder: Path | str,
        url: str | None = None,
        objects: str | None = None,
        *,
        create: bool = True,
        keys: OpeningKeys | None = None,
    ) -> None:
        folder = Path(folder)
        check_folder(folder)
        if not create:
            check_there(folder, url, objects)
        self.folder = folder
        self.opener = Opener(keys or {})
        """Reads what vehicles sealed."""
        named = None if url is None else database_url(url)
        with self._translated():
            self._objects = objects_of(folder, objects)
            self._uploads = Uploads(folder)
            self.database = database_of(folder, named)
            self._rows = Rows(self.database)
            held = [folder]
            if isinstance(self._objects, FolderObjects):
                held.append(self._objects.folder)
                index_objects(self._objects.folder, self._rows.digests, self._add_row)
            self._places = Places(held, self.database.files)
            fill_rows(self._rows.incomplete(), self._fill_row)

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder and the database."""
        self._places.close()
        self.database.close()

    def count(self) -> int:
        """Number of stored frames."""
        return self._rows.count()

    def stored(self, digest: str) -> bool:
        """Whether a frame is stored: row and object.

        Raises:
            FailedPrecondition: the store is another one than was opened.
        """
        return bool(self.known([digest]))

    def known(self, digests: Iterable[str]) -> set[str]:
        """Those of frames that are stored, as :meth:`stored` says of one."""
        asked = [checked(digest) for digest in digests]
        self._check_places()
        return {digest for digest in self._rows.known(asked) if self._objects.has(digest)}

    def offset(self, digest: str) -> int:
        """How many bytes of an unfinished upload are durable; they are made so here."""
        if not self._uploads.part(digest).exists():
            return 0
        with self._uploads.lock(digest):
            return self._uploads.offset(digest)

    def append(self, digest: str, offset: int, data: bytes) -> int:
        """Add bytes to an unfinished upload.

        Returns:
            The offset behind them.

        Raises:
            FailedPrecondition: the upload does not stand at ``offset``: another call has
                written, or the client remembers wrongly.
        """
        with self._uploads.lock(digest):
            self._uploads.append(digest, offset, data)
        return offset + len(data)

    def discard(self, digest: str) -> None:
        """Drop an unfinished upload."""
        with self._uploads.lock(digest) as part:
            self._uploads.discard(digest, part)

    def commit(
        self, digest: str, admit: Callable[[StoredFrame], StoredFrame] = lambda row: row
    ) -> bool:
        """Store a finished upload; durable when this returns.

        Args:
            digest: of the upload.
            admit: gives the row that is stored, or raises; the bytes stay, but of a DataError.

        Returns:
            False where it was stored already.

        Raises:
            DataError: the bytes, which are dropped, are not the digest's or no CollectedFrame.
            FailedPrecondition: the store is another one than was opened, or the bytes, which stay,
                are sealed for a key that is not here.
        """
        with self._uploads.lock(digest) as held:
            body = self._uploads.received(digest)
            if not body and self.stored(digest):  # a second call of the same frame was quicker
                return False
            try:
                check_whole(digest, body)
                row = admit(row_of(digest, body, self.opener.frame(body), time.time_ns()))
            except DataError:
                self._uploads.discard(digest, held)
                raise
            [new] = self._store({digest: held}, {digest: body}, [row])
            self._uploads.discard(digest, held)  # where it was stored before, or copied
            return new

    def take(
        self,
        bodies: Mapping[str, bytes],
        admit: Callable[[StoredFrame], StoredFrame] = lambda row: row,
    ) -> dict[str, bool | MisgivingError]:
        """Store frames that came whole, in one transaction; durable when this returns.

        Args:
            bodies: serialised CollectedFrames by digest.
            admit: as of :meth:`commit`.

        Returns:
            Of each frame whether it is new, or the error for which it is not stored; of those two
            that :meth:`commit` raises, or what ``admit`` raised.

        Raises:
            FailedPrecondition: the store is another one than was opened.
        """
        self._check_places()
        rows, taken = dict[str, StoredFrame](), dict[str, bool | MisgivingError]()
        for digest, body in bodies.items():
            try:
                check_whole(checked(digest), body)
                rows[digest] = admit(row_of(digest, body, self.opener.frame(body), time.time_ns()))
            except (StoreReplaced, StoreUnavailable):
                raise
            except MisgivingError as error:
                taken[digest] = error
        with ExitStack() as locks:
            # In one order, so that nobody waits for somebody who waits for him.
            held = {x: locks.enter_context(self._uploads.lock(x)) for x in sorted(rows)}
            if self._objects.in_files:
                for digest, part in held.items():
                    self._uploads.write(part, bodies[digest])
            new = self._store(held, bodies, [rows[digest] for digest in held]) if held else []
            for digest, part in held.items():
                self._uploads.discard(digest, part)
        return taken | dict(zip(held, new, strict=True))

    def holds(self, digest: str) -> bool:
        """Whether there are bytes of a frame, as an object or as an upload."""
        with self._uploads.lock(digest):
            return self._objects.has(digest) or bool(self._uploads.received(digest))

    def drop(self, digest: str) -> None:
        """Delete the bytes of a frame for good, which leaves its row."""
        with self._uploads.lock(digest) as part:
            self._uploads.discard(digest, part)
            self._objects.delete(digest)

    def drop_unfinished(self, before_ns: int | None = None) -> int:
        """Drop the uploads to which nothing was added since a time, None for all; how many."""
        digests = self._uploads.unfinished(before_ns or time.time_ns() + 1)
        for digest in digests:
            self.discard(digest)
        return len(digests)

    def complete(self, before_ns: int, stopped: Callable[[], bool] = lambda: False) -> int:
        """Give the objects without a row theirs that were made before a time; how many had none.

        Whoever makes an object now makes its row as well. Objects are not deleted instead: a
        database that was restored from a copy does not know frames that were acknowledged.

        Args:
            before_ns: the time, in Unix nanoseconds.
            stopped: whether to leave the rest to another time.
        """
        made = 0
        for number in range(256):
            prefix = f"{number:02x}"
            if not stopped() and (objects := self._objects.digests(prefix)):
                lack = objects - self._rows.digests(prefix)
                made += sum(self._complete(digest, before_ns) for digest in sorted(lack))
        if made:
            log.warning("%d objects had no row in the database, and have one now", made)
        return made

    def put(self, body: bytes) -> str:
        """Store a serialised CollectedFrame and return its digest; idempotent.

        Raises:
            DataError: the bytes are no CollectedFrame with an encoded image.
        """
        digest = hashlib.sha256(body).hexdigest()
        if isinstance(taken := self.take({digest: body})[digest], MisgivingError):
            raise taken
        return digest

    def read(self, digest: str) -> KeptFrame:
        """A stored frame.

        Raises:
            DataError: its object is missing or altered.
            FailedPrecondition: it is sealed for a key that is not here.
        """
        return self.opener.frame(self._objects.body(digest), asked=True)

    def frames(self, bundle: str = "") -> Iterator[tuple[StoredFrame, KeptFrame]]:
        """Every stored frame with its row, in order of arrival.

        Args:
            bundle: only frames whose bundle's digest begins with this.

        Raises:
            DataError: an object is missing or altered.
        """
        for row in self._rows.of_bundle(bundle):
            yield row, self.read(row.digest)

    def _store(
        self, held: Mapping[str, BinaryIO], bodies: Mapping[str, bytes], rows: Sequence[StoredFrame]
    ) -> list[bool]:
        """Store whole uploads whose locks are held; of each row, whether it is new."""
        self._check_places()
        with self.database.alone(*held) as transaction:
            made = {x: (self._durable(x, part), bodies[x]) for x, part in held.items()}
            self._objects.make(made)  # again where they are stored already: the same bytes
            new = self._rows.insert(rows, transaction)
        self._check_places()  # object and row are in the same store, under the names it has
        return new

    def _durable(self, digest: str, held: BinaryIO) -> Path:
        """The file of an upload; its bytes are durable where an object is made of them."""
        in_files = self._objects.in_files
        return self._uploads.sync(digest, held) if in_files else self._uploads.part(digest)

    def _complete(self, digest: str, before_ns: int) -> bool:
        with self._uploads.lock(digest), self.database.alone(digest) as transaction:
            try:
                body, made_ns = self._objects.body(digest), self._objects.made_ns(digest)
                if made_ns >= before_ns:
                    return False
                row = row_of(digest, body, self.opener.frame(body), made_ns)
            except StoreUnavailable:
                raise
            except (DataError, FailedPrecondition) as error:  # damaged or sealed, or gone meanwhile
                log.warning("object %s has no row in the database: %s", digest, error)
                return False
            return self._rows.insert([row], transaction)[0]

    def _check_places(self) -> None:
        if not (replaced := self._places.replaced()):
            return
        raise StoreReplaced(
            f"{replaced} is gone, or another one than was opened; expected the store to stay. "
            "Nothing is taken until it is back, or the collector is started again"
        )

    def _add_row(self, path: Path) -> bool:
        """Make the row of an object; False where it has one by now, or is not whole."""
        body = path.read_bytes()
        if hashlib.sha256(body).hexdigest() != path.name:
            return False
        row = row_of(path.name, body, self.opener.frame(body), path.stat().st_mtime_ns)
        return self._rows.insert([row])[0]

    def _fill_row(self, digest: str) -> None:
        body = self._objects.body(digest)
        self._rows.fill(row_of(digest, body, self.opener.frame(body), 0))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FailedPrecondition(
                f"store {self.folder}: {error.strerror}; expected a folder that can be written. "
                "Name another --store"
            ) from error
