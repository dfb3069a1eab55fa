"""From the spool to a real collector: once each, whatever is cut or refused."""

import hashlib
import logging
import math
import socket
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from misgiving.collector import service
from misgiving.collector.service import Ingest
from misgiving.collector.store import Store
from misgiving.runtime.errors import InvalidInput, ResourceExhausted
from misgiving.runtime.net.backoff import wait_s
from misgiving.runtime.nouns import Frame
from misgiving.runtime.outbox.pacing import UploadLimits, parse_window
from misgiving.runtime.outbox.spool import Spool
from misgiving.runtime.outbox.uploader import BATCH, PERMANENT, Uploader
from misgiving.runtime.outbox.value import Entry
from misgiving.runtime.wire.collected import KeptFrame, to_kept, to_message
from misgiving.v1.fleet_pb2 import (
    CollectedFrame,
    OfferRequest,
    OfferResponse,
    StatUploadRequest,
    StatUploadResponse,
    UploadRequest,
    UploadResponse,
)
from shared.collecting import (
    DEADLINE_S,
    child,
    collected,
    collecting,
    eventually,
    kept,
    line_of,
    noisy_frame,
    offer,
    person,
    serialise,
    until_pending,
)


class RecordingStore(Store):
    """A store that remembers where its uploads began and how they went on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.offsets: list[int] = []

    def append(self, digest: str, offset: int, data: bytes) -> int:
        self.offsets.append(offset)
        return super().append(digest, offset, data)


class StuckStore(Store):
    """A store whose disk does not answer until it is let."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked, self.free = threading.Event(), threading.Event()

    def stored(self, digest: str) -> bool:
        self.asked.set()
        self.free.wait(60)
        return super().stored(digest)


class FailingStore(Store):
    """A store whose disk fails at the first write, of one frame or of all."""

    failures = 1
    fails_at = ""

    def append(self, digest: str, offset: int, data: bytes) -> int:
        if self.failures and digest.startswith(self.fails_at):
            self.failures -= 1
            raise OSError(28, "No space left on device")
        return super().append(digest, offset, data)


class AskedSpool(Spool):
    """A spool that counts how often it was asked for what is pending, and tells of what left it."""

    asked = 0

    def __init__(self, folder: Path, **options: Any) -> None:
        self.left = threading.Semaphore(0)
        super().__init__(folder, **options)

    def remove(self, digest: str) -> None:
        super().remove(digest)
        self.left.release()

    def until_uploaded(self, count: int) -> None:
        while self.counts().uploaded < count:
            assert self.left.acquire(timeout=DEADLINE_S), "no frame was uploaded in time"

    def entries(self) -> dict[str, Entry]:
        self.asked += 1
        return super().entries()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[AskedSpool]:
    spool = AskedSpool(tmp_path / "spool")
    yield spool
    spool.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordingStore]:
    store = RecordingStore(tmp_path / "store")
    yield store
    store.close()


def spooled(spool: Spool, *frames: CollectedFrame) -> list[str]:
    for frame in frames:
        assert offer(spool, frame)
    until_pending(spool, len(frames))
    return spool.pending()


def uploader(spool: Spool, target: str, **options: Any) -> Uploader:
    made = Uploader(spool, target, first_wait_s=0.01, longest_wait_s=0.05, **options)
    made.start()
    return made


def uploading() -> bool:
    """Whether the thread of an uploader is alive."""
    return any(thread.name == "uploader" for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("failures", "draw", "expected"),
    [
        (1, 0.0, 0.5),  # the first wait
        (2, 0.0, 1.0),
        (5, 0.0, 8.0),
        (8, 0.0, 60.0),  # bounded
        (10_000, 0.0, 60.0),  # no overflow
        (5, 0.5, 6.0),  # jitter takes up to half of it
    ],
)
def test_waits_double_up_to_a_bound(failures: int, draw: float, expected: float) -> None:
    assert wait_s(failures, 0.5, 60.0, draw) == expected


def test_frames_arrive_once_and_leave_the_spool(spool: AskedSpool, store: RecordingStore) -> None:
    digests = spooled(spool, *(collected(f"f{number}") for number in range(5)))
    with collecting(store) as address:
        running = uploader(spool, address, chunk_bytes=1000)
        spool.until_uploaded(5)
        assert offer(spool, collected("later"))
        assert offer(spool, collected("f0"))  # known to the store already
        spool.until_uploaded(7)
        running.stop(60)
    rows = [row for row, _ in store.frames()]
    assert [row.digest for row in rows[:5]] == digests
    assert [row.frame_id for row in rows[5:]] == ["later"]
    assert spool.pending() == []


def test_collector_that_comes_later_is_noted_once(
    spool: AskedSpool, store: RecordingStore, caplog: pytest.LogCaptureFixture
) -> None:
    spooled(spool, collected("patient"))
    before = spool.asked
    with socket.socket() as taken:  # and listens to nobody
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        running = uploader(spool, address)
        eventually(lambda: spool.asked > before + 4)
    assert caplog.text.count("UNAVAILABLE") == 1
    assert "trying on, 1 pending" in caplog.text
    with collecting(store, address):
        spool.until_uploaded(1)
        eventually(lambda: "takes frames again" in caplog.text)
        running.stop(60)
    assert store.count() == 1


def test_a_proxy_is_passed_by_or_named(
    spool: AskedSpool,
    store: RecordingStore,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://user:hunter2@127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    spooled(spool, collected("near"))
    with collecting(store) as address:
        running = uploader(spool, address)
        spool.until_uploaded(1)
        running.stop(60)
    spooled(spool, collected("far"))
    running = uploader(spool, "fleet.invalid:1")
    eventually(lambda: "trying on, 1 pending" in caplog.text)
    running.stop(60)
    assert "fleet.invalid:1 through the proxy 127.0.0.1:9 of the variable http_proxy" in caplog.text
    assert "hunter2" not in caplog.text


def test_cut_upload_goes_on_where_it_was(spool: AskedSpool, store: RecordingStore) -> None:
    frame = collected("half")
    body = serialise(frame)
    (digest,) = spooled(spool, frame)
    store.append(digest, 0, body[:5000])
    with collecting(store) as address:
        running = uploader(spool, address, chunk_bytes=10_000)
        spool.until_uploaded(1)
        running.stop(60)
    assert store.offsets == [0, *range(5000, len(body), 10_000)]
    assert store.read(digest) == to_kept(frame)


@pytest.fixture
def of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collectors that take no offers."""

    def add(ingest: Ingest, server: grpc.aio.Server) -> None:
        upload = grpc.stream_unary_rpc_method_handler(
            ingest.Upload, UploadRequest.FromString, UploadResponse.SerializeToString
        )
        stat = grpc.unary_unary_rpc_method_handler(
            ingest.StatUpload, StatUploadRequest.FromString, StatUploadResponse.SerializeToString
        )
        calls = {"Upload": upload, "StatUpload": stat}
        made = grpc.method_handlers_generic_handler(service.SERVICE, calls)
        server.add_generic_rpc_handlers((made,))

    monkeypatch.setattr(service, "add_FleetCollectorServicer_to_server", add)


@pytest.mark.usefixtures("of_before")
def test_a_collector_of_before_is_asked_at_the_start_and_after_a_failure(
    tmp_path: Path, spool: AskedSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[str]()
    stat = Ingest.StatUpload

    async def asking(ingest: Ingest, request: StatUploadRequest, call: Any) -> StatUploadResponse:
        asked.append(request.digest)
        return await stat(ingest, request, call)

    monkeypatch.setattr(Ingest, "StatUpload", asking)
    digests = spooled(spool, *(collected(f"f{number}") for number in range(5)))
    store = FailingStore(tmp_path / "store")
    store.fails_at = digests[2]
    with store, collecting(store) as address:
        running = uploader(spool, address)
        spool.until_uploaded(5)
        running.stop(60)
    assert asked == [digests[0], digests[2]]


def test_frames_are_offered_together_and_again_after_a_failure(
    tmp_path: Path, spool: AskedSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = list[list[str]]()
    offer = Ingest.Offer

    async def offering(ingest: Ingest, request: OfferRequest, call: Any) -> OfferResponse:
        offered.append([one.digest for one in request.frames])
        return await offer(ingest, request, call)

    monkeypatch.setattr(Ingest, "Offer", offering)
    count = BATCH + 3
    digests = spooled(spool, *(collected(f"f{number}") for number in range(count)))
    store = FailingStore(tmp_path / "store")
    store.fails_at = digests[2]
    with store, collecting(store) as address:
        running = uploader(spool, address)
        spool.until_uploaded(count)
        running.stop(60)
    assert offered == [digests[:BATCH], digests[2 : 2 + BATCH], digests[2 + BATCH :]]


@pytest.mark.usefixtures("of_before")
def test_a_cut_upload_goes_on_at_a_collector_of_before(
    spool: AskedSpool, store: RecordingStore
) -> None:
    body = serialise(collected("half"))
    (digest,) = spooled(spool, collected("half"))
    store.append(digest, 0, body[:5000])
    with collecting(store) as address:
        running = uploader(spool, address)
        spool.until_uploaded(1)
        running.stop(60)
    assert store.offsets == [0, 5000]


def test_offers_that_are_refused_do_not_hold_frames_up(
    spool: AskedSpool, store: RecordingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MAX_OFFERED", 0)
    digests = spooled(spool, collected("a"), collected("b"))
    with collecting(store) as address:
        running = uploader(spool, address)
        spool.until_uploaded(2)
        running.stop(60)
    assert [row.digest for row, _ in store.frames()] == digests


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


def test_stop_ends_a_call_under_way(tmp_path: Path, spool: Spool) -> None:
    store = StuckStore(tmp_path / "store")
    digests = spooled(spool, collected("kept"))
    with collecting(store) as address:
        running = uploader(spool, address)
        assert store.asked.wait(60)
        running.stop(60)
        assert not uploading()
        store.free.set()
    assert spool.pending() == digests
    store.close()


def test_stop_of_an_idle_or_waiting_uploader(
    spool: AskedSpool, caplog: pytest.LogCaptureFixture
) -> None:
    idle = uploader(spool, "127.0.0.1:1")
    idle.stop(60)
    assert not uploading()
    Uploader(spool, "127.0.0.1:1").stop()  # never started
    spooled(spool, collected("a"))
    waiting = Uploader(spool, "127.0.0.1:1", first_wait_s=1000, longest_wait_s=1000)
    waiting.start()
    eventually(lambda: "trying on, 1 pending" in caplog.text)
    waiting.stop(60)
    assert not uploading()


CUT = """
import sys
from pathlib import Path
import grpc
from shared.collecting import collected, offer, until_pending
from misgiving.runtime.outbox.spool import Spool
from misgiving.v1.fleet_pb2 import UploadRequest, UploadStart
from misgiving.v1.fleet_pb2_grpc import FleetCollectorStub

spool = Spool(Path(sys.argv[1]))
for number in range(5):
    offer(spool, collected(f"f{number}"))
until_pending(spool, 5)
for digest in spool.pending():
    print(digest, flush=True)

def half():
    digest = spool.pending()[0]
    body = spool.read(digest)
    yield UploadRequest(start=UploadStart(digest=digest, size_bytes=len(body)))
    yield UploadRequest(chunk=body[: len(body) // 2])
    sys.stdin.read()

with grpc.insecure_channel(sys.argv[2]) as channel:
    FleetCollectorStub(channel).Upload(half())
"""


def test_nothing_is_uploaded_until_a_window_opens(spool: AskedSpool, store: RecordingStore) -> None:
    clock = iter([datetime(2026, 11, 29, 21, 59, 59), *[datetime(2026, 11, 29, 22)] * 100])
    stored_when_asked = list[int]()

    def now() -> datetime:
        stored_when_asked.append(store.count())
        return next(clock)

    spooled(spool, collected("patient"))
    with collecting(store) as address:
        limits = UploadLimits(windows=(parse_window("22:00-06:00"),))
        running = uploader(spool, address, limits=limits, clock=now)
        spool.until_uploaded(1)
        running.stop(60)
    assert stored_when_asked[:2] == [0, 0]


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


def test_vehicle_killed_in_an_upload_delivers_everything_once(
    tmp_path: Path, store: RecordingStore
) -> None:
    with collecting(store) as address:
        with child(CUT, tmp_path / "spool", address) as process:
            stored = [line_of(process) for _ in range(5)]
            eventually(lambda: len(store.offsets) == 1)
            eventually(lambda: store.offset(stored[0]) > 1000)
            process.kill()
        cut_at = store.offset(stored[0])
        spool = AskedSpool(tmp_path / "spool")
        assert spool.pending() == stored
        running = uploader(spool, address)
        spool.until_uploaded(5)
        running.stop(60)
        spool.close()
    assert store.offsets[:2] == [0, cut_at]
    assert [row.digest for row, _ in store.frames()] == stored
    assert [frame for _, frame in store.frames()] == [kept(f"f{n}") for n in range(5)]
    assert hashlib.sha256(serialise(collected("f0"))).hexdigest() == stored[0]


def test_every_permanent_answer_is_one_that_the_collector_gives() -> None:
    assert {grpc.StatusCode[e.status] for e in (InvalidInput, ResourceExhausted)} == set(PERMANENT)


@pytest.fixture(autouse=True)
def _log_warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
