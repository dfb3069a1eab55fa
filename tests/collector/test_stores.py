"""What every store promises: SQLite with a folder, and PostgreSQL with S3."""

import hashlib
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from misgiving.collector.control.control import Control
from misgiving.collector.control.releases import Releases
from misgiving.collector.control.revoking import Revoking
from misgiving.collector.frames.erasing import erase
from misgiving.collector.frames.selection import FrameSelection
from misgiving.collector.store import Store
from misgiving.collector.store.tables import MARKS, RELEASES
from misgiving.runtime.bundles.keys import new_key
from misgiving.runtime.bundles.revocations import sign_revocations
from misgiving.runtime.errors import DataError, FailedPrecondition
from misgiving.runtime.wire.collected import to_kept
from misgiving.runtime.wire.reports import ReleaseState
from misgiving.v1.fleet_pb2 import CollectedFrame
from shared.collecting import (
    body_of,
    child,
    collected,
    files_below,
    kept,
    line_of,
    person,
    serialise,
)
from shared.reporting import HOUR_NS, report
from shared.services import Place


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    with place.open() as store:
        yield store


def test_empty_store(store: Store) -> None:
    assert store.count() == 0
    assert list(store.frames()) == []
    assert not store.stored("0" * 64)
    assert store.offset("0" * 64) == 0


def test_what_a_fleet_is_steered_by(store: Store, tmp_path: Path) -> None:
    """Lists, releases and reports, by several collectors at once."""
    key, file = tmp_path / "release.key", tmp_path / "revoked.txt"
    new_key(key)
    file.write_text("0123456789abcdef\n")
    sign_revocations(file, key)
    revoking, releases = Revoking(store.database), Releases(store.database)
    with ThreadPoolExecutor(4) as pool:
        every = list(pool.map(lambda _: revoking.announce(file, Path(f"{key}.pub"))[0], range(4)))
    assert {revoking.newest(), *every} == {every[0]}
    row = {"digest": "d", "name": "n", "version": "1", "release": 1, "size_bytes": 1}
    row |= {"sha256": "s", "announced_time_unix_nano": 1, "ring": 0, "advance_after_hours": 1}
    said = "1 of 1 devices: van-7 says: is slow"
    with store.database.connect() as database:
        database.execute(sa.insert(RELEASES).values(**row, halted=""))
        database.execute(sa.insert(RELEASES).values(**row | {"digest": "e"}, halted=said))
    proved = report(release=ReleaseState("d", "proved"))
    with ThreadPoolExecutor(4) as pool:
        advanced = list(pool.map(lambda _: releases.advance_due(proved, 2 * HOUR_NS), range(4)))
    assert sum(map(bool, advanced)) == 1
    Control(store.database).add(proved, 1)
    assert erase(store, FrameSelection(devices=("van-*",))).reports == 2
    assert Control(store.database).runs() == []
    assert "1 of 1 devices: an erased one says: is slow" in [x.halted for x in releases.announced()]


def test_frame_and_its_row_survive_reopening(place: Place) -> None:
    frame = collected("f0", persons=[person(0, loss=0.5), person(1, loss=1.5)])
    with place.open() as store:
        digest = store.put(serialise(frame))
    with place.open() as store:
        ((row, got),) = store.frames()
    assert got == to_kept(frame)
    assert (row.digest, row.frame_id, row.stream_id) == (digest, "f0", "front")
    assert (row.device_id, row.capture_time_unix_nano) == ("car-7", 1)
    assert (row.bundle_digest, row.max_predicted_loss) == ("b" * 64, 1.5)
    assert (row.size_bytes, row.reason) == (len(serialise(frame)), "predicted_loss")
    assert row.received_time_unix_nano > 1_700_000_000_000_000_000
    assert row.image_digest == hashlib.sha256(frame.frame.image.encoded).hexdigest()
    assert (row.flagged, row.persons, row.threshold) == (True, 2, 1.0)
    assert (row.failure_probability, row.sampling_probability) == (None, 1.0)
    assert row.embedding == b"\0\0\x80\x3f\0\0\0\x40"


def test_rows_come_in_order_of_arrival_and_by_bundle(store: Store) -> None:
    other = collected("c")
    other.bundle_digest = "c%" + "c" * 62
    for frame in (collected("b"), collected("a"), other):
        store.put(serialise(frame))
    assert [row.frame_id for row, _ in store.frames()] == ["b", "a", "c"]
    assert [row.frame_id for row, _ in store.frames("c%c")] == ["c"]
    assert [row.frame_id for row, _ in store.frames("%")] == []


def test_same_bytes_are_stored_once(store: Store, place: Place) -> None:
    digest, body = body_of("one")
    assert store.put(body) == store.put(body) == digest
    store.append(digest, 0, body)
    assert store.commit(digest) is False
    assert store.count() == 1
    assert files_below(store.folder / "incoming") == []
    assert place.all_objects() == [digest]


def test_upload_in_parts(place: Place) -> None:
    digest, body = body_of("parts")
    with place.open() as store:
        at = store.append(digest, 0, body[:100])
        assert store.offset(digest) == at == 100
    with place.open() as store:  # as after a crash
        with pytest.raises(FailedPrecondition, match="byte 0; 100 bytes are durable. Send the"):
            store.append(digest, 0, body)
        store.append(digest, store.offset(digest), body[100:])
        assert not store.stored(digest)
        assert store.commit(digest) is True
        assert store.stored(digest)
        assert store.read(digest) == kept("parts")


def test_altered_upload_is_dropped(store: Store) -> None:
    digest, body = body_of("altered")
    store.append(digest, 0, body[:-1] + b"?")
    with pytest.raises(DataError, match=r"upload has sha256 .*; expected .* again from 0"):
        store.commit(digest)
    assert store.offset(digest) == store.count() == 0


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"\xff\xff\xff", "3 bytes are no CollectedFrame"),
        (b"", "no encoded image"),  # parses as an empty message
        (CollectedFrame(device_id="x").SerializeToString(), "no encoded image"),
    ],
)
def test_bytes_that_are_no_frame(store: Store, place: Place, body: bytes, why: str) -> None:
    digest = hashlib.sha256(body).hexdigest()
    store.append(digest, 0, body)
    with pytest.raises(DataError, match=why):
        store.commit(digest)
    with pytest.raises(DataError, match=why):
        store.put(body)
    assert store.count() == 0
    assert files_below(store.folder / "incoming") == place.all_objects() == []


def test_crash_between_object_and_row_is_completed(store: Store, place: Place) -> None:
    digest, body = body_of("crashed")
    place.damage(digest, body[:50])  # not even whole
    assert not store.stored(digest)
    store.append(digest, 0, body)
    assert store.commit(digest) is True
    assert store.read(digest) == kept("crashed")


def test_an_object_that_a_killed_collector_left_gets_its_row(
    store: Store, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """What is younger may be an upload under way; what is damaged stays as it is."""
    (known, body), (left, other), (cut, whole) = map(body_of, ("known", "left", "cut"))
    store.put(body)
    place.damage(left, other)
    place.damage(cut, whole[:50])
    assert store.complete(time.time_ns() - 10**12) == store.complete(0) == 0
    assert not store.stored(left)
    tomorrow = time.time_ns() + 10**14
    assert store.complete(tomorrow, stopped=lambda: True) == 0
    assert store.complete(tomorrow) == 1
    assert "1 objects had no row in the database, and have one now" in caplog.text
    assert f"object {cut} has no row in the database: " in caplog.text
    assert store.complete(tomorrow) == 0
    assert sorted(row.digest for row, _ in store.frames()) == sorted((known, left))
    assert {row.received_time_unix_nano < tomorrow for row, _ in store.frames()} == {True}


def test_lost_object_is_taken_again(store: Store, place: Place) -> None:
    digest, body = body_of("restored")
    store.put(body)
    place.damage(digest, None)
    assert not store.stored(digest)
    with pytest.raises(DataError, match="No such .*; restore it"):
        list(store.frames())
    store.put(body)
    assert store.read(digest) == kept("restored")
    assert store.count() == 1


def test_altered_object_is_not_given_out(store: Store, place: Place) -> None:
    digest = store.put(body_of("rotten")[1])
    place.damage(digest, b"rotten")
    with pytest.raises(DataError, match="is altered: its sha256 differs from its name"):
        list(store.frames())


@pytest.fixture
def _hasty_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_hasty_threads")
def test_threads_that_upload_the_same_frame(store: Store) -> None:
    """Whoever is behind is told so; what is stored is whole, and stored once."""
    digest, body = body_of("race")

    def upload(_: int) -> bool | None:
        try:
            at = 0
            while at < len(body):
                at = store.append(digest, at, body[at : at + 500])
            return store.commit(digest)
        except FailedPrecondition:
            return None

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(upload, range(64)))
    assert results.count(True) == 1
    assert store.count() == 1
    assert store.read(digest) == kept("race")


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), None])
def test_loss_that_is_no_number(store: Store, loss: float | None) -> None:
    persons = [] if loss is None else [person(0), person(1, loss=loss)]
    store.put(serialise(collected("f", persons=persons)))
    ((row, _),) = store.frames()
    assert row.max_predicted_loss is None


def test_text_that_no_database_takes(store: Store) -> None:
    frame = collected("a\0b")
    frame.device_id, frame.bundle_digest, frame.frame.stream_id = "d\0", "b\0", "s\0"
    store.put(serialise(frame))
    ((row, got),) = store.frames()
    assert (row.frame_id, row.device_id, row.stream_id) == ("a\ufffdb", "d\ufffd", "s\ufffd")
    assert got.frame.frame_id == "a\0b"


def test_what_a_block_wrote_is_there_when_it_ends_well(store: Store) -> None:
    """Of the connection that lists, marks and campaigns are written by."""

    def mark(digest: str) -> sa.Insert:
        return sa.insert(MARKS).values(digest=digest, mark="label", by="ann", at_unix_nano=1)

    with store.database.connect() as connection:
        connection.execute(mark("kept"))

    def fail() -> None:
        with store.database.connect() as connection:
            connection.execute(mark("undone"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with store.database.connect(reads=True) as connection:
        assert list(connection.scalars(sa.select(MARKS.c.digest))) == ["kept"]


def test_collectors_that_commit_the_same_frame(place: Place, tmp_path: Path) -> None:
    """Each of them from its own part, or from the one that they share."""
    digest, body = body_of("shared")
    elsewhere = replace(place, folder=tmp_path / "other") if place.url else place
    with place.open() as one, elsewhere.open() as other:
        one.append(digest, 0, body)
        if place.url:
            assert other.offset(digest) == 0
            other.append(digest, 0, body)
        assert (one.commit(digest), other.commit(digest)) == (True, False)
        assert one.count() == other.count() == 1
    assert place.all_objects() == [digest]
    for folder in (place.folder, elsewhere.folder):
        assert files_below(folder / "incoming") == []


UPLOADING = """
import sys
from pathlib import Path
from misgiving.collector.store import Store
from misgiving.runtime.errors import FailedPrecondition
from shared.collecting import body_of

folder, url, objects, *names = sys.argv[1:]

def upload(store, digest, body):
    try:
        at = 0
        while at < len(body):
            at = store.append(digest, at, body[at : at + 5000])
        return store.commit(digest)
    except FailedPrecondition as error:
        assert error.status == "FAILED_PRECONDITION"  # another process is at it
        return False

with Store(Path(folder), url or None, objects or None) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    new = [name for name in names if upload(store, *body_of(name))]
print("new", *new, flush=True)
"""


def test_processes_that_upload_at_once(place: Place, tmp_path: Path) -> None:
    """The same frames and their own, to one folder or to two: nothing twice, and no row lost."""
    folders = [place.folder, tmp_path / "other" if place.url else place.folder]
    same = [f"same{number}" for number in range(4)]
    processes, new = [], list[str]()
    with ExitStack() as stack:
        for number, folder in enumerate(folders):
            own = [f"own{number}-{one}" for one in range(4)]
            names = [name for pair in zip(same, own, strict=True) for name in pair]
            arguments = [folder, *place.arguments[1:], *names]
            processes.append(stack.enter_context(child(UPLOADING, *arguments)))
        assert [line_of(process) for process in processes] == ["ready"] * 2
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            new += line_of(process).split()[1:]
    assert len(new) == len(set(new))
    with place.open() as store:
        assert sorted(row.frame_id for row, _ in store.frames()) == sorted(new)
        assert store.count() == len(place.all_objects()) == len(new)
    assert len(new) == 12


def test_a_report_that_comes_twice_counts_once(store: Store) -> None:
    control = Control(store.database)
    assert [control.add(report(), 1), control.add(report(), 2)] == [True, False]
    assert [run.reports for run in control.runs()] == [1]


def test_a_frame_is_deleted_for_good(store: Store, place: Place) -> None:
    (kept, gone), (unfinished, body) = (store.put(body_of(name)[1]) for name in "ab"), body_of("c")
    store.append(unfinished, 0, body[:10])
    store.drop(gone)
    store.drop(unfinished)
    assert [store.holds(digest) for digest in (kept, gone, unfinished)] == [True, False, False]
    assert place.all_objects() == [kept]
    store.drop(gone)  # again
