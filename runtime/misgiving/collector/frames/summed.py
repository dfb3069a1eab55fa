"""Sums over the frames of a selection, read from the database's own sums where these have them.

Whole days come from the sums, the rest of the first and the last one from the frames themselves.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from misgiving.collector.frames.selection import FrameSelection, count_frames
from misgiving.collector.store.folding import DAY_NS, EVER, KEY, SUMS
from misgiving.collector.store.tables import FRAME_CHANGES, FRAME_SUMS, FRAMES

LEAST_PROBABILITY = 1e-6
"""A sampling probability below it, or above 1, is none that a sum over frames could use."""
LARGEST_SCORE = 1e6
"""The same of a predicted loss."""

_C = FRAMES.c


def is_summed(selection: FrameSelection) -> bool:
    """Whether the sums can tell the frames of a selection from others."""
    names = ("devices", "streams", "reasons", "campaigns", "bundle", "since_ns", "until_ns")
    others = dataclasses.replace(
        FrameSelection(), **{one: getattr(selection, one) for one in names}
    )
    return selection == others


def summed(
    connection: sa.Connection, selection: FrameSelection, by: Sequence[str], sums: Sequence[str]
) -> list[sa.Row[Any]]:
    """Sums over the frames of a selection.

    Args:
        connection: to the store's database.
        selection: which frames; ``is_summed`` of it.
        by: names of FRAME_SUMS's key, by which they are grouped. With ``day``, arrivals of a day.
        sums: names of its other columns.

    Returns:
        Rows of ``by`` and then ``sums``, ordered by the former; none of no frame.
    """
    names = [*by, *sums]
    parts = [one.subquery() for one in _parts(selection, [*names, "frames"], "day" in by)]
    each = sa.union_all(*(sa.select(part) for part in parts)).subquery()
    key = [each.c[name] for name in by]
    totals = [
        sa.cast(sa.func.sum(each.c[name]), FRAME_SUMS.c[name].type).label(name) for name in sums
    ]
    rows = sa.select(*key, *totals).group_by(*key).having(sa.func.sum(each.c.frames) > 0)
    return list(connection.execute(rows.order_by(*key)))


def count_of(connection: sa.Connection, selection: FrameSelection) -> int:
    """How many frames there are, from the sums where these can tell."""
    if not is_summed(selection):
        return count_frames(connection, selection)[0]
    return sum(row.frames for row in summed(connection, selection, (), ("frames",)))


def _parts(selection: FrameSelection, names: Sequence[str], daily: bool) -> list[sa.Select[Any]]:
    """Queries for what is to be added up, with no frame in two of them."""
    since, until = selection.since_ns, selection.until_ns
    names = list(dict.fromkeys(names))
    first = None if since is None else -(-since // DAY_NS)
    behind = None if until is None else until // DAY_NS
    if first is not None and behind is not None and first > behind:  # within a day
        return [_of_frames(selection, names)]
    found = []
    for table in (FRAME_SUMS, FRAME_CHANGES):
        c = table.c
        rows = sa.select(*(c[name] for name in names)).where(*selection.of_names(c))
        if table is FRAME_SUMS and first is None and behind is None and not daily:
            rows = rows.where(c.day == EVER)
        elif table is FRAME_SUMS:
            rows = rows.where(c.day >= (0 if first is None else first))
        elif first is not None:
            rows = rows.where(c.day >= first)
        found.append(rows if behind is None else rows.where(c.day < behind))
    if first is not None and since is not None and since < first * DAY_NS:
        before = dataclasses.replace(selection, until_ns=first * DAY_NS)
        found.append(_of_frames(before, names))
    if behind is not None and until is not None and behind * DAY_NS < until:
        after = dataclasses.replace(selection, since_ns=behind * DAY_NS)
        found.append(_of_frames(after, names))
    return found


def _of_frames(selection: FrameSelection, names: Sequence[str]) -> sa.Select[Any]:
    parts = frame_parts()
    return sa.select(*(parts[name].label(name) for name in names)).where(*selection.clauses())


def frame_parts() -> dict[str, sa.ColumnElement[Any]]:
    """What a frame adds to each column of FRAME_SUMS; as the triggers have it."""
    p, score = _C.sampling_probability, _C.max_predicted_loss
    usable = _C.flagged.is_not(None) & p.between(LEAST_PROBABILITY, 1)
    scored = usable & score.between(-LARGEST_SCORE, LARGEST_SCORE)
    judged = usable & _C.failed.is_not(None)
    failed = judged & _C.failed
    one: Any = sa.literal_column("1")
    sums: dict[str, sa.ColumnElement[Any]] = {
        "frames": one,
        "size_bytes": _C.size_bytes,
        "usable": _where(usable, one),
        "scored": _where(scored, one),
        "judged": _where(judged, one),
        "judged_scored": _where(scored & judged, one),
        "failed": _where(failed, one),
        "weight": _where(usable, 1 / p),
        "variance": _where(usable, (1 - p) / (p * p)),
        "score": _where(scored, score),
        "score_square": _where(scored, score * score),
        "judged_weight": _where(judged, 1 / p),
        "judged_square": _where(judged, 1 / (p * p)),
        "judged_score": _where(scored & judged, score),
        "failed_weight": _where(failed, 1 / p),
    }
    key: dict[str, sa.ColumnElement[Any]] = {name: _C[name] for name in KEY[1:-1]}
    key["day"] = _C.received_time_unix_nano // DAY_NS
    key["flagged"] = sa.case((_C.flagged.is_(None), -1), (_C.flagged, 1), else_=0)
    return key | {name: sums[name] for name in SUMS}


def _where(condition: sa.ColumnElement[bool], value: Any) -> sa.Case[Any]:
    return sa.case((condition, value), else_=sa.literal_column("0"))
