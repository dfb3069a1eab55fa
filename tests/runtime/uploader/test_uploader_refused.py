"""Frames that a collector refuses or cannot store, and those that leave the spool meanwhile."""

import math
from pathlib import Path

import grpc
import pytest

from misgiving.collector import service
from misgiving.runtime.errors import InvalidInput, ResourceExhausted
from misgiving.runtime.nouns import Frame
from misgiving.runtime.outbox.delivery import PERMANENT
from misgiving.runtime.outbox.spool import Spool
from misgiving.runtime.outbox.value import Entry
from misgiving.runtime.wire.collected import KeptFrame, to_kept, to_message
from runtime.uploading import AskedSpool, FailingStore, RecordingStore, spooled, uploader
from shared.collecting import collected, collecting, eventually, noisy_frame, offer, serialise


@pytest.mark.parametrize("wrong_bytes", [100, 1_000_000])  # shorter and longer than the frame
@pytest.mark.parametrize("before", [0, 1])  # the collector is asked about it at first, or not
def test_wrong_remains_at_the_collector_do_not_refuse_a_frame(
    spool: AskedSpool, store: RecordingStore, wrong_bytes: int, before: int
) -> None:
    frame = collected("mended")
    *_, digest = spooled(spool, *[collected("first")][:before], frame)
    store.append(digest, 0, b"?" * wrong_bytes)
    with collecting(store) as address:
        running = uploader(spool, address)
        spool.until_uploaded(before + 1)
        running.stop(60)
    assert store.read(digest) == to_kept(frame)
    assert spool.counts().refused == 0


def test_refused_frame_is_moved_aside_and_blocks_nobody(
    spool: AskedSpool, store: RecordingStore, caplog: pytest.LogCaptureFixture
) -> None:
    pictureless = KeptFrame(Frame(b"", frame_id="pictureless", stream_id="front"), (), "b" * 64)
    first, _ = spooled(spool, pictureless, collected("good", persons=[]))
    with collecting(store) as address:
        running = uploader(spool, address)
        spool.until_uploaded(1)
        running.stop(60)
    assert spool.counts().refused == 1
    assert spool.read(first) == serialise(to_message(pictureless))
    assert "frame front/pictureless" in caplog.text
    assert "no encoded image" in caplog.text
    assert [row.frame_id for row, _ in store.frames()] == ["good"]


def test_collector_whose_disk_is_full_does_not_refuse_a_frame(
    tmp_path: Path, spool: AskedSpool, caplog: pytest.LogCaptureFixture
) -> None:
    spooled(spool, collected("patient"))
    with FailingStore(tmp_path / "store") as store, collecting(store) as address:
        running = uploader(spool, address)
        eventually(lambda: spool.counts().uploaded + spool.counts().refused == 1)
        running.stop(60)
        assert store.count() == 1
    assert "UNAVAILABLE: the store failed: No space left on device" in caplog.text


def test_evicted_frame_is_passed_over(tmp_path: Path, store: RecordingStore) -> None:
    frames = [collected("a"), collected("b")]
    quota = max(len(serialise(frame)) for frame in frames)
    spool = AskedSpool(tmp_path / "small", quota_bytes=quota, near_duplicate=None)
    digests = [spooled(spool, frames[0])[0]]
    offer(spool, frames[1])
    eventually(lambda: spool.counts().evicted == 1)
    gone = Entry("gone", 1, score=math.inf)
    spool.entries = lambda: {digests[0]: gone, **Spool.entries(spool)}
    with collecting(store) as address:
        running = uploader(spool, address)
        spool.until_uploaded(1)
        running.stop(60)
    assert [row.frame_id for row, _ in store.frames()] == ["b"]
    spool.close()


def test_a_frame_that_is_too_large_is_put_aside_at_once(
    spool: AskedSpool, store: RecordingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MAX_FRAME_BYTES", 50_000)
    large, _ = spooled(spool, noisy_frame("large", 60_000), noisy_frame("small", 1000))
    with collecting(store) as address:
        running = uploader(spool, address)
        spool.until_uploaded(1)
        running.stop(60)
    assert (spool.counts().refused, spool.counts().pending) == (1, 0)
    assert spool.read(large)
    assert store.offsets == [0]


def test_a_frame_that_always_fails_holds_nobody_up(
    tmp_path: Path, spool: AskedSpool, caplog: pytest.LogCaptureFixture
) -> None:
    digests = spooled(spool, collected("bad"), collected("good"))
    store = FailingStore(tmp_path / "store")
    store.fails_at, store.failures = digests[0], 10**9
    with store, collecting(store) as address:
        running = uploader(spool, address)
        spool.until_uploaded(1)
        running.stop(60)
        assert [row.digest for row, _ in store.frames()] == digests[1:]
    assert spool.pending() == digests[:1]


def test_every_permanent_answer_is_one_that_the_collector_gives() -> None:
    assert {grpc.StatusCode[e.status] for e in (InvalidInput, ResourceExhausted)} == set(PERMANENT)
