"""Frames in any order, the diverse one included.

Axes: N frames, D embedding.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from misgiving.collector.frames.diverse import CELLS, REPEAT, Places, turns_of
from misgiving.collector.frames.selection import FrameSelection, every_frame
from misgiving.collector.frames.words import Order
from misgiving.collector.store.database import Database
from misgiving.collector.store.rows import StoredFrame
from misgiving.collector.store.tables import BATCH_FRAMES, FRAMES, LABELLED

Clauses = Sequence[sa.ColumnElement[bool]]

_AT_ONCE, _PAGE = 5000, 500
"""Embeddings and frames of one query."""
_BYTES = 4
"""Of a number of an embedding."""
_C = FRAMES.c


def ordered_frames(
    database: Database, selection: FrameSelection, order: Order, wanted: int = 0
) -> Iterator[StoredFrame]:
    """All frames in any order; the diverse one is made for so many first ones, 0 for all.

    The diverse one keeps away from frames that annotators have or had. Neither embeddings nor
    scores of different bundles are compared: of each bundle come as many as it has of the frames,
    evenly between those of the others. In memory are the embeddings of one bundle at a time,
    4 · D bytes for each frame, and about 500 bytes more for each.
    """
    if order is not Order.DIVERSE:
        yield from every_frame(database, selection, order)
        return
    digests = _diverse(database, selection, wanted)
    for start in range(0, len(digests), _PAGE):
        page = [digest.decode() for digest in digests[start : start + _PAGE]]
        with database.connect(reads=True) as connection:
            rows = connection.execute(sa.select(FRAMES).where(_C.digest.in_(page))).mappings()
            found = {row["digest"]: StoredFrame(**row) for row in rows}
        yield from (found[digest] for digest in page if digest in found)


@dataclass(frozen=True, slots=True)
class _Embedded:
    digests: NDArray[np.bytes_]
    """(N,)"""
    scores: NDArray[np.float64]
    """Predicted losses (N,), unitless; NaN where there is none."""
    embeddings: NDArray[np.float32]
    """(N, D)"""


@dataclass(frozen=True, slots=True)
class _Kind:
    """Frames whose embeddings can be compared."""

    bundle_digest: str
    size: int
    """Of an embedding, D; 0 where they have none."""
    frames: int

    @property
    def clauses(self) -> Clauses:
        size = sa.func.coalesce(sa.func.length(_C.embedding), 0)
        return [_C.bundle_digest == self.bundle_digest, size == self.size * _BYTES]


def _diverse(database: Database, selection: FrameSelection, wanted: int) -> NDArray[np.bytes_]:
    """Digests of all that fit, in their order."""
    clauses = selection.clauses()
    kinds = _kinds(database, clauses)
    total = sum(kind.frames for kind in kinds)
    digests, late, shares = [np.empty(0, "S64")], [np.empty(0, np.int64)], [np.empty(0)]
    for kind in kinds:
        cells = CELLS * (wanted or total) * kind.frames // total
        of_kind = _read(database, [*clauses, *kind.clauses], kind)
        annotated = _read(database, [*kind.clauses, _annotated()], kind)
        turns = turns_of(of_kind.embeddings, of_kind.scores, cells, annotated.embeddings)
        digests.append(of_kind.digests)
        late.append(np.where(turns < REPEAT, 0, turns))
        shares.append(_shares(np.lexsort((of_kind.digests, -of_kind.scores, turns))))
    every = np.concatenate(digests)
    return every[np.lexsort((every, np.concatenate(shares), np.concatenate(late)))]


def _shares(order: Places) -> NDArray[np.float64]:
    """Which share of all comes before each."""
    shares = np.empty(len(order))
    shares[order] = (np.arange(len(order)) + 0.5) / len(order)
    return shares


def _kinds(database: Database, clauses: Clauses) -> list[_Kind]:
    size = sa.func.coalesce(sa.func.length(_C.embedding), 0)
    counted = sa.select(_C.bundle_digest, size, sa.func.count()).where(*clauses)
    with database.connect(reads=True) as connection:
        rows = connection.execute(counted.group_by(_C.bundle_digest, size)).all()
    return [_Kind(bundle, size // _BYTES, frames) for bundle, size, frames in sorted(rows)]


def _annotated() -> sa.ColumnElement[bool]:
    """That annotators have or had a frame."""
    return sa.or_(
        *(sa.exists().where(one.c.digest == _C.digest) for one in (BATCH_FRAMES, LABELLED))
    )


def _read(database: Database, clauses: Clauses, kind: _Kind) -> _Embedded:
    """Frames of one kind, by their digests; page by page, with no transaction open between two."""
    with database.connect(reads=True) as connection:
        count = connection.scalar(sa.select(sa.func.count()).where(*clauses)) or 0
    found = _Embedded(
        np.empty(count, "S64"), np.empty(count), np.empty((count, kind.size), np.float32)
    )
    columns = sa.select(_C.digest, _C.max_predicted_loss, _C.embedding).where(*clauses)
    after, at = "", 0
    while at < count:
        page = columns.where(_C.digest > after).order_by(_C.digest).limit(min(_AT_ONCE, count - at))
        with database.connect(reads=True) as connection:
            rows = connection.execute(page).all()
        if not rows:  # some were erased meanwhile
            break
        end = at + len(rows)
        found.digests[at:end] = [row[0].encode() for row in rows]
        found.scores[at:end] = [np.nan if row[1] is None else row[1] for row in rows]
        packed = b"".join(row[2] or b"" for row in rows)
        found.embeddings[at:end] = np.frombuffer(packed, "<f4").reshape(len(rows), -1)
        after, at = rows[-1][0], end
    return _Embedded(found.digests[:at], found.scores[:at], found.embeddings[:at])
