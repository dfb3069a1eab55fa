"""A fleet's year of frames as rows of a PostgreSQL, for benchmarks of what is asked of them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from misgiving.collector.store.tables import FRAMES

DAYS = 365
START_NS = 1_764_547_200 * 10**9
"""2025-12-01; the last frame arrives a year later."""
END_NS = START_NS + DAYS * 86_400 * 10**9
SEED = 0

_PART = 250_000
_CONNECTIONS = 2
_POOL = 4096  # embeddings, of which each frame has one
_MADE = """
SET synchronous_commit = off;
SELECT setseed({seed});
INSERT INTO frames (
    digest, frame_id, stream_id, device_id, capture_time_unix_nano, received_time_unix_nano,
    size_bytes, bundle_digest, max_predicted_loss, reason, image_digest, flagged,
    failure_probability, sampling_probability, threshold, persons, campaign, engine, precision,
    software_version, embedding
)
SELECT
    encode(sha256(i::text::bytea), 'hex'),
    'f' || i,
    stream,
    device,
    CASE WHEN u[1] < 0.02 THEN 0 ELSE arrived - (u[2] * u[2] * 3.6e12)::bigint END,
    arrived,
    60000 + (u[3] * 80000)::bigint,
    encode(sha256(('bundle' || bundle)::bytea), 'hex'),
    loss,
    reason,
    -- One of fifty is the picture of an earlier frame.
    encode(sha256(('image' || CASE WHEN u[4] < 0.02 THEN i - 1 ELSE i END)::bytea), 'hex'),
    CASE WHEN part >= 0.01 THEN reason = 'predicted_loss' END,  -- else as of an earlier release
    CASE WHEN loss IS NOT NULL THEN loss / (1 + loss) END,
    CASE reason WHEN 'predicted_loss' THEN 1 ELSE 1 - power(0.99, 1 + (mod(i, 3))) END,
    0.8,
    CASE WHEN loss IS NULL THEN 0 ELSE 1 + mod(i, 3) END,
    campaign,
    'onnxruntime CPUExecutionProvider',
    'fp32',
    '0.1.0',
    CASE WHEN bundle >= 6 THEN (SELECT p.embedding FROM pool AS p WHERE p.id = mod(i, {pool})) END
FROM (
    SELECT
        *,
        CASE
            WHEN u[5] < 0.05 AND reason <> 'predicted_loss' THEN NULL
            WHEN reason = 'predicted_loss' THEN 0.8 - 0.4 * ln(1 - u[6]) * (1 + mod(bundle, 3))
            ELSE 0.8 * u[6]
        END AS loss,
        CASE
            WHEN u[7] < 0.001 AND part > 0.97 THEN 'pedestrians'
            WHEN u[7] < 0.3 AND part BETWEEN 0.3 AND 0.45 THEN 'night'
            WHEN u[7] < 0.2 AND left(device, 5) = 'car-1' THEN 'rain'
            ELSE ''
        END AS campaign
    FROM (
        SELECT
            *,
            CASE
                WHEN u[8] < 0.005 AND part < 0.1 THEN ''
                WHEN u[8] < 0.03 AND bundle = 3 THEN 'shadow'
                WHEN u[8] < 0.25 THEN 'audit'
                ELSE 'predicted_loss'
            END AS reason,
            CASE
                WHEN device IN ('car-007', 'car-123') AND u[9] < 0.3 THEN 'trailer'
                WHEN u[9] < 0.65 THEN 'front'
                WHEN u[9] < 0.95 THEN 'rear'
                ELSE 'left'
            END AS stream
        FROM (
            SELECT
                *,
                {start} + (part * {span})::bigint AS arrived,
                'car-' || lpad(floor(200 * power(u[10], 1.5))::text, 3, '0') AS device,
                greatest(0, floor(part * 8 - (u[11] < 0.05)::int))::int AS bundle
            FROM (
                SELECT
                    i,
                    i / {rows}::float AS part,
                    ARRAY[{randoms}] AS u
                FROM generate_series({first}, {last}) AS i
            ) AS drawn
        ) AS placed
    ) AS kept
) AS scored
"""
_WORKED_ON = f"""
SELECT setseed(0.5);
CREATE TEMP TABLE worked AS
    (SELECT digest, received_time_unix_nano AS arrived FROM frames WHERE reason <> 'shadow'
     ORDER BY digest LIMIT {{marked}} / 2)
    UNION
    (SELECT digest, received_time_unix_nano FROM frames ORDER BY received_time_unix_nano DESC
     LIMIT {{marked}} / 2);
INSERT INTO marks (digest, mark, by, at_unix_nano)
    SELECT digest, (ARRAY['label', 'confirmed', 'confirmed', 'false_alarm', 'wrong_label',
        'ignore'])[1 + floor(random() * 6)::int], 'ann', arrived + (random() * 8.64e13)::bigint
    FROM worked;
INSERT INTO batches SELECT 'batch-' || i, {START_NS} + i * 86400000000000, 'coco'
    FROM generate_series(1, 20) AS i;
INSERT INTO batch_frames SELECT 'batch-' || 1 + mod(i, 20), digest
    FROM (SELECT digest, row_number() OVER () AS i FROM worked) AS numbered WHERE mod(i, 2) = 0;
INSERT INTO labelled SELECT 'labels-1', digest FROM batch_frames WHERE digest < 'c';
INSERT INTO label_sets VALUES ('labels-1', {START_NS}, 'labels-1');
INSERT INTO declined
    SELECT encode(sha256(('declined' || i)::bytea), 'hex'),
        'car-' || lpad(mod(i, 200)::text, 3, '0'), 'front', 'd' || i, '', random(),
        CASE WHEN random() < 0.3 THEN 'same_picture' ELSE 'near_duplicate' END,
        {START_NS} + (i * {END_NS - START_NS}::float / {{declined}})::bigint
    FROM generate_series(1, {{declined}}) AS i
"""


def fill(engine: sa.Engine, rows: int) -> None:
    """Fill the tables, whose indexes had better be made afterwards.

    There are 200 devices, a few of which send most; four streams, one of them of two devices only;
    three campaigns and eight bundles, one after another, the last two with embeddings of 128
    float32. One frame of a hundred is marked, half of these the newest, half drawn by digest; half
    of the marked ones went to annotators. A tenth as many frames were declined.
    """
    rng = np.random.default_rng(SEED)
    pool = rng.normal(size=(_POOL, 128)).astype("<f4")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE pool (id int PRIMARY KEY, embedding bytea)")
        made = [{"id": at, "embedding": one.tobytes()} for at, one in enumerate(pool)]
        table = sa.table("pool", sa.column("id"), sa.column("embedding"))
        connection.execute(sa.insert(table), made)
    with ThreadPoolExecutor(_CONNECTIONS) as threads:
        parts = range(0, rows, _PART)
        for _ in threads.map(lambda first: _fill(engine, rows, first), parts):
            pass
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE pool")
        worked_on = _WORKED_ON.format(marked=rows // 100, declined=rows // 10)
        for statement in worked_on.split(";\n"):
            connection.exec_driver_sql(statement)


def without_indexes(connection: sa.Connection) -> None:
    """Drop those of the frames, but for the primary key."""
    for index in sa.inspect(connection).get_indexes(FRAMES.name):
        connection.exec_driver_sql(f"DROP INDEX {index['name']}")


def size_of(connection: sa.Connection, folder: Path | None = None) -> str:
    """Of the table of frames and of its indexes."""
    table, indexes = connection.exec_driver_sql(
        "SELECT pg_table_size('frames'), pg_indexes_size('frames')"
    ).one()
    return f"{table / 1e9:.1f} GB and {indexes / 1e9:.1f} GB of indexes"


def _fill(engine: sa.Engine, rows: int, first: int) -> None:
    made = _MADE.format(
        seed=first / rows,
        rows=rows,
        first=first,
        last=min(rows, first + _PART) - 1,
        start=START_NS,
        span=END_NS - START_NS,
        pool=_POOL,
        randoms=", ".join(["random()"] * 11),
    )
    with engine.begin() as connection:
        for statement in made.split(";\n"):
            connection.exec_driver_sql(statement)
