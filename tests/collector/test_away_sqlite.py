"""SQLite that goes away in the midst of uploads to a real collector, and comes back.

The vehicle's own uploader keeps the frames, says one clear line, and goes on by itself.
"""

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from misgiving.collector.control.control import Control
from misgiving.collector.store import Store
from misgiving.runtime.errors import FailedPrecondition
from misgiving.runtime.outbox.spool import Spool
from misgiving.runtime.outbox.uploader import Uploader
from shared.collecting import DEADLINE_S, child, collected, eventually, files_below, line_of, offer
from shared.ports import unused_port
from shared.reporting import report

COLLECT = """
import sys
from misgiving.collector.store import database
from misgiving.runtime.verbs.command import main

store, listen, wait_s = sys.argv[1:]
database._WAIT_S = float(wait_s)
sys.stderr = sys.stdout
sys.argv[1:] = ["collect", "--listen", listen, "--store", store]
main()
"""
Process = subprocess.Popen[str]
Away = Callable[[Process, Path], AbstractContextManager[None]]


@contextmanager
def locked(_: Process, file: Path) -> Iterator[None]:
    """By another process, which does not end."""
    other = sqlite3.connect(file, isolation_level=None)
    try:
        other.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        other.close()


@contextmanager
def moved(_: Process, file: Path) -> Iterator[None]:
    file.rename(file.with_name("elsewhere"))
    yield
    file.with_name("elsewhere").rename(file)


@contextmanager
def full(collector: Process, file: Path) -> Iterator[None]:
    """There is room for the frames, which are smaller than what SQLite has written."""
    size = file.with_name(f"{file.name}-wal").stat().st_size
    limit = resource.prlimit(collector.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    yield
    resource.prlimit(collector.pid, resource.RLIMIT_FSIZE, limit)


@pytest.fixture
def address(spool: Spool) -> Iterator[str]:
    """Where a vehicle uploads that spool to."""
    address = f"127.0.0.1:{unused_port()}"
    uploader = Uploader(spool, address, first_wait_s=0.05, longest_wait_s=0.2)
    uploader.start()
    yield address
    uploader.stop(DEADLINE_S)


@contextmanager
def collector_of(folder: Path, address: str) -> Iterator[Process]:
    with child(COLLECT, folder, address, 0.2) as collector:
        while not line_of(collector).startswith("collecting on "):
            pass
        yield collector


def delivered(spool: Spool, number: int) -> None:
    """As many frames as that, in all."""
    eventually(lambda: (spool.counts().uploaded, spool.counts().pending) == (number, 0))


def told(caplog: pytest.LogCaptureFixture, said: str) -> None:
    """The vehicle's one line about what its frames wait for, whatever came before it started."""
    eventually(lambda: said in caplog.text)
    (line,) = [one.getMessage() for one in caplog.records if said in one.getMessage()]
    assert "\n" not in line


NO_ANSWER = "UNAVAILABLE: the store does not answer now. Keep the frame, and send it again"


@pytest.mark.parametrize(
    ("away", "said", "log"),
    [
        (locked, NO_ANSWER, "database is locked; expected its turn within 0.2 s. End what holds"),
        (full, NO_ANSWER, "disk I/O error; expected one written by 'misgiving collect'. Free its"),
        (moved, "FAILED_PRECONDITION: ", "store.sqlite is gone, or another one than was opened"),
    ],
)
def test_a_database_that_goes_away_and_comes_back(
    tmp_path: Path,
    spool: Spool,
    address: str,
    away: Away,
    said: str,
    log: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = tmp_path / "store"
    with collector_of(folder, address) as collector:
        assert offer(spool, collected("before"))
        delivered(spool, 1)
        with away(collector, folder / "store.sqlite"):
            for number in range(3):
                assert offer(spool, collected(str(number)))
            told(caplog, said)
            assert spool.counts().uploaded == 1
        delivered(spool, 4)
        assert offer(spool, collected("behind"))
        delivered(spool, 5)
        collector.send_signal(signal.SIGTERM)
        assert log in collector.stdout.read()
    check_stored(folder, "0", "1", "2", "before", "behind")


def check_stored(folder: Path, *names: str) -> None:
    """These frames, each of them once, and nothing that is half stored."""
    with Store(folder, create=False) as store:
        rows = [row for row, _ in store.frames()]
    assert sorted(row.frame_id for row in rows) == sorted(names)
    assert sorted(row.digest for row in rows) == [
        Path(name).name for name in files_below(folder / "objects")
    ]
    assert files_below(folder / "incoming") == []


@pytest.mark.parametrize("restored", [True, False])
def test_a_database_that_another_one_takes_the_place_of(
    tmp_path: Path, spool: Spool, address: str, restored: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """By one of before, or by none: the collector says that it is to be started again."""
    folder = tmp_path / "store"
    Store(folder).close()
    shutil.copy(folder / "store.sqlite", tmp_path)
    with collector_of(folder, address) as collector:
        assert offer(spool, collected("before"))
        delivered(spool, 1)
        (folder / "store.sqlite").unlink()
        if restored:
            shutil.copy(tmp_path / "store.sqlite", folder)
        assert offer(spool, collected("meanwhile"))
        told(caplog, "another one than was opened; expected it to stay. Keep the frame")
        assert spool.counts().pending == 1
        collector.kill()
        said = "Nothing is taken until it is back, or the collector is started again"
        assert collector.stdout.read().count(said) == 1
    with collector_of(folder, address) as collector:
        delivered(spool, 2)
        collector.send_signal(signal.SIGTERM)
        collector.wait(DEADLINE_S)
    check_stored(folder, "before", "meanwhile")


def test_nobody_makes_another_database_while_it_is_away(tmp_path: Path) -> None:
    """SQLite would open one for who asks next, and empty the log of the one that was there."""
    file, away = tmp_path / "store.sqlite", tmp_path / "elsewhere"
    with Store(tmp_path) as store, ThreadPoolExecutor(16) as pool:
        control = Control(store.database)
        assert control.add(report(), 1)
        file.rename(away)

        def add(number: int) -> str:
            with pytest.raises(FailedPrecondition) as refused:
                control.add(report(number), 1)
            return str(refused.value)

        refusals = set(pool.map(add, range(2, 50)))
        assert len(refusals) == 1
        assert f"{file} is gone, or another one than was opened; expected" in refusals.pop()
        with pytest.raises(FailedPrecondition, match="Put it back, or start again what has opened"):
            store.database.forget()
        assert not file.exists()
        assert os.path.getsize(f"{file}-wal") > 0
        away.rename(file)
        assert [run.reports for run in control.runs()] == [1]
