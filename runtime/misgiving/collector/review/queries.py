"""What the pages ask the database: frames in an order, those around one, and sums for charts."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from misgiving.collector.frames.selection import FrameSelection, Place, select_frames
from misgiving.collector.frames.summed import summed
from misgiving.collector.frames.words import Order
from misgiving.collector.review.auditing import Judged, Stratum
from misgiving.collector.store.folding import SUMS
from misgiving.collector.store.rows import StoredFrame
from misgiving.collector.store.tables import DECLINED, FRAMES, MARKS

COMPARED = 10_000
"""Newest frames of a bundle whose embeddings are compared, by brute force."""
SCORED = 10_000
"""Newest frames whose scores make the histograms."""
FEW = 20_000
"""Frames that are sorted sooner than found in their order."""
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
    selection: FrameSelection,
    order: Order,
    *,
    beyond: Place | None = None,
    backwards: bool = False,
    limit: int,
) -> list[StoredFrame]:
    """Frames from a place on, this one not included; ``backwards`` gives the nearest first."""
    count = None
    if _names(selection) > (order is not Order.DRAWN):
        selection, count = narrowed(connection, selection)
        if not count:
            return []
    few = count is not None and count <= FEW and order is not Order.NEWEST
    few |= order is not Order.WORST and _few_scores(connection, selection)
    place: dict[str, Any] = {"after": beyond, "backwards": backwards}
    return select_frames(connection, selection, order=order, limit=limit, few=few, **place)


def narrowed(connection: sa.Connection, selection: FrameSelection) -> tuple[FrameSelection, int]:
    """The same frames, asked for by whole names, and how many have these.

    A database guesses how many, and would look for long for what names have that have nothing in
    common.
    """
    names = ("devices", "streams", "reasons", "campaigns", "bundle")
    asked = FrameSelection(**{name: getattr(selection, name) for name in names})
    columns = {"devices": "device_id", "streams": "stream_id", "bundle": "bundle_digest"}
    by = {name: columns[name] for name in columns if getattr(selection, name)}
    rows = summed(connection, asked, tuple(by.values()), ("frames",))
    if not rows:
        return selection, 0
    *found, counts = zip(*rows, strict=True)
    whole: dict[str, Any] = {
        name: tuple(sorted({*column})) for name, column in zip(by, found, strict=True)
    }
    bundles = whole.pop("bundle", ())
    whole["bundle"] = bundles[0] if len(bundles) == 1 else selection.bundle
    return replace(selection, **whole), sum(counts)


def _names(selection: FrameSelection) -> int:
    """How many things are asked of names; one that stands for several counts as two."""
    names = selection.devices, selection.streams, selection.reasons, selection.campaigns
    patterns = any(name.endswith("*") for name in (*selection.devices, *selection.streams))
    return sum(map(bool, names)) + 2 * (patterns or bool(selection.bundle))


def _few_scores(connection: sa.Connection, selection: FrameSelection) -> bool:
    """Whether a score is asked for that few frames have."""
    if selection.score is None:
        return False
    some = sa.select(_C.max_predicted_loss).where(*FrameSelection(score=selection.score).clauses())
    count = sa.select(sa.func.count()).select_from(some.limit(FEW + 1).subquery())
    return (connection.scalar(count) or 0) <= FEW


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
    """Keep what somebody says of a frame, unless it is gone; what was said before stays."""
    # Locked, so that nobody erases it meanwhile and takes it anew.
    there = sa.select(_C.digest).where(_C.digest == digest).with_for_update()
    if connection.scalar(there) is None:
        return
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
    # The first of the two lets an index begin there.
    early = (time <= at) & ((time != at) | (_C.digest < row.digest))
    late = (time >= at) & ((time != at) | (_C.digest > row.digest))
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
    digests, packed = _joined(connection, newest, len(row.embedding))
    if not digests:
        return []
    rows = np.frombuffer(packed, "<f4").reshape(len(digests), -1)
    with np.errstate(all="ignore"):  # a vehicle may send anything; no direction resembles nothing
        one = np.frombuffer(row.embedding, "<f4")
        lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows)) * np.linalg.norm(one)
        distances = 1 - rows @ one / lengths
    nearest = [at for at in np.argsort(distances)[:count] if np.isfinite(distances[at])]
    return [(digests[at], float(distances[at])) for at in nearest]


def strata(connection: sa.Connection, selection: FrameSelection) -> list[Stratum]:
    """Kept frames by flag and reason, with those on which somebody gave a verdict."""
    by = ("flagged", "reason", "device_id", "stream_id")
    found = defaultdict[tuple[int, str], list[tuple[Any, ...]]](list)
    for flagged, reason, *camera in map(tuple, summed(connection, selection, by, SUMS)):
        found[flagged, reason].append(tuple(camera))
    return [
        one
        for (flagged, reason), rows in found.items()
        if flagged >= 0 and (one := _stratum(bool(flagged), reason, rows)).kept
    ]


def arrivals(
    connection: sa.Connection, selection: FrameSelection, since_ns: int
) -> tuple[list[tuple[int, str, int]], dict[str, int]]:
    """Frames that arrived from a time on: day since 1970, reason and number; device → number."""
    recent = replace(selection, since_ns=max(since_ns, selection.since_ns or 0))
    days = summed(connection, recent, ("day", "reason"), ("frames",))
    devices = summed(connection, recent, ("device_id",), ("frames",))
    return [(day, reason, count) for day, reason, count in map(tuple, days)], dict(
        map(tuple, devices)
    )


def scores_by_bundle(
    connection: sa.Connection, selection: FrameSelection
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Bundle → predicted losses and weights, 1 / probability, of the newest SCORED frames."""
    score, p = _C.max_predicted_loss, _C.sampling_probability
    if _names(selection) > 1:
        selection, _ = narrowed(connection, selection)
    rows = sa.select(_C.bundle_digest, score, p).where(score.is_not(None), p > 0)
    rows = rows.where(*selection.clauses()).order_by(_C.received_time_unix_nano.desc())
    c = rows.limit(SCORED).subquery().c
    if connection.dialect.name != "postgresql":
        found = connection.execute(rows.limit(SCORED))
        columns = [*zip(*found, strict=True)] or [(), (), ()]
        bundles, scores, chances = map(np.array, columns)
        of = {str(name): bundles == name for name in np.unique(bundles)}
        return {name: (scores[these], 1 / chances[these]) for name, these in of.items()}
    numbers = c.max_predicted_loss, 1 / c.sampling_probability
    packed = [sa.func.string_agg(sa.func.float8send(one), sa.literal(b"")) for one in numbers]
    joined: sa.Select[Any] = sa.select(c.bundle_digest, *packed).group_by(c.bundle_digest)
    return {
        name: (np.frombuffer(x, ">f8").astype(float), np.frombuffer(w, ">f8").astype(float))
        for name, x, w in connection.execute(joined)
    }


def count_declined(connection: sa.Connection, since_ns: int) -> dict[str, int]:
    """Why frames were declined by their headers from a time on → how many."""
    rows = sa.select(DECLINED.c.reason, sa.func.count()).group_by(DECLINED.c.reason)
    recent = rows.where(DECLINED.c.declined_time_unix_nano >= since_ns)
    return {reason: int(count) for reason, count in connection.execute(recent)}


def count_marks(connection: sa.Connection) -> dict[str, int]:
    """Mark → how often it was given."""
    rows = sa.select(MARKS.c.mark, sa.func.count()).group_by(MARKS.c.mark)
    return {mark: int(count) for mark, count in connection.execute(rows)}


def _joined(connection: sa.Connection, rows: sa.Select[Any], size: int) -> tuple[list[str], bytes]:
    """Digests and embeddings of as many bytes, these one behind the other."""
    if connection.dialect.name != "postgresql":
        found = [one for one in connection.execute(rows) if len(one[1]) == size]
        return [one[0] for one in found], b"".join(one[1] for one in found)
    c = rows.subquery().c  # by the server: it sends one value sooner than many
    joined = sa.select(
        sa.func.string_agg(c.digest, " "), sa.func.string_agg(c.embedding, sa.literal(b""))
    )
    digests, packed = connection.execute(
        joined.where(sa.func.octet_length(c.embedding) == size)
    ).one()
    return (digests.split(), packed) if digests else ([], b"")


def _stratum(flagged: bool, reason: str, rows: Sequence[tuple[Any, ...]]) -> Stratum:
    """Of devices, streams and SUMS."""
    table = np.array([row[2:] for row in rows], float)
    total = dict(zip(SUMS, table.sum(0).tolist(), strict=True))
    scored = total["scored"] or np.nan
    mean, square = total["score"] / scored, total["score_square"] / scored
    judged = [
        Judged(
            camera=f"{device}/{stream}",
            frames=row["judged"],
            failed=row["failed"],
            weight=row["judged_weight"],
            square=row["judged_square"],
            failed_weight=row["failed_weight"],
            scored=row["judged_scored"],
            score=row["judged_score"],
        )
        for device, stream, *sums in rows
        if (row := dict(zip(SUMS, sums, strict=True)))["judged"]
    ]
    return Stratum(
        *(flagged, reason, int(total["usable"]), total["weight"], total["variance"]),
        judged=tuple(judged),
        mean_score=mean,
        deviation=float(np.sqrt(max(0.0, square - mean**2))) if total["scored"] else np.nan,
    )


def _stored(connection: sa.Connection, rows: sa.Select[Any]) -> list[StoredFrame]:
    return [StoredFrame(**row) for row in connection.execute(rows).mappings()]


def _of_age() -> tuple[sa.Column[Any], sa.Column[Any]]:
    return MARKS.c.at_unix_nano, MARKS.c.id


def _marked(row: sa.RowMapping) -> Marked:
    return Marked(row["mark"], row["by"], row["at_unix_nano"])
