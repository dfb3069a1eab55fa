"""The spool keeps what it has stored, through kill -9, a full disk and its quota."""

import hashlib
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from misgiving.runtime.errors import FailedPrecondition
from misgiving.runtime.images import decode, encode_png
from misgiving.runtime.nouns import Frame
from misgiving.runtime.outbox.counts import SpoolCounts
from misgiving.runtime.outbox.spool import Spool
from misgiving.runtime.wire.collected import KeptFrame, to_message
from misgiving.v1.fleet_pb2 import CollectedFrame
from shared.collecting import (
    child,
    collected,
    eventually,
    line_of,
    noisy_frame,
    offer,
    serialise,
    until_pending,
)


def raw_frame(pixels: NDArray[np.uint8]) -> KeptFrame:
    return KeptFrame(Frame(pixels, frame_id="raw"), (), "b" * 64)


def filled(folder: Path, frames: Sequence[CollectedFrame], **options: Any) -> SpoolCounts:
    spool = Spool(folder, **options)
    assert all(offer(spool, frame) for frame in frames)
    spool.close()
    return spool.counts()


def test_stored_frames_survive_a_restart_in_order(tmp_path: Path) -> None:
    frames = [collected(f"f{number}") for number in range(5)]
    counts = filled(tmp_path / "deep" / "spool", frames)
    assert (counts.offered, counts.stored, counts.lost, counts.pending) == (5, 5, 0, 5)
    spool = Spool(tmp_path / "deep" / "spool")
    bodies = [spool.read(digest) for digest in spool.pending()]
    assert [CollectedFrame.FromString(body) for body in bodies] == frames
    assert [hashlib.sha256(body).hexdigest() for body in bodies] == spool.pending()
    counts = spool.counts()
    assert (counts.offered, counts.stored, counts.pending) == (0, 0, 5)
    spool.close()


def test_raw_image_becomes_png_and_the_offered_frame_stays() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (7, 5, 3), np.uint8)
    frame = raw_frame(pixels)
    body = serialise(to_message(frame))
    image = CollectedFrame.FromString(body).frame.image
    np.testing.assert_array_equal(decode(image.encoded), pixels)
    assert image.encoded == encode_png(pixels)
    assert frame.frame.image is pixels


def test_frame_that_cannot_be_serialised_is_lost_and_the_next_is_stored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = raw_frame(np.zeros((2, 2, 4), np.uint8))
    counts = filled(tmp_path, [broken, collected("good")])
    assert (counts.lost, counts.stored, counts.pending) == (1, 1, 1)
    assert "frame raw is lost: frame is (2, 2, 4); expected (H, W, 3) uint8 RGB" in caplog.text


def test_same_frame_is_stored_once(tmp_path: Path) -> None:
    counts = filled(tmp_path, [collected("one"), collected("one")])
    assert (counts.stored, counts.pending) == (2, 1)


def test_quota_evicts_the_oldest_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [noisy_frame(f"f{number}", 1000) for number in range(5)]
    size = len(serialise(frames[0]))
    counts = filled(tmp_path, [*frames, noisy_frame("huge", 4000)], quota_bytes=3 * size)
    assert (counts.stored, counts.evicted, counts.lost, counts.pending) == (5, 2, 1, 3)
    for expected in ("front/f0 is evicted", "front/f1 is evicted", "front/huge is lost"):
        assert expected in caplog.text
    spool = Spool(tmp_path)
    assert [spool.read(digest) for digest in spool.pending()] == list(map(serialise, frames[2:]))
    with pytest.raises(KeyError):
        spool.read(hashlib.sha256(serialise(frames[0])).hexdigest())
    spool.close()


def test_a_queue_s_bytes_are_bounded_and_given_back(tmp_path: Path) -> None:
    frame = noisy_frame("f", 100_000)
    spool = Spool(tmp_path, queue_bytes=100_000 - 1)
    assert not offer(spool, frame)
    spool.close()
    spool = Spool(tmp_path, queue_bytes=100_000)
    for number in range(3):  # each fits alone: the next one when the last one is on disk
        following = noisy_frame(str(number), 100_000)
        eventually(partial(offer, spool, following))
    spool.close()


@pytest.mark.parametrize("bound", [{"queue_size": 1}, {"queue_bytes": 250_000}])
def test_full_queue_loses_and_counts(tmp_path: Path, bound: dict[str, int]) -> None:
    spool = Spool(tmp_path, **bound)
    frame = noisy_frame("f", 100_000)
    taken = [offer(spool, frame) for _ in range(3000)]
    spool.close()
    counts = spool.counts()
    assert counts.offered == 3000
    assert 0 < counts.lost == taken.count(False)
    assert counts.stored == taken.count(True)


def test_a_disk_that_is_too_slow_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(tmp_path, queue_size=2)
    with spool._records.lock:  # as one that stalls
        lost = [offer(spool, collected(str(number))) for number in range(10)].count(False)
        assert caplog.text.count("is lost: too many wait for the disk") == 1
    eventually(lambda: f"the spool has room again; {lost} frames are lost" in caplog.text)
    spool.close()
    counts = spool.counts()
    assert (counts.stored, counts.lost) == (10 - lost, lost)
    assert counts.line() == (
        f"spool: {10 - lost} frames stored, {lost} lost, 0 evicted, 0 uploaded; {10 - lost} pending"
    )


def test_after_close_frames_are_lost(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.close()
    spool.close()
    assert not offer(spool, collected("late"))
    assert spool.counts().lost == 1
    with pytest.raises(FailedPrecondition, match="closed"):
        spool.read("0" * 64)


def test_removed_frames_are_gone_and_refused_ones_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(tmp_path, [collected("a"), collected("b"), collected("c")])
    spool = Spool(tmp_path)
    first, second, third = spool.pending()
    spool.remove(first)
    spool.remove(first)
    spool.refuse(second, "INVALID_ARGUMENT: no")
    spool.refuse(first, "it is gone")
    counts = spool.counts()
    assert (counts.uploaded, counts.refused, counts.pending) == (1, 1, 1)
    assert f"frame front/b ({second}) is refused by the collector: INVALID" in caplog.text
    spool.close()
    spool = Spool(tmp_path)
    assert spool.pending() == [third]
    assert spool.counts().refused == 1
    assert CollectedFrame.FromString(spool.read(second)) == collected("b")
    spool.close()


def test_arrival_wakes_the_uploader(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    assert not spool.arrived.is_set()
    offer(spool, collected("a"))
    assert spool.arrived.wait(60)
    assert len(spool.pending()) == 1
    spool.close()


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FailedPrecondition, match="file cannot be opened: File exists; expected"):
        Spool(tmp_path / "file")


def test_database_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "spool.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(FailedPrecondition, match="file is not a database; .* Move it away"):
        Spool(tmp_path)


SPOOLING = """
import sys
from pathlib import Path
from shared.collecting import collected, offer
from misgiving.runtime.outbox.spool import Spool

spool = Spool(Path(sys.argv[1]))
known = set()
for number in range(10_000):
    spool.arrived.clear()
    offer(spool, collected(f"f{number}"))
    spool.arrived.wait()
    for digest in spool.pending():
        if digest not in known:
            print(digest, flush=True)
            known.add(digest)
"""


def test_kill_keeps_what_was_stored_and_frees_the_lock(tmp_path: Path) -> None:
    with child(SPOOLING, tmp_path) as process:
        stored = [line_of(process) for _ in range(20)]
        with pytest.raises(FailedPrecondition, match="locked; .* Stop the other process"):
            Spool(tmp_path)
        process.kill()
        stored += process.stdout.read().split()
    spool = Spool(tmp_path)
    assert spool.pending()[: len(stored)] == stored
    for digest in spool.pending():
        assert hashlib.sha256(spool.read(digest)).hexdigest() == digest
    spool.close()


FULL_DISK = """
import logging, resource, sys
from pathlib import Path
from shared.collecting import eventually, noisy_frame, offer
from misgiving.runtime.outbox.spool import Spool

logging.basicConfig()
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, most))  # no file may grow beyond
spool = Spool(Path(sys.argv[1]))
assert all(offer(spool, noisy_frame(f"f{number}", 100_000)) for number in range(20))
eventually(lambda: spool.counts().stored + spool.counts().lost == 20)
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
offer(spool, noisy_frame("after", 100_000))
spool.close()
counts = spool.counts()
print(counts.stored, counts.lost, counts.pending)
"""


def test_full_disk_loses_frames_and_harms_nothing_else(tmp_path: Path) -> None:
    with child(FULL_DISK, tmp_path) as process:
        stored, lost, pending = map(int, line_of(process).split())
        errors = process.stderr.read()
    assert stored + lost == 21
    assert pending == stored
    assert stored > 1  # some before the disk was full, and the one after
    assert lost > 5
    assert errors.count("is lost: spool") == 1  # of a row
    assert f"stores again; {lost} frames in a row are lost" in errors
    assert "Free some space" in errors
    spool = Spool(tmp_path)
    last = CollectedFrame.FromString(spool.read(spool.pending()[-1]))
    assert last.frame.frame_id == "after"
    assert len(spool.pending()) == stored
    spool.close()


READ_ONLY = """
import sys
from pathlib import Path
from misgiving.runtime.errors import MisgivingError
from misgiving.runtime.outbox.spool import Spool

try:
    Spool(Path(sys.argv[1]))
except MisgivingError as error:
    print(error)
"""


def test_a_read_only_folder_is_called_so(tmp_path: Path) -> None:
    """SQLite calls a disk that is read-only an I/O error, and more room would not help."""
    filled(tmp_path, [collected("a")])
    tmp_path.chmod(0o500)
    mortal = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]  # root may write everywhere
    command = [*([] if os.geteuid() else mortal), sys.executable, "-c", READ_ONLY, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "expected a folder that can be written; this one is read-only. Name another" in said


def test_commits_reach_the_disk(tmp_path: Path) -> None:
    """WAL and synchronous FULL: without them a commit is not an fsync."""
    spool = Spool(tmp_path)
    with spool._records.transaction() as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("PRAGMA synchronous").fetchone() == (2,)
    spool.close()
    database = sqlite3.connect(tmp_path / "spool.sqlite")
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_vehicle_loads_neither_torch_nor_the_database_of_the_fleet() -> None:
    code = """
import sys
import misgiving.runtime.outbox.spool, misgiving.runtime.outbox.uploader
print({"torch", "sqlalchemy", "misgiving.collector"} & sys.modules.keys() or "clean")
"""
    with child(code) as process:
        assert line_of(process) == "clean"


@pytest.fixture(autouse=True)
def _log_warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)


@pytest.mark.parametrize("deleted", [True, False])
def test_a_replaced_spool_stores_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, deleted: bool
) -> None:
    """What went into the old file would be gone with the process: it is counted as lost."""
    folder = tmp_path / "spool"
    spool = Spool(folder)
    assert offer(spool, collected("before"))
    until_pending(spool, 1)
    folder.rename(tmp_path / "moved")
    if not deleted:
        shutil.copytree(tmp_path / "moved", folder)
    assert offer(spool, collected("after"))
    eventually(lambda: spool.counts().lost == 1)
    (digest,) = spool.pending()  # what was stored can still be uploaded
    assert CollectedFrame.FromString(spool.read(digest)) == collected("before")
    spool.close()
    assert spool.counts().stored == 1
    assert f"after is lost: {folder} is gone, or another one than was opened" in caplog.text
