"""Stored frames survive, once each; unfinished uploads go on where they were cut."""

import asyncio
import errno
import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from misgiving.collector.frames.arrivals import Arrivals
from misgiving.collector.frames.devices import DAY_NS
from misgiving.collector.frames.upkeep import kept_up
from misgiving.collector.store import Store, reason_of
from misgiving.collector.store.database import _engine, sqlite_url
from misgiving.collector.store.rows import Rows, StoredFrame
from misgiving.runtime.errors import FailedPrecondition, InvalidInput, MisgivingError
from misgiving.runtime.wire.collected import to_kept
from misgiving.v1.pose_pb2 import Flag, KeepReason, Person
from shared.collecting import body_of, collected, eventually, person


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "deep" / "store")
    yield store
    store.close()


def object_of(store: Store, digest: str) -> Path:
    return store.folder / "objects" / digest[:2] / digest


def test_a_finished_upload_is_moved_and_not_copied(store: Store) -> None:
    digest, body = body_of("moved")
    store.append(digest, 0, body)
    written = (store.folder / "incoming" / f"{digest}.part").stat().st_ino
    store.commit(digest)
    assert object_of(store, digest).stat().st_ino == written


@pytest.mark.parametrize("call", ["commit", "offset"])
def test_an_upload_that_does_not_reach_the_disk_starts_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The kernel tells of lost pages once; later they count as written."""
    digest, body = body_of("unsynced")
    store.append(digest, 0, body)
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", failing_fsync)
        with pytest.raises(OSError, match="Input/output error"):
            getattr(store, call)(digest)
    assert not store.stored(digest)
    assert store.offset(digest) == 0
    store.append(digest, 0, body)
    assert store.commit(digest) is True


def failing_fsync(handle: int) -> None:
    if not stat.S_ISDIR(os.fstat(handle).st_mode):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def moved_and_restored(folder: Path) -> None:
    """Another folder of the same name and content, as a backup makes it."""
    folder.rename(folder.with_name("moved"))
    shutil.copytree(folder.with_name("moved"), folder)


def another_database(folder: Path) -> None:
    copy = folder / "copy"
    shutil.copy(folder / "store.sqlite", copy)
    copy.replace(folder / "store.sqlite")


def another_objects(folder: Path) -> None:
    moved_and_restored(folder / "objects")


def made_anew(folder: Path) -> None:
    """A new folder is likely to get the number of the one that was deleted."""
    shutil.rmtree(folder / "objects")
    (folder / "objects").mkdir()


@pytest.mark.parametrize(
    "replace",
    [
        made_anew,
        moved_and_restored,
        another_database,
        another_objects,
        lambda folder: folder.rename(folder.with_name("moved")),
        lambda folder: (folder / "store.sqlite").unlink(),
        lambda folder: shutil.rmtree(folder / "objects"),
    ],
)
def test_a_replaced_store_acknowledges_nothing(
    store: Store, replace: Callable[[Path], object]
) -> None:
    (before, kept), (_, body) = body_of("before"), body_of("after")
    store.put(kept)
    replace(store.folder)
    for call in (lambda: store.stored(before), lambda: store.put(body), lambda: store.put(kept)):
        with pytest.raises(FailedPrecondition, match="is gone, or another one than was opened"):
            call()


def test_several_make_a_new_database_at_once(tmp_path: Path) -> None:
    """SQLite lets nobody wait who changes the mode of its log."""

    def connect(path: Path) -> None:
        engine = _engine(sqlite_url(path))
        engine.connect().close()
        engine.dispose()

    with ThreadPoolExecutor(8) as pool:
        for number in range(100):
            list(pool.map(connect, [tmp_path / str(number)] * 8))


def test_what_is_replaced_meanwhile_is_not_acknowledged(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first look, and before the row is made."""
    insert = Rows.insert

    def replaced(
        rows: Rows, some: Sequence[StoredFrame], transaction: sa.Connection | None
    ) -> list[bool]:
        moved_and_restored(store.folder)
        return insert(rows, some, transaction)

    monkeypatch.setattr(Rows, "insert", replaced)
    with pytest.raises(FailedPrecondition, match="another one than was opened"):
        store.put(body_of("f")[1])


def test_objects_without_a_row_get_one(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """In a store whose database was lost or restored from an older copy."""
    digests = [store.put(body_of(f"{number}")[1]) for number in range(3)]
    for age, digest in enumerate(digests):
        os.utime(object_of(store, digest), (100 - age, 100 - age))
    damaged, _ = body_of("damaged")
    object_of(store, damaged).parent.mkdir(exist_ok=True)
    object_of(store, damaged).write_bytes(b"cut")
    object_of(store, digests[0]).with_name(".hidden").write_bytes(b"")
    object_of(store, "0" * 64).mkdir(parents=True)  # cannot be read: harms nobody else
    store.close()
    (store.folder / "store.sqlite").unlink()
    again = Store(store.folder, create=False)
    assert [row.digest for row, _ in again.frames()] == digests[::-1]  # in order of arrival
    assert "3 frames had no row in the database, and have one now" in caplog.text
    assert again.stored(digests[0])
    again.close()
    object_of(store, "0" * 64).rmdir()
    caplog.clear()
    Store(store.folder).close()
    assert caplog.text == ""


def test_a_collector_that_runs_gives_old_objects_their_rows(store: Store) -> None:
    digest, body = body_of("left")
    object_of(store, digest).parent.mkdir()
    object_of(store, digest).write_bytes(body)
    made_s = time.time() - 2 * DAY_NS / 1e9
    os.utime(object_of(store, digest), (made_s, made_s))

    async def scene() -> None:
        async with kept_up(store, Arrivals()):
            await asyncio.to_thread(eventually, lambda: store.stored(digest))

    asyncio.run(scene())
    ((row, _),) = store.frames()
    assert row.received_time_unix_nano == pytest.approx(made_s * 1e9)


def test_rows_without_an_object_are_said(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    lost = store.put(body_of("lost")[1])
    store.put(body_of("kept")[1])
    object_of(store, lost).unlink()
    store.close()
    Store(store.folder).close()
    assert f"1 frames of the database are not there, {lost} for one; restore them" in caplog.text


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n"])
@pytest.mark.parametrize("call", ["stored", "offset", "commit", "discard", "read"])
def test_digest_is_never_a_path(store: Store, call: str, digest: str) -> None:
    with pytest.raises(InvalidInput, match="expected a sha256 as 64 hex digits"):
        getattr(store, call)(digest)


def test_reason_is_the_strongest() -> None:
    audit = Person(flag=Flag(kept=KeepReason.KEEP_REASON_AUDIT))
    shadow = Person(flag=Flag(kept=KeepReason.KEEP_REASON_SHADOW))
    for persons, expected in [
        ([], ""),
        ([person(0, loss=0.0)], ""),  # not kept
        ([audit, person(0, loss=0.0)], "audit"),
        ([audit, shadow], "shadow"),
        ([audit, shadow, person(0, loss=2.0)], "predicted_loss"),
    ]:
        assert reason_of(to_kept(collected("f", persons=persons))) == expected
    nobody = collected("f", persons=[])
    nobody.nobody.CopyFrom(audit.flag)
    assert reason_of(to_kept(nobody)) == "audit"


def test_folder_that_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="missing is no store; .*'misgiving collect'"):
        Store(tmp_path / "missing", create=False)
    assert not (tmp_path / "missing").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(FailedPrecondition, match="file: Not a directory; expected"):
        Store(tmp_path / "file")


def test_database_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(FailedPrecondition, match="file is not a database; .* Restore it") as caught:
        Store(tmp_path)
    assert "\n" not in str(caught.value)


def test_database_of_another_name(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", url=f"sqlite:///{tmp_path / 'other.sqlite'}")
    store.put(body_of("f")[1])
    store.close()
    database = sqlite3.connect(tmp_path / "other.sqlite")
    assert database.execute("SELECT frame_id FROM frames").fetchall() == [("f",)]
    database.close()
    with pytest.raises(MisgivingError, match="unable to open database file"):
        Store(tmp_path / "store", url="sqlite:////nowhere/at/all.sqlite")


def test_commits_reach_the_disk(store: Store) -> None:
    with store.database.connect() as database:
        assert database.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert database.exec_driver_sql("PRAGMA synchronous").scalar() == 2
