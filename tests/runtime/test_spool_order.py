"""Which frames a full spool lets go of, and when; what an earlier release left is valued too."""

import sqlite3
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from misgiving.runtime.nouns import Reason
from misgiving.runtime.outbox import spool as spool_module
from misgiving.runtime.outbox.records import DATABASE
from misgiving.runtime.outbox.spool import Spool
from misgiving.runtime.telemetry.gauges import of_spool
from misgiving.runtime.wire.offers import read_header
from misgiving.v1.fleet_pb2 import CollectedFrame
from misgiving.v1.pose_pb2 import KeepReason
from shared.collecting import collected, eventually, offer, person, serialise, until_pending

HOUR, DAY = 3600.0, 86400.0


def scored(name: str, loss: float, audit: bool = False, at: float = 0.0) -> CollectedFrame:
    """A frame of 1,200 bytes; all embeddings that have the same ``at`` are alike."""
    frame = collected(name, persons=[person(0, loss=loss)], image=bytes(400))
    frame.embeddings[0].values[:] = [at, 1.0]
    if audit:
        frame.persons[0].flag.kept = KeepReason.KEEP_REASON_AUDIT
    return frame


def names(spool: Spool) -> list[str]:
    return [entry.name.removeprefix("front/") for entry in spool.entries().values()]


def stored(spool: Spool, count: int) -> bool:
    return spool.counts().stored == count


def store(spool: Spool, *frames: CollectedFrame) -> None:
    """One commit after the other."""
    for frame in frames:
        after = spool.counts().stored + 1
        assert offer(spool, frame)
        eventually(partial(stored, spool, after))


def test_a_full_spool_keeps_what_is_worth_most(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    size = len(serialise(scored("low", 1.0)))
    spool = Spool(tmp_path, quota_bytes=3 * size + 100)
    store(spool, scored("low", 1.0), scored("aud", 0.1, audit=True, at=3.0))
    store(spool, scored("sim", 9.0, at=6.0), scored("top", 9.5, at=6.0))
    assert names(spool) == ["low", "aud", "top"]  # the lower of two that are alike
    store(spool, scored("one", 5.0, at=-3.0))
    assert names(spool) == ["aud", "top", "one"]  # the lowest score
    spool.refuse(spool.pending()[1], "no")
    store(spool, scored("two", 4.0, at=-9.0))
    assert names(spool) == ["aud", "one", "two"]  # what was refused
    store(spool, scored("bad", 0.5, at=30.0))
    assert names(spool) == ["aud", "one", "two"]  # itself
    spool.close()
    counts = spool.counts()
    assert (counts.stored, counts.evicted, counts.expired, counts.lost) == (7, 4, 0, 0)
    for gone in ("low", "sim", "top", "bad"):
        assert f"front/{gone} is evicted: the spool's quota is full" in caplog.text
    spool = Spool(tmp_path)
    assert names(spool) == ["aud", "one", "two"]
    spool.close()


def test_what_resembles_another_does_so_after_a_restart(tmp_path: Path) -> None:
    size = len(serialise(scored("one", 1.0)))
    spool = Spool(tmp_path)
    store(spool, scored("one", 9.0), scored("two", 9.5), scored("low", 1.0, at=5.0))
    store(spool, scored("six", 3.0, at=5.0))
    spool.close()
    spool = Spool(tmp_path, quota_bytes=3 * size + 100)
    assert [x.twin for x in spool.entries().values()] == [True, False, True, False]
    store(spool, scored("new", 2.0, at=-5.0))
    assert names(spool) == ["two", "six", "new"]
    spool.close()


def test_nothing_is_compared_where_that_is_off(tmp_path: Path) -> None:
    spool = Spool(tmp_path, near_duplicate=None)
    store(spool, scored("one", 9.0), scored("two", 9.5))
    assert not any(entry.twin for entry in spool.entries().values())
    spool.close()


def test_what_is_too_old_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = SimpleNamespace(wall=2e9, passed=50.0)
    monkeypatch.setattr(
        spool_module,
        "time",
        SimpleNamespace(time=lambda: clock.wall, monotonic=lambda: clock.passed),
    )
    spool = Spool(tmp_path, max_age_s=2 * DAY)
    store(spool, scored("one", 9.0, audit=True), scored("two", 9.5, at=3.0))
    spool.refuse(spool.pending()[1], "no")
    clock.passed += DAY
    store(spool, scored("new", 1.0))
    assert spool.counts().expired == 0
    clock.passed += DAY + 1.0  # the wall clock has nothing to say while the process lives
    store(spool, scored("end", 1.0, at=5.0))
    assert names(spool) == ["new", "end"]
    counts = spool.counts()
    assert (counts.evicted, counts.expired, counts.refused, counts.stored) == (2, 2, 0, 4)
    assert "frame front/one is evicted: it is older than 2 days" in caplog.text
    (evicted,) = (x for x in of_spool(spool.counts).collect() if x.name.endswith("evicted_frames"))
    assert {x.labels["reason"]: x.value for x in evicted.samples} == {"quota": 0, "age": 2}
    spool.close()
    clock.wall += 4 * DAY
    spool = Spool(tmp_path, max_age_s=2 * DAY)  # by itself, when it starts
    eventually(lambda: spool.counts().expired == 2)
    assert spool.counts().bytes == 0
    spool.close()


@pytest.mark.parametrize(
    ("stored", "wall", "age_s"),
    [
        (2e9, 2e9 + HOUR, HOUR),
        (2e9, 1e9, 0.0),  # the clock went back
        (0.0 + HOUR, 2e9, 0.0),  # it had not been set when the frame came
        (HOUR, 3 * HOUR, 2 * HOUR),  # nor is it now
    ],
)
def test_a_clock_that_was_set_late_makes_no_frame_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: float, wall: float, age_s: float
) -> None:
    clock = SimpleNamespace(wall=stored)
    monkeypatch.setattr(
        spool_module, "time", SimpleNamespace(time=lambda: clock.wall, monotonic=lambda: 0.0)
    )
    spool = Spool(tmp_path)
    store(spool, scored("one", 1.0))
    spool.close()
    clock.wall = wall
    spool = Spool(tmp_path)
    assert spool.counts().oldest_age_s == age_s
    spool.close()


FORMER = (
    # Of the first release, and of the one before this.
    """CREATE TABLE frames (seq INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL, size INTEGER NOT NULL, refusal TEXT, body BLOB NOT NULL)""",
    """CREATE TABLE frames (seq INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL, size INTEGER NOT NULL, refusal TEXT, body BLOB NOT NULL,
    stored_at REAL)""",
)


@pytest.mark.parametrize("table", FORMER)
def test_frames_of_an_earlier_release_are_there_and_have_their_value(
    tmp_path: Path, table: str
) -> None:
    frames = [scored("one", 9.0), scored("aud", 0.1, audit=True), scored("low", 1.0)]
    rows = [(str(at) * 64, serialise(frame)) for at, frame in enumerate(frames)]
    rows.append(("3" * 64, b"damaged"))
    database = sqlite3.connect(tmp_path / DATABASE)
    database.execute(table)
    insert = "INSERT INTO frames (digest, name, size, body) VALUES (?, ?, ?, ?)"
    database.executemany(
        insert, [(digest, f"front/{at}", len(body), body) for at, (digest, body) in enumerate(rows)]
    )
    database.commit()
    database.close()
    size = len(rows[0][1])
    for _ in range(2):  # written once, read from then on
        spool = Spool(tmp_path)
        entries = list(spool.entries().values())
        assert [(x.score, x.reason) for x in entries] == [
            (9.0, "predicted_loss"),
            (pytest.approx(0.1), "audit"),
            (1.0, "predicted_loss"),
            (0.0, ""),
        ]
        assert [spool.read(digest) for digest in spool.pending()] == [body for _, body in rows]
        header = read_header(spool.header("1" * 64))
        assert (header.frame_id, header.kept) == ("aud", (Reason.AUDIT,))
        assert spool.header("3" * 64) == b""
        spool.close()
    spool = Spool(tmp_path, quota_bytes=3 * size + 100, max_age_s=DAY)  # nobody knows how old
    store(spool, scored("new", 5.0, at=9.0))
    assert names(spool) == ["0", "1", "new"]
    spool.close()


def test_a_header_is_that_of_the_frame(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    store(spool, scored("one", 9.0))
    until_pending(spool, 1)
    (digest,) = spool.pending()
    header = read_header(spool.header(digest))
    assert (header.frame_id, header.stream_id, header.predicted_loss) == ("one", "front", 9.0)
    with pytest.raises(KeyError):
        spool.header("0" * 64)
    spool.close()
