"""Sums that the database keeps are those of its frames, whoever changes these at once."""

import random
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command, config

from misgiving.collector.frames.erased import Why
from misgiving.collector.frames.erasing import _delete_rows
from misgiving.collector.frames.selection import FrameSelection
from misgiving.collector.frames.summed import frame_parts, summed
from misgiving.collector.review.queries import Marked, add_mark
from misgiving.collector.store import migrating
from misgiving.collector.store.database import Database, database_url, sqlite_url
from misgiving.collector.store.folding import DAY_NS, EVER, KEY, SUMS, fold
from misgiving.collector.store.rows import Rows, StoredFrame
from misgiving.collector.store.tables import FRAME_CHANGES, FRAME_SUMS, FRAMES, MARKS
from shared.collecting import child, line_of
from shared.rows import HOUR, START, row
from shared.services import Place

CHANGES = """
import random, sys
from pathlib import Path
from misgiving.collector.review.queries import Marked, add_mark
from misgiving.collector.store.database import Database, database_url
sys.path.insert(0, sys.argv[3])
from test_summed import change

database = Database(database_url(sys.argv[1]), "database")
print("ready", flush=True)
sys.stdin.readline()
for number in range(80):
    change(database, random.Random(f"{sys.argv[2]} {number}"))
print("done", flush=True)
database.close()
"""


@pytest.fixture
def database(place: Place) -> Iterator[Database]:
    """An empty one of either kind."""
    place.folder.mkdir(parents=True)
    url = database_url(place.url) if place.url else sqlite_url(place.folder / "store.sqlite")
    database = Database(url, "database")
    yield database
    database.close()


def some_row(rng: random.Random) -> StoredFrame:
    """One of 40 frames, another each time that it comes."""
    return row(
        number := rng.randrange(40),
        device_id=f"car-{rng.randrange(3)}",
        stream_id=rng.choice(["front", "rear"]),
        reason=rng.choice(["predicted_loss", "audit", ""]),
        campaign=rng.choice(["", "", "night"]),
        flagged=rng.choice([True, False, None]),
        max_predicted_loss=rng.choice([None, 1e300, rng.gauss(1, 1)]),
        sampling_probability=rng.choice([None, 0.0, 1e-300, 1.0, 0.5, 0.01, 7.0]),
        received_time_unix_nano=START + 3 * number * HOUR,
    )


def change(database: Database, rng: random.Random) -> None:
    """What a collector, a reviewer, retention or a fold does."""
    digest = row(rng.randrange(40)).digest
    what = rng.randrange(8)
    if what == 0:
        fold(database)
    elif what < 5:
        Rows(database).insert([some_row(rng)])
    else:
        with database.connect() as connection:
            if what < 7:
                mark = rng.choice(["confirmed", "false_alarm", "ignore", "label"])
                add_mark(connection, digest, Marked(mark, "ann", rng.randrange(9)))
            else:
                _delete_rows(connection, [digest], Why.EXPIRED)


def fresh(connection: sa.Connection, day: Any) -> dict[tuple[Any, ...], tuple[float, ...]]:
    """The sums, from the frames; with what the marks say from the marks."""
    frames = [dict(one) for one in connection.execute(sa.select(FRAMES)).mappings()]
    said = sa.select(MARKS).order_by(MARKS.c.at_unix_nano, MARKS.c.id)
    marks = connection.execute(said).mappings().all()
    for frame in frames:
        of = [one["mark"] for one in marks if one["digest"] == frame["digest"]]
        judged = [one for one in of if one in ("confirmed", "false_alarm", "ignore")]
        verdict = {"confirmed": True, "false_alarm": False}.get(judged[-1] if judged else "")
        assert (frame["mark"], frame["failed"]) == (of[-1] if of else "", verdict)
    parts = frame_parts() | {"day": day}
    key = [parts[name] for name in KEY]
    sums = [sa.func.sum(parts[name]) for name in SUMS]
    rows = connection.execute(sa.select(*key, *sums).group_by(*key))
    return {tuple(one[: len(KEY)]): tuple(map(float, one[len(KEY) :])) for one in rows}


def kept(connection: sa.Connection) -> dict[tuple[Any, ...], tuple[float, ...]]:
    rows = connection.execute(sa.select(FRAME_SUMS))
    return {tuple(one[: len(KEY)]): tuple(map(float, one[len(KEY) :])) for one in rows}


def check(database: Database) -> None:
    with database.connect(reads=True) as connection:
        parts = frame_parts()
        expected = fresh(connection, parts["day"])
        read = summed(connection, FrameSelection(), KEY, SUMS)
        found = {tuple(one[: len(KEY)]): tuple(map(float, one[len(KEY) :])) for one in read}
        assert found.keys() == expected.keys()
        for key, sums in expected.items():
            assert found[key] == pytest.approx(sums, abs=1e-6)
    fold(database)
    with database.connect(reads=True) as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(FRAME_CHANGES)) == 0
        ever = fresh(connection, sa.literal(EVER))
        for key, sums in (found := kept(connection)).items():
            assert sums == pytest.approx((expected | ever)[key], abs=1e-6)
        assert found.keys() == expected.keys() | ever.keys()


def test_sums_after_changes_of_two_processes(database: Database, place: Place) -> None:
    url = place.url or str(sqlite_url(place.folder / "store.sqlite"))
    here = str(Path(__file__).parent)
    with child(CHANGES, url, "one", here) as one, child(CHANGES, url, "two", here) as two:
        assert [line_of(one), line_of(two)] == ["ready"] * 2
        for process in (one, two):
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [line_of(one), line_of(two)] == ["done"] * 2
    check(database)


def test_a_frame_that_was_marked_before_it_came(database: Database) -> None:
    one = row(1, sampling_probability=1.0)
    said = {"digest": one.digest, "mark": "confirmed", "by": "ann", "at_unix_nano": 1}
    with database.connect() as connection:
        connection.execute(sa.insert(MARKS).values(said))
        connection.execute(sa.insert(FRAMES).values(asdict(one)))
    check(database)
    with database.connect(reads=True) as connection:
        assert summed(connection, FrameSelection(), (), ("judged", "failed")) == [(1, 1)]


DAY = START // DAY_NS * DAY_NS
TIMES = [None, DAY, DAY + 1, DAY + 5 * HOUR, DAY + DAY_NS, DAY + 30 * HOUR, DAY + 3 * DAY_NS]


@pytest.mark.parametrize("folded", [False, True])
def test_times_within_a_day(database: Database, folded: bool) -> None:
    arrived = [DAY + hour * HOUR for hour in range(60)]
    rows = [row(i, received_time_unix_nano=at) for i, at in enumerate(arrived)]
    with database.connect() as connection:
        for one in rows:
            connection.execute(sa.insert(FRAMES).values(asdict(one)))
    if folded:
        fold(database)
    with database.connect(reads=True) as connection:
        for since in TIMES:
            for until in TIMES:
                within = [x for x in arrived if (since or 0) <= x < (until or 1 << 62)]
                selection = FrameSelection(since_ns=since, until_ns=until)
                found = summed(connection, selection, (), ("frames",))
                assert [tuple(one) for one in found] == [(len(within),)] * bool(within)
                days = summed(connection, selection, ("day",), ("frames",))
                by_day = {x // DAY_NS: 0 for x in within}
                for x in within:
                    by_day[x // DAY_NS] += 1
                assert [tuple(one) for one in days] == sorted(by_day.items())


def test_rows_of_before_are_summed(place: Place) -> None:
    place.folder.mkdir(parents=True)
    url = database_url(place.url) if place.url else sqlite_url(place.folder / "store.sqlite")
    rng = random.Random(3)
    rows = {one.digest: one for one in (some_row(rng) for _ in range(60))}
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        if place.url:  # which another test has brought up
            connection.exec_driver_sql("DROP SCHEMA public CASCADE")
            connection.exec_driver_sql("CREATE SCHEMA public")
        upgrade(connection, "0007")
        before = sa.Table("frames", sa.MetaData(), autoload_with=connection)
        for one in rows.values():
            values = {name: x for name, x in asdict(one).items() if name in before.c}
            connection.execute(sa.insert(before).values(values))
            for mark in rng.sample(["confirmed", "false_alarm", "ignore", "label"], 2):
                said = {"digest": one.digest, "mark": mark, "by": "ann", "at_unix_nano": 1}
                connection.execute(sa.insert(MARKS).values(said))
    engine.dispose()
    database = Database(url, "database")
    with database.connect(reads=True) as connection:
        assert connection.scalar(sa.select(sa.func.sum(FRAME_SUMS.c.frames))) == 2 * len(rows)
    check(database)
    database.close()


def upgrade(connection: sa.Connection, revision: str) -> None:
    """To an earlier release's tables."""
    settings = config.Config()
    settings.set_main_option("script_location", str(migrating._MIGRATIONS))
    settings.set_main_option("path_separator", "os")
    settings.attributes["connection"] = connection
    command.upgrade(settings, revision)
