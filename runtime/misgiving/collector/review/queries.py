"""What the pages ask the database: frames in an order, those around one, and sums for charts."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from misgiving.collector.frames.selection import Place, Selection, select_frames
from misgiving.collector.frames.summed import summed
from misgiving.collector.frames.words import Order
from misgiving.collector.review.auditing import Judged, Stratum
from misgiving.collector.store.folding import SUMS
from misgiving.collector.store.rows import StoredFrame
from misgiving.collector.store.tables import DECLINED, FRAMES, MARKS

COMPARED = 20_000
"""Newest frames of a bundle whose embeddings are compared, by brute force."""
SCORED = 20_000
"""Newest frames whose scores make the histograms."""
DAYS = 30

_LATELY = 1000  # newest frames whose devices and campaigns are offered as filters
_C = FRAMES.c


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
    known = narrowed(connection, selection)
    if known is None:
        return []
    return select_frames(
        connection, known, after=beyond, order=order, backwards=backwards, limit=limit
    )


def narrowed(connection: sa.Connection, selection: Selection) -> Selection | None:
    """The same frames, asked for by whole names; None where there are none.

    A database would look for long for what names have in common that have nothing.
    """
    patterns = any(name.endswith("*") for name in (*selection.devices, *selection.streams))
    names = selection.devices, selection.streams, selection.reasons, selection.campaigns
    if not (patterns or selection.bundle) and sum(map(bool, names)) < 2:
        return selection
    known = ("devices", "streams", "reasons", "campaigns", "bundle")
    asked = Selection(**{name: getattr(selection, name) for name in known})
    rows = summed(connection, asked, ("device_id", "stream_id", "bundle_digest"), ())
    if not rows:
        return None
    devices, streams, bundles = (tuple(sorted({*column})) for column in zip(*rows, strict=True))
    return replace(
        selection,
        devices=devices if selection.devices else (),
        streams=streams if selection.streams else (),
        bundle=bundles[0] if selection.bundle and len(bundles) == 1 else selection.bundle,
    )


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
    by = ("flagged", "reason", "device_id", "stream_id")
    found = defaultdict[tuple[int, str], list[Any]](list)
    for row in summed(connection, selection, by, SUMS):
        if row.usable and row.flagged >= 0:
            found[row.flagged, row.reason].append(row)
    return [_stratum(bool(flagged), reason, rows) for (flagged, reason), rows in found.items()]


def arrivals(
    connection: sa.Connection, selection: Selection, since_ns: int
) -> list[tuple[int, str, str, int]]:
    """Day since 1970, device, reason and number of frames, of what arrived from a time on."""
    since_ns = max(since_ns, selection.since_ns or 0)
    recent = replace(selection, since_ns=since_ns)
    rows = summed(connection, recent, ("day", "device_id", "reason"), ("frames",))
    return [(int(a), b, c, int(d)) for a, b, c, d in map(tuple, rows)]


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


def _stratum(flagged: bool, reason: str, rows: Sequence[Any]) -> Stratum:
    """Of the sums of its cameras."""
    total = {name: sum(getattr(row, name) for row in rows) for name in SUMS}
    scored = total["scored"] or np.nan
    mean, square = total["score"] / scored, total["score_square"] / scored
    judged = [
        Judged(
            camera=f"{row.device_id}/{row.stream_id}",
            frames=int(row.judged),
            failed=int(row.failed),
            weight=row.judged_weight,
            square=row.judged_square,
            failed_weight=row.failed_weight,
            scored=int(row.judged_scored),
            score=row.judged_score,
        )
        for row in rows
        if row.judged
    ]
    return Stratum(
        *(flagged, reason, int(total["usable"]), total["weight"], total["variance"]),
        judged=tuple(judged),
        mean_score=float(mean),
        deviation=float(np.sqrt(max(0.0, square - mean**2))) if total["scored"] else np.nan,
    )


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
