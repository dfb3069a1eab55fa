"""What the review page asks of a database of millions of frames, and how long each query takes.

Run: PYTHONPATH=tests python benchmarks/review_queries.py [ROWS]
Its output is benchmarks/review_queries_cpu_<yyyymm>.md. ROWS, 10,000,000 by default, want 17 GB of
disk below TMPDIR and PostgreSQL's programs. A quarter of an hour on two cores.
"""

import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from alembic import command, config
from fleet_rows import END_NS, START_NS, fill, size_of, without_indexes

from misgiving.collector.frames.selection import FrameSelection, Place
from misgiving.collector.frames.words import PAGED, Order
from misgiving.collector.review import charts, pages, queries
from misgiving.collector.review.auditing import estimate_audit
from misgiving.collector.store import migrating
from misgiving.collector.store.database import Database, database_url
from misgiving.collector.store.folding import DAY_NS
from misgiving.collector.store.tables import FRAMES
from shared.services import Postgres, started

ROWS = 10_000_000
REPEATS = 7
LIMIT_MS = 100.0
SETTINGS = {
    "shared_buffers": "2GB",
    "effective_cache_size": "8GB",
    "random_page_cost": "1.1",
    "maintenance_work_mem": "1GB",
    # While the tables are filled; nothing here measures writing.
    "fsync": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "1GB",
}
BEFORE = "0007"  # the revision that is filled; later ones are migrated to, with the rows in it

Connection = sa.Connection
Asked = Callable[[Connection], Any]
_CAR, _RARE = "car-007", "car-199"
_DAY = END_NS - DAY_NS
SELECTIONS = {
    "all": FrameSelection(),
    "device": FrameSelection(devices=(_CAR,)),
    "device of few frames": FrameSelection(devices=(_RARE,)),
    "devices `car-1*`": FrameSelection(devices=("car-1*",)),
    "device nobody has": FrameSelection(devices=("car-7",)),
    "stream": FrameSelection(streams=("rear",)),
    "stream of two devices": FrameSelection(streams=("trailer",)),
    "reason audit": FrameSelection(reasons=("audit",)),
    "reason shadow, old": FrameSelection(reasons=("shadow",)),
    "campaign": FrameSelection(campaigns=("rain",)),
    "campaign, old": FrameSelection(campaigns=("night",)),
    "campaign of few frames": FrameSelection(campaigns=("pedestrians",)),
    "campaign nobody has": FrameSelection(campaigns=("spring",)),
    "bundle, first digits": FrameSelection(bundle="{bundle}"),
    "score 0.5-0.6": FrameSelection(score=(0.5, 0.6)),
    "score from 8 on": FrameSelection(score=(8.0, float("inf"))),
    "score nobody has": FrameSelection(score=(100.0, float("inf"))),
    "last hour": FrameSelection(since_ns=END_NS - DAY_NS // 24),
    "last day": FrameSelection(since_ns=_DAY),
    "a day half a year ago": FrameSelection(
        since_ns=_DAY - 182 * DAY_NS, until_ns=END_NS - 182 * DAY_NS
    ),
    "reviewed": FrameSelection(reviewed=True),
    "not reviewed": FrameSelection(reviewed=False),
    "mark": FrameSelection(marks=("wrong_label",)),
    "audit, not reviewed": FrameSelection(reasons=("audit",), reviewed=False),
    "device, stream, audit": FrameSelection(devices=(_CAR,), streams=("rear",), reasons=("audit",)),
    "device, last day": FrameSelection(devices=(_CAR,), since_ns=_DAY),
    "campaign and reason": FrameSelection(campaigns=("night",), reasons=("shadow",)),
    "campaign and reason, no frame": FrameSelection(
        campaigns=("pedestrians",), reasons=("shadow",)
    ),
}
POPULATIONS = {
    name: one
    for name, one in SELECTIONS.items()
    if not (one.reasons or one.score or one.marks or one.reviewed is not None)
}


@dataclass
class Statement:
    """One that a query was made of."""

    text: str
    parameters: Any


def main(rows: int) -> None:
    """Fill, migrate, measure and print the page."""
    with started(Postgres) as server:
        url = prepared(server)
        engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
        times = [took(lambda: filled(engine, rows))]
        times.append(took(lambda: Database(database_url(url), "database").close()))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
        print(heading(engine, rows, times))
        database = Database(database_url(url), "database")
        slow = [name for name, median in measured(database, engine) if median > LIMIT_MS]
        database.close()
        engine.dispose()
    print(f"\nSlower than {LIMIT_MS:.0f} ms: {', '.join(slow) or 'none'}.")


def prepared(server: Postgres) -> str:
    """The URL of an empty database of a server with SETTINGS."""
    for name, value in SETTINGS.items():
        server._execute(f"ALTER SYSTEM SET {name} = '{value}'")
    server.kill()
    server.start()
    return server.make()


def filled(engine: sa.Engine, rows: int) -> None:
    """Rows in the tables of before, and the indexes that those had which are still there."""
    settings = config.Config()
    settings.set_main_option("script_location", str(migrating._MIGRATIONS))
    settings.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, BEFORE)
        had = {one["name"] for one in sa.inspect(connection).get_indexes(FRAMES.name)}
        without_indexes(connection)
    fill(engine, rows)
    with engine.begin() as connection:
        for index in FRAMES.indexes:
            if index.name in had:
                index.create(connection)


def measured(database: Database, engine: sa.Engine) -> Iterator[tuple[str, float]]:
    """Print a row for each query; names and medians in ms."""
    with database.connect(reads=True) as connection:
        asked = dict(questions(connection))
    for name, ask in asked.items():
        times = []
        with database.connect(reads=True) as connection:
            pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
            ask(connection)  # to warm up
            cpu = cpu_ms(pid)
            for _ in range(REPEATS):
                began = time.perf_counter()
                ask(connection)
                times.append(1e3 * (time.perf_counter() - began))
            cpu = (cpu_ms(pid) - cpu) / REPEATS
        median, worst = float(np.median(times)), max(times)
        rows, used = explained(database, engine, ask)
        row = f"| {name} | {median:.1f} | {worst:.1f} | {cpu:.0f} | {rows:,} | {used} |"
        print(row, flush=True)
        yield name, median


def cpu_ms(pid: Any) -> float:
    """Of this thread and a process of the server; Linux counts the latter in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    server = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 1e3 * (time.thread_time() + server)


def questions(connection: Connection) -> Iterator[tuple[str, Asked]]:
    """What each page asks, by a name."""
    newest = queries.list_frames(connection, FrameSelection(), Order.NEWEST, limit=1)[0]
    for order in PAGED:
        for name, one in SELECTIONS.items():
            one = replace(one, bundle=newest.bundle_digest[:6] if one.bundle else "")
            yield f"sheet, {order.value}: {name}", sheet(one, order)
        deep = replace(newest, received_time_unix_nano=(START_NS + END_NS) // 2)
        deep = replace(deep, max_predicted_loss=0.01, digest="8" * 64)
        yield f"sheet, {order.value}: page in the middle", sheet(FrameSelection(), order, deep)
    last = Place(None, "8" * 64)
    yield "sheet, worst: page of those without a score", sheet(FrameSelection(), Order.WORST, last)
    yield "sheet: names to choose from", queries.known_lately
    digests = [one.digest for one in queries.list_frames(
        connection, FrameSelection(reviewed=True), Order.NEWEST, limit=pages.PAGE)]  # fmt: skip
    yield "sheet: marks", lambda c: queries.newest_marks(c, digests)
    old = queries.list_frames(
        connection, FrameSelection(until_ns=(START_NS + END_NS) // 2), Order.NEWEST, limit=1
    )[0]
    for name, row in (("newest", newest), ("old", old)):
        yield f"frame, {name}: row", lambda c, row=row: queries.frame_row(c, row.digest)
        yield f"frame, {name}: marks", lambda c, row=row: queries.marks_of(c, row.digest)
        yield f"frame, {name}: around", lambda c, row=row: queries.around(c, row, pages.AROUND)
        for order in PAGED:
            view = pages.View(selection=FrameSelection(reasons=("audit",)), order=order)
            yield (
                f"frame, {name}: the next two of audit, {order.value}",
                lambda c, row=row, view=view: pages._neighbours(c, view, row),
            )
    yield "frame, newest: alike", lambda c: queries.alike(c, newest, pages.ALIKE)
    first = END_NS // DAY_NS - queries.DAYS + 1
    for name, one in POPULATIONS.items():
        one = replace(one, bundle=newest.bundle_digest[:6] if one.bundle else "")
        yield f"audit: {name}", lambda c, one=one: estimate_audit(queries.strata(c, one))
        yield (
            f"overview, arrivals: {name}",
            lambda c, one=one: charts.arrived(
                *queries.arrivals(c, one, first * DAY_NS), first, queries.DAYS
            ),
        )
        yield (
            f"overview, histograms: {name}",
            lambda c, one=one: charts.histograms(queries.scores_by_bundle(c, one)),
        )
    yield "overview: marks", queries.count_marks
    yield "overview: declined", lambda c: queries.count_declined(c, first * DAY_NS)


def sheet(selection: FrameSelection, order: Order, beyond: Any = None) -> Asked:
    """A page of the contact sheet."""
    place = (
        Place.of(beyond, order) if beyond is not None and not isinstance(beyond, Place) else beyond
    )
    return lambda c: queries.list_frames(c, selection, order, beyond=place, limit=pages.PAGE + 1)


def explained(database: Database, engine: sa.Engine, ask: Asked) -> tuple[int, str]:
    """Rows that a query's statements read, and the indexes by which; tables that were scanned."""
    with database.connect(reads=True) as connection, overheard(connection) as statements:
        ask(connection)
    rows, used = 0, dict[str, None]()
    with engine.connect() as connection:
        for one in statements:
            plan = "\n".join(
                connection.exec_driver_sql(
                    f"EXPLAIN (ANALYZE) {one.text}", one.parameters
                ).scalars()
            )
            rows += read_rows(plan)
            used |= dict.fromkeys(re.findall(r"(?:using|Bitmap Index Scan on) (\w+)", plan))
            used |= {f"all of {name}": None for name in re.findall(r"Seq Scan on (\w+)", plan)}
    return rows, ", ".join(name.removeprefix("ix_") for name in used) or "–"


def read_rows(plan: str) -> int:
    """Of the scans in a plan, with what they left out."""
    rows = 0
    for line in plan.splitlines():
        if found := re.search(r"Scan.*actual time=\S+ rows=(\d+) loops=(\d+)", line):
            rows += 0 if "Bitmap Index" in line else int(found[1]) * int(found[2])
        elif found := re.search(r"Rows Removed by Filter: (\d+)", line):
            rows += int(found[1])
    return rows


@contextmanager
def overheard(connection: Connection) -> Iterator[list[Statement]]:
    """The statements that a connection executes meanwhile."""
    heard = list[Statement]()

    def hear(_c: Any, _cursor: Any, text: str, parameters: Any, *_: Any) -> None:
        heard.append(Statement(text, parameters))

    sa.event.listen(connection, "before_cursor_execute", hear)
    try:
        yield heard
    finally:
        sa.event.remove(connection, "before_cursor_execute", hear)


def heading(engine: sa.Engine, rows: int, times: list[float]) -> str:
    with engine.connect() as connection:
        version = connection.exec_driver_sql("SHOW server_version").scalar()
        size = size_of(connection)
    settings = ", ".join(f"`{name} = {value}`" for name, value in list(SETTINGS.items())[:4])
    return f"""# What the review page asks of {rows:,} frames, CPU

`PYTHONPATH=tests python benchmarks/review_queries.py {rows}`, {time.strftime("%Y-%m-%d")},
{platform.machine()}, {os.cpu_count()} cores, CPython {platform.python_version()}, seed 0,
PostgreSQL {version},
{settings}.

A year of 200 devices, as `benchmarks/fleet_rows.py` says: {size}.
Filling them took {times[0]:.0f} s, and migrating them from revision {BEFORE} {times[1]:.0f} s.
Each query is asked as the page asks it, by the same function, once to warm up and then {REPEATS}
times; Python's work on the answer is within. CPU is the mean time of Python and of the server's
process, whatever else the machine does. Rows are those that the scans read or left out.

| query | median, ms | worst, ms | CPU, ms | rows | by |
|---|---:|---:|---:|---:|---|"""


def took(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)
