"""When, how fast and how much an uploader sends, and how that changes while it runs."""

import signal
import threading
import time
from datetime import datetime
from pathlib import Path

from misgiving.runtime.outbox.pacing import UploadLimits, parse_window
from misgiving.runtime.outbox.spool import Spool
from runtime.commands import server
from runtime.uploading import AskedSpool, RecordingStore, spooled, uploader
from shared.collecting import (
    DEADLINE_S,
    collected,
    collecting,
    eventually,
    noisy_frame,
    offer,
    person,
    until_pending,
)

NIGHT = UploadLimits(windows=(parse_window("22:00-06:00"),))


def test_nothing_is_uploaded_until_a_window_opens(spool: AskedSpool, store: RecordingStore) -> None:
    clock = iter([datetime(2026, 11, 29, 21, 59, 59), *[datetime(2026, 11, 29, 22)] * 100])
    stored_when_asked = list[int]()

    def now() -> datetime:
        stored_when_asked.append(store.count())
        return next(clock)

    spooled(spool, collected("patient"))
    with collecting(store) as address:
        running = uploader(spool, address, limits=NIGHT, clock=now)
        spool.until_uploaded(1)
        running.stop(60)
    assert stored_when_asked[:2] == [0, 0]


def test_nothing_more_is_uploaded_once_a_window_shuts(
    spool: AskedSpool, store: RecordingStore
) -> None:
    shut = threading.Semaphore(0)

    def now() -> datetime:
        if not store.count():
            return datetime(2026, 11, 29, 5, 59)
        shut.release()
        return datetime(2026, 11, 29, 6)

    _, *rest = spooled(spool, *(collected(name) for name in "abc"))
    with collecting(store) as address:
        running = uploader(spool, address, limits=NIGHT, clock=now)
        spool.until_uploaded(1)
        for _ in range(2):
            assert shut.acquire(timeout=DEADLINE_S)
            spool.arrived.set()  # it looks again at once
        running.stop(60)
    assert spool.pending() == rest
    assert store.count() == 1


def test_a_metered_link_carries_what_is_worth_it(
    tmp_path: Path, spool: AskedSpool, store: RecordingStore
) -> None:
    metered = tmp_path / "metered"
    metered.touch()
    for name, loss in (("cheap", 2.0), ("dear", 5.0)):
        offer(spool, collected(name, persons=[person(0, loss=loss)]))
    until_pending(spool, 2)
    with collecting(store) as address:
        limits = UploadLimits(metered=metered, metered_loss=3.0)
        running = uploader(spool, address, limits=limits)
        spool.until_uploaded(1)
        before = spool.asked
        spool.arrived.set()  # it looks again at once
        eventually(lambda: spool.asked > before + 1)
        assert spool.counts().uploaded == 1
        metered.unlink()
        spool.arrived.set()
        spool.until_uploaded(2)
        running.stop(60)
    assert [row.frame_id for row, _ in store.frames()] == ["dear", "cheap"]


def test_no_more_bytes_are_sent_than_may_be(spool: AskedSpool, store: RecordingStore) -> None:
    (digest,) = spooled(spool, noisy_frame("slow", 2000))
    size, rate = len(spool.read(digest)), 1000
    began_s = time.monotonic()
    with collecting(store) as address:
        running = uploader(spool, address, limits=UploadLimits(bytes_per_second=rate))
        spool.until_uploaded(1)
        running.stop(60)
    assert store.offsets == [*range(0, size, rate)]
    assert time.monotonic() - began_s >= (size - rate) / rate


def test_limits_change_while_it_waits(
    tmp_path: Path, spool: AskedSpool, store: RecordingStore
) -> None:
    (tmp_path / "metered").touch()
    spooled(spool, collected("patient"))
    looked = threading.Semaphore(0)

    def now() -> datetime:
        looked.release()
        return datetime(2026, 11, 29, 12)

    with collecting(store) as address:
        running = uploader(spool, address, limits=NIGHT, clock=now)
        assert looked.acquire(timeout=DEADLINE_S)
        before = spool.asked
        running.limits = UploadLimits(metered=tmp_path / "metered")
        eventually(lambda: spool.asked > before)
        assert store.count() == 0
        running.limits = UploadLimits()
        spool.until_uploaded(1)
        running.stop(60)


def test_a_server_reads_its_limits_again(tmp_path: Path, store: RecordingStore) -> None:
    file = tmp_path / "misgiving.toml"
    (tmp_path / "metered").touch()
    with collecting(store) as address:
        table = f'[spool]\nfolder = "spool"\ncollector = "{address}"\n[upload]\n'
        file.write_text(f'{table}metered = "metered"\n')
        spool = Spool(tmp_path / "spool")
        assert offer(spool, collected("patient"))
        spool.close()
        with server("--config", file, "--threads", 1) as (process, _):
            for text, said in (
                ('windows = ["25:00-26:00"]\n', "is no time of day"),
                ('metered = "metered"\nmetered_loss = 9.0\n', "changed: upload.metered_loss"),
                ("", "changed: upload.metered, upload.metered_loss"),
            ):
                assert store.count() == 0
                file.write_text(table + text)
                process.send_signal(signal.SIGHUP)
                assert said in process.stderr.readline()
            eventually(lambda: store.count() == 1)
