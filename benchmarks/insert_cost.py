"""What the indexes and the triggers of the review page cost whoever stores frames.

Run: PYTHONPATH=tests python benchmarks/insert_cost.py
Needs PostgreSQL's programs. Two minutes on two cores.
"""

import os
import platform
import time
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import sqlalchemy as sa
from fleet_rows import END_NS
from review_queries import BEFORE, filled, prepared, took

from misgiving.collector.store.database import Database, database_url
from misgiving.collector.store.folding import fold
from misgiving.collector.store.rows import StoredFrame
from shared.services import Postgres, started

FILLED = 200_000
ROWS = 300
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


def insert(engine: sa.Engine, table: sa.Table, first: int) -> None:
    """Each row in a transaction of its own, as a collector has it."""
    rows = (replace(row(first + at)) for at in range(ROWS))
    for one in rows:
        values = {name: value for name, value in asdict(one).items() if name in table.c}
        with engine.begin() as connection:
            connection.execute(sa.insert(table).values(values))


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
            f"turns, into tables of {FILLED:,}; medians of {ROUNDS}.\n\n"
            f"| fsync | revision {BEFORE}, rows/s | now, rows/s | now / before |\n"
            "|---|---:|---:|---:|"
        )
        number = 0
        for fsync in ("off", "on"):
            server._execute(f"ALTER SYSTEM SET fsync = {fsync}")
            server._execute("SELECT pg_reload_conf()")
            rates = []
            for _ in range(ROUNDS):
                both = zip(engines, tables, strict=True)
                times = [took(partial(insert, *one, number)) for one in both]
                rates.append([ROWS / one for one in times])
                number += ROWS
            before, after = np.median(rates, axis=0)
            ratio = np.median([b / a for a, b in rates])
            print(f"| {fsync} | {before:.0f} | {after:.0f} | {ratio:.2f} |", flush=True)
        changes = 2 * ROUNDS * ROWS
        each = 1e6 * took(lambda: fold(now)) / changes
        print(f"\nFolding {changes:,} changes into the sums: {each:.0f} µs each.")
        now.close()


if __name__ == "__main__":
    main()
