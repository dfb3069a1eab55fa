"""Sums over frames, kept exact by the database itself.

Triggers write what each change of a frame adds to the sums, or takes from them, in the change's own
transaction, as a row of FRAME_CHANGES: nobody waits there for anybody. Folding adds these to
FRAME_SUMS. Whoever reads adds up both tables in one statement, so that it matters to nobody when
they are folded.
"""

import secrets
from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from misgiving.collector.store.database import Database
from misgiving.collector.store.tables import FRAME_CHANGES, FRAME_SUMS

DAY_NS = 86_400 * 10**9
EVER = -1
"""Stands for the day in sums over all days."""
KEY = tuple(FRAME_SUMS.primary_key.columns.keys())
SUMS = tuple(one.name for one in FRAME_SUMS.c if not one.primary_key)

_AT_ONCE = 5000
_LOCK = 0x6D697368  # one after the migrations'


def fold(database: Database) -> int:
    """Add what has changed to the sums, in short transactions; how many changes.

    Of several processes one does it; the others leave it to that one.
    """
    folded = 0
    while True:
        with database.connect() as connection:
            count = _fold_some(connection)
        folded += count
        if count < _AT_ONCE:
            return folded


def _fold_some(connection: sa.Connection) -> int:
    if connection.dialect.name == "postgresql":
        if not connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(_LOCK))):
            return 0
    else:  # which would leave names of erased frames in its pages
        connection.exec_driver_sql("PRAGMA secure_delete = ON")
    # Those that are taken are the same in all statements, whoever adds others meanwhile.
    c, token = FRAME_CHANGES.c, secrets.token_hex(16)
    oldest = sa.select(c.id).order_by(c.id).limit(_AT_ONCE)
    took = sa.update(FRAME_CHANGES).where(c.id.in_(oldest)).values(taken=token)
    count = connection.execute(took).rowcount
    if count:
        for day in (c.day, sa.literal(EVER)):
            _add(connection, day, token)
        connection.execute(sa.delete(FRAME_CHANGES).where(c.taken == token))
        empty = sa.delete(FRAME_SUMS).where(sa.text("frames = 0"))
        connection.execute(empty)
    return count


def _add(connection: sa.Connection, day: sa.ColumnElement[int], token: str) -> None:
    key = [day, *_columns(KEY[1:])]
    sums = [sa.func.sum(one) for one in _columns(SUMS)]
    added = sa.select(*key, *sums).where(FRAME_CHANGES.c.taken == token).group_by(*key)
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    made = dialect.insert(FRAME_SUMS).from_select([*KEY, *SUMS], added)
    more = {name: FRAME_SUMS.c[name] + made.excluded[name] for name in SUMS}
    connection.execute(made.on_conflict_do_update(index_elements=KEY, set_=more))


def _columns(names: Iterable[str]) -> list[sa.Column[object]]:
    return [FRAME_CHANGES.c[name] for name in names]
