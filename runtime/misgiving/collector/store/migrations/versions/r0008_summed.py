"""What the review page asks of many frames: sums that the database itself keeps, and indexes.

Triggers note every change of a frame in ``frame_changes``, in the transaction that makes it, also
where a collector of an earlier release makes it; ``folding.py`` adds the notes to ``frame_sums``.
"""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0008", "0007"

_KEY = ("day", "device_id", "stream_id", "reason", "campaign", "bundle_digest", "flagged")
_COUNTS = ("frames", "size_bytes", "usable", "scored", "judged", "judged_scored", "failed")
_SUMS = (
    *("weight", "variance", "score", "score_square"),
    *("judged_weight", "judged_square", "judged_score", "failed_weight"),
)
_NAMES = ", ".join((*_KEY, *_COUNTS, *_SUMS))
_COLUMNS = (
    *("digest", "received_time_unix_nano", "device_id", "stream_id", "reason", "campaign"),
    *("bundle_digest", "flagged", "size_bytes", "sampling_probability", "max_predicted_loss"),
    "failed",
)
"""Those of a frame that its sums are made of."""
_DAY_NS = 86_400 * 10**9
_NEWEST = "ORDER BY at_unix_nano DESC, id DESC LIMIT 1"


def upgrade() -> None:
    op.add_column("frames", sa.Column("mark", sa.Text, nullable=False, server_default=""))
    op.add_column("frames", sa.Column("failed", sa.Boolean))
    op.execute(f"{_remark('frames.digest')} WHERE digest IN (SELECT digest FROM marks)")
    _make_tables()
    _sum_frames()
    if op.get_bind().dialect.name == "postgresql":
        _watch_in_postgresql()
    else:
        _watch_in_sqlite()
    _make_indexes()


def _make_tables() -> None:
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table("frame_sums", *_columns(key=True))
    op.create_table(
        "frame_changes",
        sa.Column("id", number, primary_key=True),
        sa.Column("taken", sa.String(32)),
        *_columns(key=False),
    )
    op.create_index("ix_frame_changes_taken", "frame_changes", ["taken"])
    empty = sa.text("frames = 0")
    op.create_index(
        "ix_frame_sums_empty", "frame_sums", ["day"],
        postgresql_where=empty, sqlite_where=empty,
    )  # fmt: skip


def _columns(*, key: bool) -> Iterator[sa.Column[Any]]:
    kinds: dict[str, Any] = dict.fromkeys(_KEY, sa.Text) | {
        "day": sa.Integer,
        "flagged": sa.SmallInteger,
    }
    for name, kind in kinds.items():
        yield sa.Column(name, kind, nullable=False, primary_key=key, autoincrement=False)
    yield from (sa.Column(name, sa.BigInteger, nullable=False) for name in _COUNTS)
    yield from (sa.Column(name, sa.Double, nullable=False) for name in _SUMS)


def _sum_frames() -> None:
    """Those that are there, by day and, as day -1, over all days."""
    each = ", ".join(f"{text} AS {name}" for name, text in _parts("").items())
    sums = ", ".join(f"sum({name})" for name in (*_COUNTS, *_SUMS))
    by_day, ever = ", ".join(_KEY), ", ".join(_KEY[1:])
    made = f"INSERT INTO frame_sums ({_NAMES}) SELECT"
    arrived, connection = "received_time_unix_nano", op.get_bind()
    behind = 0
    # A day at a time: all of them at once would need more memory and disk than there may be.
    while first := connection.scalar(
        sa.text(f"SELECT min({arrived}) FROM frames WHERE {arrived} >= {behind}")
    ):
        behind = (first // _DAY_NS + 1) * _DAY_NS
        day = f"SELECT {each} FROM frames WHERE {arrived} >= {first} AND {arrived} < {behind}"
        op.execute(f"{made} {by_day}, {sums} FROM ({day}) AS each GROUP BY {by_day}")
    op.execute(f"{made} -1, {ever}, {sums} FROM frame_sums GROUP BY {ever}")


def _parts(row: str, sign: str = "") -> dict[str, str]:
    """Of a frame, what it adds to each column of the sums; ``NEW.`` for example is the row."""
    p, score = f"{row}sampling_probability", f"{row}max_predicted_loss"
    # A vehicle may say anything; what would overflow, or drown the others, is no such number.
    usable = f"{row}flagged IS NOT NULL AND {p} BETWEEN 1e-6 AND 1"
    scored = f"{usable} AND {score} BETWEEN -1e6 AND 1e6"
    judged = f"{usable} AND {row}failed IS NOT NULL"
    of = {
        "frames": "1",
        "size_bytes": f"{row}size_bytes",
        "usable": _where(usable, "1"),
        "scored": _where(scored, "1"),
        "judged": _where(judged, "1"),
        "judged_scored": _where(f"{scored} AND {judged}", "1"),
        "failed": _where(f"{judged} AND {row}failed", "1"),
        "weight": _where(usable, f"1 / {p}"),
        "variance": _where(usable, f"(1 - {p}) / ({p} * {p})"),
        "score": _where(scored, score),
        "score_square": _where(scored, f"{score} * {score}"),
        "judged_weight": _where(judged, f"1 / {p}"),
        "judged_square": _where(judged, f"1 / ({p} * {p})"),
        "judged_score": _where(f"{scored} AND {judged}", score),
        "failed_weight": _where(f"{judged} AND {row}failed", f"1 / {p}"),
    }
    return {
        "day": f"{row}received_time_unix_nano / {_DAY_NS}",
        **{name: f"{row}{name}" for name in _KEY[1:-1]},
        "flagged": f"CASE WHEN {row}flagged IS NULL THEN -1 WHEN {row}flagged THEN 1 ELSE 0 END",
        **{name: f"{sign}({text})" for name, text in of.items()},
    }


def _where(condition: str, text: str) -> str:
    return f"CASE WHEN {condition} THEN {text} ELSE 0 END"


def _note(row: str, sign: str = "") -> str:
    values = ", ".join(_parts(row, sign).values())
    return f"INSERT INTO frame_changes ({_NAMES}) VALUES ({values});"


def _remark(digest: str) -> str:
    """Write into a frame what its marks say: the newest, and the newest of those that judge."""
    of_frame = f"FROM marks WHERE marks.digest = {digest}"
    judges = "AND mark IN ('confirmed', 'false_alarm', 'ignore')"
    said = "CASE mark WHEN 'confirmed' THEN true WHEN 'false_alarm' THEN false END"
    return (
        f"UPDATE frames SET mark = coalesce((SELECT mark {of_frame} {_NEWEST}), ''), "
        f"failed = (SELECT {said} {of_frame} {judges} {_NEWEST})"
    )


def _watch_in_postgresql() -> None:
    op.execute(f"""
        CREATE FUNCTION frames_mark(marked text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
            PERFORM 1 FROM frames WHERE digest = marked FOR UPDATE; -- one after another
            {_remark("marked")} WHERE digest = marked;
        END $$""")
    op.execute("""
        CREATE FUNCTION marks_changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM frames_mark(CASE TG_OP WHEN 'DELETE' THEN OLD.digest ELSE NEW.digest END);
            RETURN NULL;
        END $$""")
    op.execute(f"""
        CREATE FUNCTION frames_changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF TG_OP <> 'INSERT' THEN {_note("OLD.", "-")} END IF;
            IF TG_OP <> 'DELETE' THEN {_note("NEW.")} END IF;
            IF TG_OP = 'INSERT' AND EXISTS (SELECT FROM marks WHERE digest = NEW.digest) THEN
                PERFORM frames_mark(NEW.digest);
            END IF;
            RETURN NULL;
        END $$""")
    of = ", ".join(_COLUMNS)
    op.execute(f"""
        CREATE TRIGGER frames_changed AFTER INSERT OR DELETE OR UPDATE OF {of} ON frames
        FOR EACH ROW EXECUTE FUNCTION frames_changed()""")
    op.execute("""
        CREATE TRIGGER marks_changed AFTER INSERT OR DELETE ON marks
        FOR EACH ROW EXECUTE FUNCTION marks_changed()""")


def _watch_in_sqlite() -> None:
    was, now, of = _note("OLD.", "-"), _note("NEW."), ", ".join(_COLUMNS)
    new, old = (
        f"{_remark(f'{row}.digest')} WHERE digest = {row}.digest;" for row in ("NEW", "OLD")
    )
    known = "EXISTS (SELECT 1 FROM marks WHERE digest = NEW.digest)"
    for name, when, does in (
        ("frames_added", "INSERT ON frames", now),
        ("frames_erased", "DELETE ON frames", was),
        ("frames_changed", f"UPDATE OF {of} ON frames", f"{was} {now}"),
        ("frames_known", f"INSERT ON frames WHEN {known}", new),
        ("marks_added", "INSERT ON marks", new),
        ("marks_erased", "DELETE ON marks", old),
    ):
        op.execute(f"CREATE TRIGGER {name} AFTER {when} BEGIN {does} END")


def _make_indexes() -> None:
    """A filter by itself, in each order; the wheres are those of ``tables.py``."""
    for name in ("device_id", "bundle_digest", "capture_time_unix_nano"):
        op.execute(f"DROP INDEX IF EXISTS ix_frames_{name}")  # the first column of others
    arrived, loss = "received_time_unix_nano", "max_predicted_loss"
    for name, columns, where in (
        ("device_loss", ["device_id", loss], None),
        ("camera_captured", ["device_id", "stream_id", "capture_time_unix_nano"], None),
        ("stream_arrived", ["stream_id", arrived], None),
        ("bundle_loss", ["bundle_digest", loss], None),
        ("reason_arrived", ["reason", arrived], "reason <> 'predicted_loss'"),
        ("reason_loss", ["reason", loss], "reason <> 'predicted_loss'"),
        ("campaign_arrived", ["campaign", arrived], "campaign <> ''"),
        ("campaign_loss", ["campaign", loss], "campaign <> ''"),
        ("mark_arrived", ["mark", arrived], "mark <> ''"),
        ("mark_loss", ["mark", loss], "mark <> ''"),
        ("marked", [arrived], "mark <> ''"),
        ("unscored", ["digest"], "max_predicted_loss IS NULL"),
    ):
        only = sa.text(where) if where else None
        op.create_index(
            f"ix_frames_{name}", "frames", columns, postgresql_where=only, sqlite_where=only
        )
