"""By which index PostgreSQL finds what a page asks: one that is gone, or an order that none gives,
fails here before it does at ten million frames."""

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from misgiving.collector.frames.selection import FrameSelection, Place, select_frames
from misgiving.collector.frames.words import Mark, Order
from misgiving.collector.review import queries
from misgiving.collector.review.pages import Pages
from misgiving.collector.store import Store
from misgiving.collector.store.database import Database, TooSlow, database_url
from misgiving.collector.store.folding import fold
from misgiving.collector.store.tables import FRAMES, KEYS
from shared.rows import HOUR, START, row
from shared.services import Postgres

CAR, STREAM, BUNDLE = "car-1", "front", "b" * 64
NEWEST = Place(START + 1000 * HOUR, "5" * 64)
WORST, NO_SCORE = Place(0.5, "5" * 64), Place(None, "5" * 64)


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[Database]:
    """Rows of which few have what is asked for, so that the planner prefers to find these."""
    database = Database(database_url(postgres.make()), "database")
    usual = {"device_id": "car-2", "stream_id": "rear", "bundle_digest": "c" * 64}
    few = {"device_id": CAR, "stream_id": STREAM, "bundle_digest": BUNDLE, "reason": "audit"}
    rows = [
        row(
            number,
            digest=f"{number * 7919 % 2000:03x}{number:061x}",
            max_predicted_loss=None if number % 50 == 1 else number * 37 % 101 / 100,
            embedding=bytes(8),
            **(few | {"campaign": "night"} if number % 50 == 0 else usual),
        )
        for number in range(2000)
    ]
    with database.connect() as connection:
        connection.execute(sa.insert(FRAMES), [asdict(one) for one in rows])
        for number in range(0, 2000, 10):
            said = Mark.LABEL if number % 500 == 0 else Mark.IGNORE
            marked = queries.Marked(said.value, "ann", 1)
            queries.add_mark(connection, rows[number].digest, marked)
    fold(database)
    with database.connect() as connection:
        connection.exec_driver_sql("ANALYZE")
    yield database
    database.close()


def sheet(selection: FrameSelection, order: Order, after: Place | None = None) -> Any:
    return lambda c: select_frames(c, selection, order=order, after=after, limit=3)


def explained(database: Database, ask: "Asked") -> str:
    """The plans that PostgreSQL makes where neither a scan nor a sort seems cheap, as where there
    are many frames."""
    with database.connect(reads=True) as connection:
        for way in ("seqscan", "bitmapscan", "sort"):
            connection.exec_driver_sql(f"SET LOCAL enable_{way} = off")
        heard = list[tuple[str, Any]]()
        sa.event.listen(connection, "before_cursor_execute", lambda *said: heard.append(said[2:4]))
        ask(connection)
        plans = [
            connection.exec_driver_sql(f"EXPLAIN {text}", given).scalars().all()
            for text, given in list(heard)
        ]
    return "\n".join(line for plan in plans for line in plan)


def used(plan: str) -> list[str]:
    """The indexes of a plan, without what their names have in common."""
    names = re.findall(r"Index (?:Only )?Scan(?: Backward)? using (\w+)", plan)
    return [name.removeprefix("ix_").removeprefix("frames_") for name in names]


Asked = Callable[[sa.Connection], Any]
DEVICE, AUDIT = FrameSelection(devices=(CAR,)), FrameSelection(reasons=("audit",))
NIGHT, MARKED = FrameSelection(campaigns=("night",)), FrameSelection(marks=("label",))
OF_BUNDLE = FrameSelection(bundle=BUNDLE)


@pytest.mark.parametrize(
    ("ask", "index"),
    [
        # each order, and a page of it
        (sheet(FrameSelection(), Order.NEWEST), "received_time_unix_nano"),
        (sheet(FrameSelection(), Order.NEWEST, NEWEST), "received_time_unix_nano"),
        (sheet(FrameSelection(), Order.WORST), "max_predicted_loss"),
        (sheet(FrameSelection(), Order.WORST, WORST), "max_predicted_loss"),
        (sheet(FrameSelection(), Order.WORST, NO_SCORE), "unscored"),
        (sheet(FrameSelection(), Order.DRAWN, WORST), "pkey"),
        # each filter in each order
        (sheet(DEVICE, Order.NEWEST, NEWEST), "device_arrived"),
        (sheet(DEVICE, Order.WORST, WORST), "device_loss"),
        (sheet(FrameSelection(streams=(STREAM,)), Order.NEWEST, NEWEST), "stream_arrived"),
        (sheet(AUDIT, Order.NEWEST, NEWEST), "reason_arrived"),
        (sheet(AUDIT, Order.WORST, WORST), "reason_loss"),
        (sheet(NIGHT, Order.NEWEST, NEWEST), "campaign_arrived"),
        (sheet(NIGHT, Order.WORST, WORST), "campaign_loss"),
        (sheet(MARKED, Order.NEWEST, NEWEST), "mark_arrived"),
        (sheet(MARKED, Order.WORST, WORST), "mark_loss"),
        (sheet(FrameSelection(reviewed=True), Order.NEWEST, NEWEST), "marked"),
    ],
)
def test_a_sheet_is_found_in_its_order(database: Database, ask: Asked, index: str) -> None:
    plan = explained(database, ask)
    assert index in used(plan)
    assert not re.search(r"(^|->  )Sort ", plan, re.MULTILINE)  # but an incremental one, of ties


@pytest.mark.parametrize(
    ("ask", "index"),
    [
        # a frame's page
        (lambda c: queries.around(c, row(1000, device_id=CAR), 3), "camera_captured"),
        (lambda c: queries.marks_of(c, "a" * 64), "marks_digest"),
        (lambda c: queries.alike(c, row(7, embedding=bytes(8)), 3), "bundle_received"),
        # the charts
        (lambda c: queries.strata(c, FrameSelection()), "frame_sums_pkey"),
        (lambda c: queries.arrivals(c, FrameSelection(), START), "frame_sums_pkey"),
        (lambda c: queries.scores_by_bundle(c, FrameSelection()), "received_time_unix_nano"),
        (lambda c: queries.count_declined(c, START), "declined_declined_time_unix_nano"),
    ],
)
def test_what_else_a_page_asks_is_found_by_an_index(
    database: Database, ask: Asked, index: str
) -> None:
    assert index in used(explained(database, ask))


def test_a_page_does_not_wait_for_ever(database: Database) -> None:
    with (
        pytest.raises(TooSlow, match="database has worked on this for too long; expected fewer"),
        database.connect(reads=True, within_s=0.01) as connection,
    ):
        connection.exec_driver_sql("SELECT pg_sleep(60)")


def test_nor_where_it_is_sqlite(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        database = store.database
        with (
            pytest.raises(TooSlow, match="has worked on this for too long; expected fewer"),
            database.connect(reads=True, within_s=0.01) as connection,
        ):
            connection.exec_driver_sql(
                "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
                "SELECT count(*) FROM n"
            )
        for within_s in (0.01, None):  # the same connection, which is as it was before
            with database.connect(within_s=within_s) as connection:
                connection.execute(sa.insert(KEYS).values(name=str(within_s), value=b""))


def test_the_pages_ask_for_that(database: Database) -> None:
    class Opened:  # all that pages take of a store
        def __init__(self) -> None:
            self.database = database

    with Pages(Opened())._connect(reads=True) as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "20s"
