"""What the indexes and the triggers of the review page cost whoever stores frames.

Run: PYTHONPATH=tests python benchmarks/insert_cost.py
Needs PostgreSQL's programs. Two minutes on two cores.
"""

import os
import platform
import time
from dataclasses import asdict

import numpy as np
import sqlalchemy as sa
from fleet_rows import END_NS
from review_queries import BEFORE, cpu_ms, filled, prepared, took

from misgiving.collector.store.database import Database, database_url
from misgiving.collector.store.folding import fold
from misgiving.collector.store.rows import StoredFrame
from shared.services import Postgres, started

FILLED = 200_000
ROWS = 500
ROUNDS = 5


def row(number: int) -> StoredFrame:
    """A frame as most are; every fourth is of the audit, every fifth of a campaign."""
    return StoredFrame(
        digest=f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}" + "0" * 48,
        frame_id=f"n{number}",
        stream_id="front",
        device_id=f"car-{number % 200:03}",
        capture_time_unix_nano=END_NS + number,
        received_time_unix_nano=END_NS + number,
        size_bytes=100_000,
        bundle_digest="b" * 64,
        max_predicted_loss=number % 997 / 500,
        reason="predicted_loss" if number % 4 else "audit",
        image_digest=f"{number * 0xC2B2AE3D27D4EB4F % 2**64:016x}" + "0" * 48,
        flagged=bool(number % 4),
        sampling_probability=1.0 if number % 4 else 0.01,
        persons=1,
        campaign="" if number % 5 else "night",
        embedding=bytes(512),
    )


def insert(engine: sa.Engine, table: sa.Table, first: int) -> tuple[float, float]:
    """Each row in a transaction of its own, as a collector has it; microseconds of each by the
    clock, and of the server's CPU."""
    rows = [asdict(row(first + at)) for at in range(ROWS)]
    values = [{name: x for name, x in one.items() if name in table.c} for one in rows]
    with engine.connect() as connection:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        connection.commit()
        before, began = cpu_ms(pid) - 1e3 * time.thread_time(), time.perf_counter()
        for one in values:
            connection.execute(sa.insert(table).values(one))
            connection.commit()
        took_s = time.perf_counter() - began
        cpu = cpu_ms(pid) - 1e3 * time.thread_time() - before
    return 1e6 * took_s / ROWS, 1e3 * cpu / ROWS


def main() -> None:
    """Measure in turns and print."""
    with started(Postgres) as server:
        engines = []
        for release in (BEFORE, "now"):
            url = prepared(server) if release == BEFORE else server.make()
            engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
            filled(engine, FILLED)
            if release == "now":
                now = Database(database_url(url), "database")
            engines.append(engine)
        tables = [sa.Table("frames", sa.MetaData(), autoload_with=one) for one in engines]
        print(
            f"`PYTHONPATH=tests python benchmarks/insert_cost.py`, {time.strftime('%Y-%m-%d')}, "
            f"{platform.machine()}, {os.cpu_count()} cores: {ROWS} rows, each in a transaction, in "
            f"turns, into tables of {FILLED:,}; medians of {ROUNDS}, microseconds a row.\n\n"
            f"| fsync | clock, revision {BEFORE} | clock, now | server's CPU, {BEFORE} | "
            "server's CPU, now |\n|---|---:|---:|---:|---:|"
        )
        number = 0
        for fsync in ("off", "on"):
            server._execute(f"ALTER SYSTEM SET fsync = {fsync}")
            server._execute("SELECT pg_reload_conf()")
            times = []
            for _ in range(ROUNDS):
                both = zip(engines, tables, strict=True)
                times.append([insert(*one, number) for one in both])
                number += ROWS
            (clock, cpu), (clock_now, cpu_now) = np.median(times, axis=0).tolist()
            print(f"| {fsync} | {clock:.0f} | {clock_now:.0f} | {cpu:.0f} | {cpu_now:.0f} |")
        each = 1e6 * took(lambda: fold(now)) / number
        print(f"\nFolding {number:,} changes into the sums: {each:.0f} µs each.")
        now.close()


if __name__ == "__main__":
    main()
