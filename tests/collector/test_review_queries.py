"""What the pages ask the database, against the same done in Python."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from misgiving.collector.frames.selection import FrameSelection, Place
from misgiving.collector.frames.words import PAGED, Order
from misgiving.collector.review import queries
from misgiving.collector.review.queries import Marked
from misgiving.collector.store.database import Database
from misgiving.collector.store.folding import DAY_NS
from misgiving.collector.store.rows import StoredFrame
from misgiving.collector.store.store import Store
from misgiving.v1.pose_pb2 import KeepReason
from shared.collecting import collected, person, serialise
from shared.rows import HOUR, START, database_of, row

LOSSES = (0.5, None, 0.9, 0.5, None, 0.1, 0.9, 0.3)
"""Twice the same, and frames without one."""
DIGESTS = [f"{(37 * i) % 101:064x}" for i in range(len(LOSSES))]
ROWS = [
    row(
        i,
        digest=digest,
        max_predicted_loss=loss,
        received_time_unix_nano=START + (i // 2) * HOUR,
        stream_id="front" if i % 2 else "rear",
    )
    for i, (digest, loss) in enumerate(zip(DIGESTS, LOSSES, strict=True))
]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with database_of(tmp_path, ROWS) as made:
        yield made


def sorted_rows(order: Order) -> list[StoredFrame]:
    """Slowly."""
    if order is Order.NEWEST:
        return sorted(ROWS, key=lambda one: (-one.received_time_unix_nano, one.digest))
    if order is Order.DRAWN:
        return sorted(ROWS, key=lambda one: one.digest)
    none = [one for one in ROWS if one.max_predicted_loss is None]
    some = [one for one in ROWS if one.max_predicted_loss is not None]
    return [
        *sorted(some, key=lambda one: (-(one.max_predicted_loss or 0), one.digest)),
        *sorted(none, key=lambda one: one.digest),
    ]


@pytest.mark.parametrize("order", PAGED)
def test_pages_follow_each_other(database: Database, order: Order) -> None:
    found: list[StoredFrame] = []
    with database.connect(reads=True) as connection:
        while True:
            place = Place.of(found[-1], order) if found else None
            page = queries.list_frames(connection, FrameSelection(), order, beyond=place, limit=3)
            found += page
            if len(page) < 3:
                break
    assert [one.digest for one in found] == [one.digest for one in sorted_rows(order)]


@pytest.mark.parametrize("order", PAGED)
def test_the_frames_beside_one(database: Database, order: Order) -> None:
    expected = [one.digest for one in sorted_rows(order)]
    with database.connect(reads=True) as connection:
        for at, one in enumerate(sorted_rows(order)):
            beside = [
                [
                    found.digest
                    for found in queries.list_frames(
                        connection,
                        FrameSelection(),
                        order,
                        beyond=Place.of(one, order),
                        backwards=backwards,
                        limit=1,
                    )
                ]
                for backwards in (True, False)
            ]
            assert beside == [expected[max(0, at - 1) : at], expected[at + 1 : at + 2]]


def test_the_same_camera_in_order_of_capture(database: Database) -> None:
    with database.connect(reads=True) as connection:
        found = queries.around(connection, ROWS[3], 1)
    assert [one.frame_id for one in found] == ["f1", "f3", "f5"]


def test_unknown_capture_times_go_by_arrival(tmp_path: Path) -> None:
    rows = [row(i, capture_time_unix_nano=0) for i in (2, 0, 1)]
    with database_of(tmp_path, rows) as made, made.connect(reads=True) as connection:
        found = queries.around(connection, rows[2], 5)
    assert [one.frame_id for one in found] == ["f0", "f1", "f2"]


def test_nearest_embeddings_of_the_same_bundle(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(30, 8)).astype("<f4")
    vectors[4] = 0  # has no direction
    vectors[5, 2], vectors[6] = np.nan, np.inf
    rows = [row(i, embedding=one.tobytes()) for i, one in enumerate(vectors)]
    rows += [row(50, embedding=vectors[0].tobytes(), bundle_digest="c" * 64)]
    rows += [row(51, embedding=vectors[0, :4].tobytes()), row(52)]
    with database_of(tmp_path, rows) as made, made.connect(reads=True) as connection:
        found = queries.alike(connection, rows[0], 40)
        assert queries.alike(connection, rows[-1], 4) == []
        assert queries.alike(connection, rows[4], 4) == []
    length = np.linalg.norm(vectors, axis=1)
    cosine = {
        i: 1 - float(vectors[i] @ vectors[0]) / float(length[i] * length[0])
        for i in range(1, 30)
        if i not in (4, 5, 6)
    }
    assert [digest for digest, _ in found] == [f"{i:064x}" for i in sorted(cosine, key=cosine.get)]
    np.testing.assert_allclose(
        [distance for _, distance in found], sorted(cosine.values()), atol=1e-6
    )


def test_strata_have_sums_and_the_newest_verdicts(tmp_path: Path) -> None:
    audited = {"reason": "audit", "flagged": False, "sampling_probability": 0.25}
    rows = [row(i, sampling_probability=1.0) for i in range(3)]
    rows += [row(i, max_predicted_loss=0.1 * i, **audited) for i in range(3, 7)]
    rows += [row(7, flagged=None), row(8, sampling_probability=None)]  # of an earlier release
    said = [(0, "confirmed"), (1, "false_alarm"), (1, "label"), (3, "confirmed"), (4, "confirmed")]
    said += [(4, "false_alarm"), (5, "confirmed"), (5, "ignore"), (7, "confirmed"), (6, "label")]
    with database_of(tmp_path, rows) as made, made.connect() as connection:
        for at, (number, mark) in enumerate(said):
            queries.add_mark(connection, rows[number].digest, Marked(mark, "ann", at))
        quiet, loud = queries.strata(connection, FrameSelection())
        (only,) = queries.strata(connection, FrameSelection(until_ns=START + 3 * HOUR))
    assert (loud.flagged, loud.reason, loud.kept, loud.weight, loud.variance) == (
        *(True, "predicted_loss", 3),
        *(3.0, 0.0),
    )
    assert (loud.judged_frames, loud.failed_frames) == (2, 1)
    assert (quiet.flagged, quiet.reason, quiet.kept, quiet.weight) == (False, "audit", 4, 16.0)
    assert quiet.variance == pytest.approx(4 * 0.75 / 0.25**2)
    (camera,) = quiet.judged
    assert (camera.camera, camera.frames, camera.failed) == ("car-7/front", 2, 1)
    assert (camera.weight, camera.square, camera.failed_weight) == (8.0, 32.0, 4.0)
    assert (camera.scored, camera.score) == (2, pytest.approx(0.7))
    assert (quiet.mean_score, quiet.deviation) == pytest.approx(
        (0.45, float(np.std([0.3, 0.4, 0.5, 0.6])))
    )
    assert only.flagged


def test_arrivals_by_day(tmp_path: Path) -> None:
    rows = [row(i, device_id=f"car-{i % 2}") for i in range(48)]
    with database_of(tmp_path, rows) as made, made.connect(reads=True) as connection:
        found = queries.arrivals(connection, FrameSelection(), START)
    expected = Counter(one.received_time_unix_nano // DAY_NS for one in rows)
    days, devices = found
    assert days == [(day, "predicted_loss", count) for day, count in sorted(expected.items())]
    assert devices == {"car-0": 24, "car-1": 24}


def test_a_frame_of_two_persons_is_drawn_for_either(tmp_path: Path) -> None:
    quiet = collected("quiet", persons=[person(0, loss=0.1), person(1, loss=0.2)])
    for one in quiet.persons:
        one.flag.kept = KeepReason.KEEP_REASON_AUDIT
    loud = collected("loud", persons=[person(0, loss=0.1), person(1, loss=2.0)])
    with Store(tmp_path / "store") as store:
        for frame in (quiet, loud):
            store.put(serialise(frame))
        found = {row.frame_id: row.sampling_probability for row, _ in store.frames()}
    assert found == {"quiet": pytest.approx(1 - 0.99**2), "loud": 1.0}
