"""Which offered frames are not wanted: decided by their headers, before their bytes travel."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from misgiving.collector.store.database import Database
from misgiving.collector.store.tables import DECLINED, FRAMES
from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.nouns import Floats, Reason
from misgiving.runtime.wire.offers import Header


@dataclass(frozen=True, kw_only=True, slots=True)
class Declining:
    """What a collector declines of a device; by default nothing. Frames of the audit it never does.

    >>> Declining(pictures=True, nearer=0.006).within
    1000

    Raises:
        InvalidInput: a number is out of range.
    """

    pictures: bool = False
    """A frame whose encoded image is stored already."""
    nearer: float | None = None
    """A frame whose embedding is nearer to that of a stored one, as a cosine distance, 0 to 2."""
    within: int = 1000
    """Of how many stored frames: the newest of the same device and bundle."""

    def __post_init__(self) -> None:
        if self.nearer is not None and not 0 < self.nearer <= 2:
            raise InvalidInput(
                f"--decline-nearer is {self.nearer:g}; expected a cosine distance above 0 and up "
                "to 2, for example 0.006"
            )
        if self.within < 1:
            raise InvalidInput(f"--decline-within is {self.within}; expected a number from 1 on")


class Why(Enum):
    """Why a frame is declined, as the table of declined frames has it."""

    PICTURE = "same_picture"
    NEAR = "near_duplicate"

    @property
    def said(self) -> str:
        """What the vehicle's log says."""
        return {
            Why.PICTURE: "the same picture of this device is stored",
            Why.NEAR: "a stored frame of this device is nearly the same",
        }[self]


@dataclass(frozen=True, slots=True)
class Verdict:
    """On an offered frame; wanted where it is neither declined nor to be offered later."""

    declined: Why | None = None
    later: bool = False


WANTED, LATER = Verdict(), Verdict(later=True)


class Decliner:
    """Judges frames by what a store has.

    Args:
        rules: what is declined.
        database: of the store.
    """

    def __init__(self, rules: Declining, database: Database) -> None:
        self._rules, self._database = rules, database

    def judge(self, offered: dict[str, Header]) -> dict[str, Verdict]:
        """Verdicts on frames that are not stored, by digest; declined ones are written down.

        One that resembles another of these that is wanted, and may yet be lost, is put off.
        """
        if not self._rules.pictures and self._rules.nearer is None:
            return dict.fromkeys(offered, WANTED)
        verdicts, wanted = dict[str, Verdict](), list[Header]()
        with self._database.connect(reads=True) as connection:
            for digest, header in offered.items():
                verdict = self._verdict(header, wanted, connection)
                verdicts[digest] = verdict
                if verdict is WANTED:
                    wanted.append(header)
        self._write_down({x: (offered[x], v.declined) for x, v in verdicts.items() if v.declined})
        return verdicts

    def _verdict(
        self, header: Header, wanted: Sequence[Header], connection: sa.Connection
    ) -> Verdict:
        if not header.kept or Reason.AUDIT in header.kept:  # the first: of a later release
            return WANTED
        others = [one for one in wanted if one.device_id == header.device_id]
        if self._rules.pictures and header.image_digest:
            if _has_picture(connection, header):
                return Verdict(Why.PICTURE)
            if any(one.image_digest == header.image_digest for one in others):
                return LATER
        if self._rules.nearer is not None and header.embedding.size:
            if nearest(header.embedding, self._stored(connection, header)) < self._rules.nearer:
                return Verdict(Why.NEAR)
            alike = [x.embedding for x in others if x.bundle_digest == header.bundle_digest]
            if nearest(header.embedding, alike) < self._rules.nearer:
                return LATER
        return WANTED

    def _stored(self, connection: sa.Connection, header: Header) -> list[Floats]:
        """Embeddings of the newest frames that are comparable."""
        rows = (
            sa.select(FRAMES.c.embedding)
            .where(
                FRAMES.c.device_id == _text(header.device_id),
                FRAMES.c.bundle_digest == _text(header.bundle_digest),
                FRAMES.c.embedding.is_not(None),
            )
            .order_by(FRAMES.c.received_time_unix_nano.desc())
            .limit(self._rules.within)
        )
        return [np.frombuffer(row, "<f4") for row in connection.scalars(rows)]

    def _write_down(self, declined: dict[str, tuple[Header, Why]]) -> None:
        """Durable when this returns: the vehicle forgets these frames then."""
        now = time.time_ns()
        rows = [
            {
                "digest": digest,
                "device_id": _text(header.device_id),
                "stream_id": _text(header.stream_id),
                "frame_id": _text(header.frame_id),
                "campaign": _text(header.campaign),
                "predicted_loss": header.predicted_loss,
                "reason": why.value,
                "declined_time_unix_nano": now,
            }
            for digest, (header, why) in declined.items()
        ]
        if not rows:
            return
        with self._database.connect() as connection:
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            connection.execute(dialect.insert(DECLINED).values(rows).on_conflict_do_nothing())


def nearest(row: Floats, others: Sequence[Floats]) -> float:
    """Cosine distance, 0 to 2, of an embedding (D,) to the nearest of others.

    Infinite where none has as many dimensions, or a length: nothing is known then.
    """
    alike = [other for other in others if other.shape == row.shape]
    if not alike:
        return np.inf
    many, one = np.stack(alike).astype(np.float64), row.astype(np.float64)
    with np.errstate(all="ignore"):
        cosines = many @ one / (np.linalg.norm(many, axis=1) * np.linalg.norm(one))
    return float(1 - np.nanmax(np.append(cosines, -np.inf)))


def _has_picture(connection: sa.Connection, header: Header) -> bool:
    row = sa.select(FRAMES.c.digest).where(
        FRAMES.c.image_digest == _text(header.image_digest),
        FRAMES.c.device_id == _text(header.device_id),
    )
    return connection.scalar(row.limit(1)) is not None


def _text(sent: str) -> str:
    """As the rows of frames have it."""
    return sent.replace("\0", "\N{REPLACEMENT CHARACTER}")
