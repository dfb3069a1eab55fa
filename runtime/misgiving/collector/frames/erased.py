"""How many frames were erased, by day and reason: nothing of the frames themselves."""

from collections.abc import Sequence
from datetime import date
from enum import Enum

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from misgiving.collector.store.tables import ERASED

_1970 = date(1970, 1, 1).toordinal()


class Why(Enum):
    """Why frames are gone."""

    EXPIRED = "expired"
    """Retention: older than frames may be."""
    EXPIRED_LABELLED = "expired_with_labels"
    """Retention: older than frames with labels may be."""
    ASKED = "erased_by_somebody"
    """``frames erase``."""


def note_erased(connection: sa.Connection, why: Why, sizes: Sequence[int], day: int) -> None:
    """Count frames in the transaction that deletes their rows.

    Args:
        connection: in that transaction.
        why: they go.
        sizes: of each, in bytes.
        day: since 1970, UTC.
    """
    if not sizes:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    new = dialect.insert(ERASED).values(
        day=day, reason=why.value, frames=len(sizes), size_bytes=sum(sizes)
    )
    sums = {name: ERASED.c[name] + new.excluded[name] for name in ("frames", "size_bytes")}
    connection.execute(new.on_conflict_do_update(index_elements=["day", "reason"], set_=sums))


def erased_by_day(connection: sa.Connection, first: int) -> list[tuple[date, str, int]]:
    """Day in UTC, reason and number of frames, from a day since 1970 on; the last day first."""
    c = ERASED.c
    rows = sa.select(c.day, c.reason, c.frames).where(c.day >= first)
    ordered = connection.execute(rows.order_by(c.day.desc(), c.reason))
    return [(date.fromordinal(_1970 + day), reason, frames) for day, reason, frames in ordered]
