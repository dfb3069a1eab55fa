"""What the pages ask the database: frames in an order, those around one, and sums for charts."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from misgiving.collector.frames.selection import Place, Selection
from misgiving.collector.frames.words import Mark
from misgiving.collector.review.auditing import Judged, Stratum
from misgiving.collector.store.rows import StoredFrame
from misgiving.collector.store.tables import DECLINED, FRAMES, MARKS

COMPARED = 20_000
"""Newest frames of a bundle whose embeddings are compared, by brute force."""
SCORED = 20_000
"""Newest frames whose scores make the histograms."""
DAYS = 30
DAY_NS = 24 * 3600 * 10**9

_LATELY = 1000  # newest frames whose devices and campaigns are offered as filters
_VERDICTS = (Mark.CONFIRMED.value, Mark.FALSE_ALARM.value, Mark.IGNORE.value)
_C = FRAMES.c


class Order(str, Enum):
    """What a list begins with."""

    NEWEST = "newest"
    WORST = "worst"
    """By predicted loss; frames without one come last."""
    DRAWN = "drawn"
    """By digest, which nothing in a picture has a say in: wherever somebody stops, those before are
    a random sample."""

    def place(self, row: StoredFrame) -> Place:
        """Of a frame in this order."""
        values = {"newest": row.received_time_unix_nano, "worst": row.max_predicted_loss}
        return Place(values.get(self.value), row.digest)


_COLUMNS = {Order.NEWEST: _C.received_time_unix_nano, Order.WORST: _C.max_predicted_loss}


@dataclass(frozen=True, slots=True)
class Marked:
    """What somebody said of a frame."""

    mark: str
    by: str
    at_unix_nano: int


def list_frames(
    connection: sa.Connection,
    selection: Selection,
    order: Order,
    *,
    beyond: Place | None = None,
    backwards: bool = False,
    limit: int,
) -> list[StoredFrame]:
    """Frames from a place on, this one not included; ``backwards`` gives the nearest first."""
    column, wanted = _COLUMNS.get(order), selection.clauses()
    if column is None or not column.nullable:
        return _part(connection, wanted, column, beyond, backwards, limit)
    # Those without a value come last. Asked for by themselves, so that an index gives the others.
    found: list[StoredFrame] = []
    for valued in (False, True) if backwards else (True, False):
        kind = column.is_not(None) if valued else column.is_(None)
        place = beyond
        if beyond is not None and valued != (beyond.value is not None):
            if valued != backwards:
                continue  # all of them lie on the other side
            place = None
        by = column if valued else None
        left = limit - len(found)
        found += _part(connection, [*wanted, kind], by, place, backwards, left)
        if len(found) == limit:
            break
    return found


def frame_row(connection: sa.Connection, digest: str) -> StoredFrame | None:
    """The row of a frame; None where there is none."""
    return next(iter(_stored(connection, sa.select(FRAMES).where(_C.digest == digest))), None)


def newest_marks(connection: sa.Connection, digests: Sequence[str]) -> dict[str, Marked]:
    """Digest → its newest mark."""
    rows = sa.select(MARKS).where(MARKS.c.digest.in_(digests)).order_by(*_of_age())
    return {row["digest"]: _marked(row) for row in connection.execute(rows).mappings()}


def marks_of(connection: sa.Connection, digest: str) -> list[Marked]:
    """All that was said of a frame, the newest first."""
    rows = sa.select(MARKS).where(MARKS.c.digest == digest).order_by(*_of_age())
    return [_marked(row) for row in connection.execute(rows).mappings()][::-1]


def add_mark(connection: sa.Connection, digest: str, said: Marked) -> None:
    """Keep what somebody says of a frame; what was said before stays."""
    values = {"mark": said.mark, "by": said.by, "at_unix_nano": said.at_unix_nano}
    connection.execute(sa.insert(MARKS).values(digest=digest, **values))


def known_lately(connection: sa.Connection) -> dict[str, list[str]]:
    """Devices and campaigns of the newest frames, to choose from."""
    newest = sa.select(_C.device_id, _C.campaign).order_by(_C.received_time_unix_nano.desc())
    rows = connection.execute(newest.limit(_LATELY)).all()
    devices, campaigns = ({row[at] for row in rows if row[at]} for at in (0, 1))
    return {"devices": sorted(devices), "campaigns": sorted(campaigns)}


def around(connection: sa.Connection, row: StoredFrame, count: int) -> list[StoredFrame]:
    """Up to ``count`` frames of the same camera on either side, in order of time: of capture, or of
    arrival where that is not known."""
    known = row.capture_time_unix_nano > 0
    time = _C.capture_time_unix_nano if known else _C.received_time_unix_nano
    at = row.capture_time_unix_nano if known else row.received_time_unix_nano
    same = (_C.device_id == row.device_id) & (_C.stream_id == row.stream_id)
    early = (time < at) | ((time == at) & (_C.digest < row.digest))
    late = (time > at) | ((time == at) & (_C.digest > row.digest))
    camera = sa.select(FRAMES).where(same, time > 0).limit(count)
    before = _stored(connection, camera.where(early).order_by(time.desc(), _C.digest.desc()))
    after = _stored(connection, camera.where(late).order_by(time, _C.digest))
    return [*before[::-1], row, *after]


def alike(connection: sa.Connection, row: StoredFrame, count: int) -> list[tuple[str, float]]:
    """Digests of frames whose embeddings are nearest, with their cosine distances.

    They are compared one by one with the newest COMPARED frames of the same bundle: another's
    embeddings mean something else.
    """
    if not row.embedding:
        return []
    same = (_C.bundle_digest == row.bundle_digest) & (_C.digest != row.digest)
    newest = sa.select(_C.digest, _C.embedding).where(same, _C.embedding.is_not(None))
    newest = newest.order_by(_C.received_time_unix_nano.desc()).limit(COMPARED)
    size = len(row.embedding)
    found = [one for one in connection.execute(newest) if len(one[1]) == size]
    if not found:
        return []
    rows = np.frombuffer(b"".join(one[1] for one in found), "<f4").reshape(len(found), -1)
    distances = 1 - _unit(rows) @ _unit(np.frombuffer(row.embedding, "<f4")[None])[0]
    nearest = [at for at in np.argsort(distances)[:count] if np.isfinite(distances[at])]
    return [(found[at][0], float(distances[at])) for at in nearest]


def strata(connection: sa.Connection, selection: Selection) -> list[Stratum]:
    """Kept frames by flag and reason, with those on which somebody gave a verdict."""
    p, score = _C.sampling_probability, _C.max_predicted_loss
    wanted = [*selection.clauses(), p > 0, _C.flagged.is_not(None)]
    sums = sa.select(
        *(_C.flagged, _C.reason, sa.func.count(), sa.func.sum(1 / p)),
        *(sa.func.sum((1 - p) / (p * p)), sa.func.avg(score), sa.func.avg(score * score)),
    )
    grouped = sums.where(*wanted).group_by(_C.flagged, _C.reason).order_by(_C.flagged, _C.reason)
    judged = _judged(connection, wanted)
    return [
        _stratum(bool(flagged), reason, numbers, judged[bool(flagged), reason])
        for flagged, reason, *numbers in connection.execute(grouped)
    ]


def arrivals(
    connection: sa.Connection, selection: Selection, since_ns: int
) -> list[tuple[int, str, str, int]]:
    """Day since 1970, device, reason and number of frames, of what arrived from a time on."""
    day = (_C.received_time_unix_nano // DAY_NS).label("day")
    recent = _C.received_time_unix_nano >= since_ns
    rows = sa.select(day, _C.device_id, _C.reason, sa.func.count())
    rows = rows.where(recent, *selection.clauses()).group_by(day, _C.device_id, _C.reason)
    return [(int(a), b, c, int(d)) for a, b, c, d in connection.execute(rows.order_by(day))]


def scores_by_bundle(
    connection: sa.Connection, selection: Selection
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Bundle → predicted losses and weights, 1 / probability, of the newest SCORED frames."""
    score, p = _C.max_predicted_loss, _C.sampling_probability
    rows = sa.select(_C.bundle_digest, score, p).where(score.is_not(None), p > 0)
    rows = rows.where(*selection.clauses()).order_by(_C.received_time_unix_nano.desc())
    found = defaultdict[str, list[tuple[float, float]]](list)
    for bundle, loss, probability in connection.execute(rows.limit(SCORED)):
        found[bundle].append((loss, 1 / probability))
    return {name: (np.array(x)[:, 0], np.array(x)[:, 1]) for name, x in found.items()}


def count_declined(connection: sa.Connection, since_ns: int) -> dict[str, int]:
    """Why frames were declined by their headers from a time on → how many."""
    rows = sa.select(DECLINED.c.reason, sa.func.count()).group_by(DECLINED.c.reason)
    recent = rows.where(DECLINED.c.declined_time_unix_nano >= since_ns)
    return {reason: int(count) for reason, count in connection.execute(recent)}


def count_marks(connection: sa.Connection) -> dict[str, int]:
    """Mark → how often it was given."""
    rows = sa.select(MARKS.c.mark, sa.func.count()).group_by(MARKS.c.mark)
    return {mark: int(count) for mark, count in connection.execute(rows)}


def _judged(
    connection: sa.Connection, wanted: Iterable[sa.ColumnElement[bool]]
) -> dict[tuple[bool, str], list[Judged]]:
    """Of each stratum; the newest verdict counts, and *ignore* takes one back."""
    columns = (_C.flagged, _C.reason, _C.sampling_probability, _C.device_id, _C.stream_id)
    joined = MARKS.join(FRAMES, MARKS.c.digest == _C.digest)
    rows = sa.select(_C.digest, MARKS.c.mark, _C.max_predicted_loss, *columns)
    rows = rows.select_from(joined).where(*wanted, MARKS.c.mark.in_(_VERDICTS)).order_by(*_of_age())
    found = defaultdict[tuple[bool, str], list[Judged]](list)
    newest = {row["digest"]: row for row in connection.execute(rows).mappings()}
    for row in newest.values():
        if row["mark"] != Mark.IGNORE.value:
            failed = row["mark"] == Mark.CONFIRMED.value
            camera = f"{row['device_id']}/{row['stream_id']}"
            probability, score = row["sampling_probability"], row["max_predicted_loss"]
            found[bool(row["flagged"]), row["reason"]].append(
                Judged(failed, probability, camera, score)
            )
    return found


def _stratum(
    flagged: bool, reason: str, numbers: Sequence[Any], judged: Sequence[Judged]
) -> Stratum:
    kept, weight, variance, mean, square = numbers
    mean = np.nan if mean is None else mean
    deviation = np.sqrt(max(0.0, square - mean**2)) if square is not None else np.nan
    return Stratum(flagged, reason, kept, weight, variance, tuple(judged), mean, float(deviation))


def _part(
    connection: sa.Connection,
    wanted: Sequence[sa.ColumnElement[bool]],
    column: sa.Column[Any] | None,
    beyond: Place | None,
    backwards: bool,
    limit: int,
) -> list[StoredFrame]:
    """Frames by a column that all of them have, the greatest first, then by digest."""
    ordered: list[Any] = [_C.digest.desc() if backwards else _C.digest]
    wanted = list(wanted)
    if column is not None:
        ordered.insert(0, column.asc() if backwards else column.desc())
    if beyond:
        rest = _C.digest < beyond.digest if backwards else _C.digest > beyond.digest
        if column is not None:  # the first of the two lets an index begin at the place
            wanted.append(column >= beyond.value if backwards else column <= beyond.value)
            rest = (column != beyond.value) | rest
        wanted.append(rest)
    rows = sa.select(FRAMES).where(*wanted).order_by(*ordered).limit(limit)
    return _stored(connection, rows)


def _stored(connection: sa.Connection, rows: sa.Select[Any]) -> list[StoredFrame]:
    return [StoredFrame(**row) for row in connection.execute(rows).mappings()]


def _of_age() -> tuple[sa.Column[Any], sa.Column[Any]]:
    return MARKS.c.at_unix_nano, MARKS.c.id


def _marked(row: sa.RowMapping) -> Marked:
    return Marked(row["mark"], row["by"], row["at_unix_nano"])


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of length 1; a row without a direction resembles nothing."""
    with np.errstate(all="ignore"):  # a vehicle may send anything
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        usable = np.isfinite(lengths) & (lengths > 0)
        return np.where(usable, rows / lengths, np.nan)
