"""Whom somebody is to label: the worst frames that differ, and a random sample beside them.

The random sample is what a calibration may rest on. The audit sample alone is not: it holds no
frame that was flagged and kept. So frames are drawn of both, and each has the probability with
which it was drawn beside that with which the vehicle kept it.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import sqlalchemy as sa

from misgiving.collector.frames.ordering import ordered_frames
from misgiving.collector.frames.selection import FrameSelection, every_frame
from misgiving.collector.frames.words import Mark, Order, moment
from misgiving.collector.store.database import Database
from misgiving.collector.store.rows import StoredFrame
from misgiving.collector.store.tables import FRAMES
from misgiving.export.next_cycle.asked import SelectTable
from misgiving.runtime.nouns import Reason

_Clause = sa.ColumnElement[bool]
_PICTURE = sa.func.coalesce(FRAMES.c.image_digest, FRAMES.c.digest)


@dataclass(frozen=True, slots=True)
class Picks:
    """Who goes to the annotators."""

    picked: tuple[str, ...]
    """Digests of frames that shall teach, in the order of picking."""
    drawn: dict[str, float]
    """Digest of a frame that shall calibrate → the probability with which it was drawn."""


def selection_of(asked: SelectTable) -> FrameSelection:
    """The filters, of frames that nobody has labelled or is labelling.

    Raises:
        InvalidInput: a time cannot be read.
    """
    now = time.time_ns()
    return FrameSelection(
        devices=asked.device,
        streams=asked.stream,
        campaigns=asked.campaign,
        since_ns=moment(asked.since, now) if asked.since else None,
        until_ns=moment(asked.until, now) if asked.until else None,
        bundle=asked.bundle,
        new=True,
        unlabelled=True,
    )


def of_reason(selection: FrameSelection, reason: Reason) -> FrameSelection:
    """Of these frames those that were kept for one reason."""
    return replace(selection, reasons=(reason.value,))


def drawn_sizes(audited: int, others: int, count: int) -> tuple[int, int]:
    """How many of the audit sample and of the others are drawn: half of each, as there are;
    nobody without an audit sample."""
    if not audited:
        return 0, 0
    return min((count + 1) // 2, audited), min(count // 2, others)


def pick(database: Database, selection: FrameSelection, asked: SelectTable, seed: int) -> Picks:
    """Pick frames, each picture once; the same seed and store give the same."""
    drawn = _drawn(database, selection, asked.audit, np.random.default_rng(seed))
    pictures = set(_strings(database, selection, _PICTURE, FRAMES.c.digest.in_(drawn)))
    marked = replace(selection, marks=(Mark.IGNORE.value,))
    ignored = set(_strings(database, marked, FRAMES.c.digest))
    picked: list[str] = []
    for one in _in_order(database, selection, asked.budget + len(drawn)):
        picture = one.image_digest or one.digest
        if len(picked) == asked.budget:
            break
        if one.digest not in ignored and picture not in pictures:
            picked.append(one.digest)
            pictures.add(picture)
    return Picks(tuple(picked), drawn)


def _in_order(database: Database, selection: FrameSelection, wanted: int) -> Iterator[StoredFrame]:
    """Who is marked to be labelled, then the worst that differ."""
    wished = replace(selection, marks=(Mark.LABEL.value,))
    yield from every_frame(database, wished, Order.WORST)
    yield from ordered_frames(database, selection, Order.DIVERSE, wanted)


def _drawn(
    database: Database, selection: FrameSelection, count: int, rng: np.random.Generator
) -> dict[str, float]:
    """Digests of the random sample, with their chances."""
    audited = FRAMES.c.reason == Reason.AUDIT.value
    strata = (audited, ~audited)
    totals = [_count(database, selection, one) for one in strata]
    sizes = drawn_sizes(totals[0], totals[1], count)
    drawn: dict[str, float] = {}
    for stratum, total, size in zip(strata, totals, sizes, strict=True):
        start = rng.bytes(8).hex()
        drawn |= dict.fromkeys(
            _from(database, selection, stratum, start, size), size / max(1, total)
        )
    return drawn


def _from(
    database: Database, selection: FrameSelection, stratum: _Clause, start: str, size: int
) -> list[str]:
    """The next digests behind a random one, round to the first: a random sample that needs no
    list of all, for digests are as good as random numbers themselves."""
    digest, found = FRAMES.c.digest, list[str]()
    for part in (digest >= start, digest < start) if size else ():
        found += _strings(database, selection, digest, stratum, part, limit=size - len(found))
    return found


def _count(database: Database, selection: FrameSelection, *more: _Clause) -> int:
    query = sa.select(sa.func.count()).select_from(FRAMES).where(*selection.clauses(), *more)
    with database.connect(reads=True) as connection:
        return connection.scalar(query) or 0


def _strings(
    database: Database,
    selection: FrameSelection,
    column: sa.ColumnElement[str],
    *more: _Clause,
    limit: int | None = None,
) -> list[str]:
    query = sa.select(column).where(*selection.clauses(), *more).order_by(FRAMES.c.digest)
    query = query.limit(limit)
    with database.connect(reads=True) as connection:
        return list(connection.scalars(query))
