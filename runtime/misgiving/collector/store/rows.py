"""The rows of a store: one for each frame, in SQLite or another database."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import islice

import numpy as np
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from misgiving.collector.store.database import Database
from misgiving.collector.store.tables import FRAMES
from misgiving.collector.store.together import Together
from misgiving.runtime.nouns import Person, Reason
from misgiving.runtime.wire.collected import KeptFrame
from misgiving.runtime.wire.sealing import sealed_with


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
    image_digest: str | None = None
    """sha256 of the encoded image; None, as in all below, where an earlier release made the row
    and the object cannot be read."""
    flagged: bool | None = None
    """Whether a person is."""
    failure_probability: float | None = None
    """Of the person with the greatest predicted loss, as the next two."""
    threshold: float | None = None
    embedding: bytes | None = None
    """(D,) float32, little-endian; None where it has none."""
    sampling_probability: float | None = None
    """With which the vehicle kept the frame, for whichever of its persons; weight by its inverse.
    """
    persons: int | None = None
    campaign: str = ""
    engine: str = ""
    precision: str = ""
    software_version: str = ""
    sealed_with: str = ""
    identity: str = ""
    mark: str = field(default="", compare=False)
    """What somebody said of it last; the database writes it, as the next one."""
    failed: bool | None = field(default=None, compare=False)
    """Whether the network did, as somebody judged."""


class Rows:
    """The table of frames.

    Args:
        database: that has it.
    """

    def __init__(self, database: Database) -> None:
        self.connect = database.connect
        self._together = Together(self._insert_all)

    def count(self) -> int:
        with self.connect(reads=True) as database:
            return database.scalar(sa.select(sa.func.count()).select_from(FRAMES)) or 0

    def known(self, digests: Sequence[str]) -> set[str]:
        """Those that have a row."""
        with self.connect(reads=True) as database:
            return set(database.scalars(_KNOWN, {"digests": digests}))

    def insert(
        self, rows: Sequence[StoredFrame], transaction: sa.Connection | None = None
    ) -> list[bool]:
        """Make rows durable; of each False where it is there already, by whichever process.

        Args:
            rows: to insert.
            transaction: in which they are inserted, and with which they become durable. Without
                one all threads that insert share one: SQLite syncs once for them.
        """
        return self._together.do(rows) if transaction is None else _insert(transaction, rows)

    def _insert_all(self, some: Sequence[Sequence[StoredFrame]]) -> list[list[bool]]:
        with self.connect() as database:
            new = iter(_insert(database, [row for rows in some for row in rows]))
        return [list(islice(new, len(rows))) for rows in some]

    def fill(self, row: StoredFrame) -> None:
        """Write what a row of an earlier release lacks."""
        values = asdict(row)
        values = {name: values[name] for name in _LATER}
        with self.connect() as database:
            database.execute(sa.update(FRAMES).where(FRAMES.c.digest == row.digest).values(values))

    def of_bundle(self, bundle: str) -> list[StoredFrame]:
        """The rows of bundles whose digests begin so, in order of arrival."""
        rows = sa.select(FRAMES).order_by(FRAMES.c.received_time_unix_nano, FRAMES.c.digest)
        rows = rows.where(FRAMES.c.bundle_digest.startswith(bundle, autoescape=True))
        with self.connect(reads=True) as database:
            return [StoredFrame(**row) for row in database.execute(rows).mappings()]

    def digests(self, prefix: str) -> set[str]:
        """Digests that begin so."""
        digest = FRAMES.c.digest
        rows = sa.select(digest).where(digest >= prefix, digest < f"{prefix}g")  # behind any hex
        with self.connect(reads=True) as database:
            return set(database.scalars(rows))

    def incomplete(self) -> list[str]:
        """Digests of the rows that an earlier release made."""
        with self.connect(reads=True) as database:
            rows = sa.select(FRAMES.c.digest).where(FRAMES.c.image_digest.is_(None))
            return list(database.scalars(rows))


_COLUMNS = [one.name for one in fields(StoredFrame)]
# Made once: SQLAlchemy takes longer to make a statement than SQLite to answer it.
_KNOWN = sa.select(FRAMES.c.digest).where(
    FRAMES.c.digest.in_(sa.bindparam("digests", expanding=True))
)
_INSERT = {
    name: dialect.insert(FRAMES).on_conflict_do_nothing().returning(FRAMES.c.digest)
    for name, dialect in {"sqlite": sqlite, "postgresql": postgresql}.items()
}
_LATER = (
    *("image_digest", "flagged", "failure_probability", "threshold", "embedding"),
    *("sampling_probability", "persons"),
)


def row_of(digest: str, body: bytes, frame: KeptFrame, received_ns: int) -> StoredFrame:
    """The row of a frame that came at a time, in Unix nanoseconds."""
    losses = [person.predicted_loss for person in frame.persons]
    finite = bool(losses) and all(map(math.isfinite, losses))
    worst = _worst(frame.persons)
    image = frame.frame.image
    return StoredFrame(
        digest=digest,
        frame_id=_text(frame.frame.frame_id),
        stream_id=_text(frame.frame.stream_id),
        device_id=_text(frame.device_id),
        capture_time_unix_nano=frame.frame.capture_time_unix_nano,
        received_time_unix_nano=received_ns,
        size_bytes=len(body),
        bundle_digest=_text(frame.bundle_digest),
        max_predicted_loss=max(losses) if finite else None,
        reason=reason_of(frame),
        image_digest=hashlib.sha256(image if isinstance(image, bytes) else b"").hexdigest(),
        flagged=any(person.flag.raised for person in frame.persons),
        failure_probability=_finite(worst.failure_probability) if worst else None,
        threshold=_finite(worst.flag.threshold) if worst else None,
        embedding=_packed(worst) if worst else None,
        sampling_probability=_sampling(frame),
        persons=len(frame.persons),
        campaign=_text(frame.campaign),
        engine=_text(frame.engine),
        precision=_text(frame.precision),
        software_version=_text(frame.software_version),
        sealed_with=sealed_with(body),
    )


def reason_of(frame: KeptFrame) -> str:
    """Why a frame was collected: the strongest reason among its persons."""
    kept = {decision.kept for decision in frame.decisions}
    return next((reason.value for reason in Reason if reason in kept), "")


def _sampling(frame: KeptFrame) -> float | None:
    """That at least one of its persons is kept, or nobody: a frame travels with all of them."""
    missed = [1 - one.sampling_probability for one in frame.decisions]
    return _finite(1 - math.prod(missed)) if missed else None


def _worst(persons: Sequence[Person]) -> Person | None:
    finite = [person for person in persons if math.isfinite(person.predicted_loss)]
    return max(finite, key=lambda person: person.predicted_loss, default=None)


def _packed(person: Person) -> bytes | None:
    return np.asarray(person.embedding, "<f4").tobytes() or None


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _text(sent: str) -> str:
    """Without what PostgreSQL has no place for; the object has it as it was sent."""
    return sent.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _insert(database: sa.Connection, rows: Sequence[StoredFrame]) -> list[bool]:
    """Of each row, whether it is new."""
    values = [{name: getattr(row, name) for name in _COLUMNS} for row in rows]
    new = set(database.scalars(_INSERT[database.dialect.name], values))
    return [row.digest in new for row in rows]
