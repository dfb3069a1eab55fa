"""Frames that travel together, once the link is known to be quick."""

from pathlib import Path
from typing import Any

import grpc
import pytest

from misgiving.collector.service import Ingest
from misgiving.runtime.nouns import Frame
from misgiving.runtime.outbox.pacing import Batching, UploadLimits
from misgiving.runtime.wire.collected import KeptFrame
from misgiving.v1.fleet_pb2 import UploadAnswer, UploadBatchRequest, UploadBatchResponse
from runtime.uploading import AskedSpool, FailingStore, RecordingStore, spooled, uploader
from shared.collecting import collected, collecting, noisy_frame


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Digests of each call that had several frames."""
    calls, batch = list[list[str]](), Ingest.UploadBatch

    async def noting(ingest: Ingest, request: UploadBatchRequest, call: Any) -> UploadBatchResponse:
        calls.append([one.digest for one in request.frames])
        return await batch(ingest, request, call)

    monkeypatch.setattr(Ingest, "UploadBatch", noting)
    return calls


def test_what_the_link_carries_in_a_second_may_travel_together() -> None:
    batching = Batching()
    assert batching.most == 0  # of a link that is not known
    batching.carried(1000, 0.5)
    assert batching.most == 2000
    batching.carried(10**9, 0.1)
    assert batching.most == Batching.MOST
    batching.carried(100, 0.0)
    assert batching.most == Batching.MOST
    batching.refused()
    assert batching.most == 0
    batching.failed()
    assert batching.most == 0
    batching.carried(1000, 1.0)  # to another collector, perhaps
    assert batching.most == 1000


def test_the_first_frame_goes_alone_and_the_rest_together(
    spool: AskedSpool, store: RecordingStore, batches: list[list[str]]
) -> None:
    digests = spooled(spool, *(collected(f"f{number}") for number in range(6)))
    with collecting(store) as address:
        running = uploader(spool, address)
        spool.until_uploaded(6)
        running.stop(60)
    assert len(store.offsets) == 1  # in parts came one
    assert [digest for batch in batches for digest in batch] == digests[1:]
    assert store.count() == 6
    assert spool.pending() == []


def test_frames_go_one_by_one_where_the_rate_is_limited_or_the_link_slow(
    spool: AskedSpool,
    store: RecordingStore,
    batches: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spooled(spool, *(collected(f"limited{number}") for number in range(3)))
    with collecting(store) as address:
        running = uploader(spool, address, limits=UploadLimits(bytes_per_second=10**9))
        spool.until_uploaded(3)
        running.stop(60)
        monkeypatch.setattr(Batching, "MOST", 100)  # as after calls that took long
        spooled(spool, *(collected(f"slow{number}") for number in range(3)))
        running = uploader(spool, address)
        spool.until_uploaded(6)
        running.stop(60)
    assert batches == []
    assert store.count() == 6


def test_a_frame_that_is_refused_among_others_is_moved_aside(
    spool: AskedSpool, store: RecordingStore, caplog: pytest.LogCaptureFixture
) -> None:
    pictureless = KeptFrame(Frame(b"", frame_id="pictureless", stream_id="front"), (), "b" * 64)
    good = [collected(f"f{number}", persons=[]) for number in range(4)]
    digests = spooled(spool, *good[:2], pictureless, *good[2:])
    with collecting(store) as address:
        running = uploader(spool, address)
        spool.until_uploaded(4)
        running.stop(60)
    assert (spool.counts().refused, spool.counts().pending) == (1, 0)
    assert spool.read(digests[2])
    assert "INVALID_ARGUMENT" in caplog.text
    assert "no encoded image" in caplog.text
    assert store.count() == 4


def test_a_batch_that_fails_is_sent_again_and_not_refused(
    tmp_path: Path, spool: AskedSpool, caplog: pytest.LogCaptureFixture
) -> None:
    digests = spooled(spool, *(collected(f"f{number}") for number in range(4)))
    store = FailingStore(tmp_path / "store")
    store.fails_at = digests[2]
    with store, collecting(store) as address:
        running = uploader(spool, address)
        spool.until_uploaded(4)
        running.stop(60)
        assert store.count() == 4
    assert "UNAVAILABLE: the store failed: No space left on device" in caplog.text
    assert spool.counts().refused == 0


def test_a_frame_that_always_fails_spoils_few_batches(tmp_path: Path, spool: AskedSpool) -> None:
    digests = spooled(spool, *(collected(f"f{number}") for number in range(12)))
    store, failures = FailingStore(tmp_path / "store"), 10**9
    store.fails_at, store.failures = digests[3], failures
    with store, collecting(store) as address:
        running = uploader(spool, address)
        spool.until_uploaded(11)
        running.stop(60)
        assert store.count() == 11
    assert spool.pending() == [digests[3]]
    assert failures - store.failures < 10  # of the others none waits for one of its own


@pytest.mark.parametrize("code", ["UNIMPLEMENTED", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"])
def test_a_collector_that_takes_no_batches_gets_one_frame_after_the_other(
    spool: AskedSpool, store: RecordingStore, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    asked = list[int]()

    async def refusing(ingest: Ingest, request: UploadBatchRequest, call: Any) -> None:
        asked.append(len(request.frames))
        await call.abort(grpc.StatusCode[code], "not here")

    monkeypatch.setattr(Ingest, "UploadBatch", refusing)
    spooled(spool, *(collected(f"f{number}") for number in range(5)))
    with collecting(store) as address:
        running = uploader(spool, address)
        spool.until_uploaded(5)
        running.stop(60)
    assert len(asked) == 1
    assert (store.count(), spool.counts().refused) == (5, 0)


def test_an_answer_about_other_frames_acknowledges_none(
    spool: AskedSpool,
    store: RecordingStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    batch = Ingest.UploadBatch

    async def confused(
        ingest: Ingest, request: UploadBatchRequest, call: Any
    ) -> UploadBatchResponse:
        monkeypatch.setattr(Ingest, "UploadBatch", batch)
        return UploadBatchResponse(
            answers=[UploadAnswer(digest=x.digest) for x in request.frames][1:]
        )

    monkeypatch.setattr(Ingest, "UploadBatch", confused)
    spooled(spool, *(collected(f"f{number}") for number in range(4)))
    with collecting(store) as address:
        running = uploader(spool, address)
        spool.until_uploaded(4)
        running.stop(60)
    assert "it answered 2 of 3 frames" in caplog.text
    assert store.count() == 4


def test_large_frames_are_cut_in_two_calls(
    spool: AskedSpool,
    store: RecordingStore,
    batches: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Batching, "MOST", 60_000)
    digests = spooled(spool, *(noisy_frame(f"f{number}", 25_000) for number in range(5)))
    with collecting(store) as address:
        running = uploader(spool, address)
        spool.until_uploaded(5)
        running.stop(60)
    assert max(map(len, batches)) <= 2
    assert store.count() == len(digests)
