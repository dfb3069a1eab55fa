"""From the spool to a real collector: once each, whatever is cut."""

import hashlib
import socket
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grpc
import pytest

from misgiving.collector import offers, service
from misgiving.collector.service import Ingest
from misgiving.collector.store import Store
from misgiving.runtime.net.backoff import wait_s
from misgiving.runtime.outbox.delivery import BATCH
from misgiving.runtime.outbox.spool import Spool
from misgiving.runtime.outbox.uploader import Uploader
from misgiving.runtime.wire.collected import to_kept
from misgiving.v1.fleet_pb2 import (
    OfferRequest,
    OfferResponse,
    StatUploadRequest,
    StatUploadResponse,
    UploadRequest,
    UploadResponse,
)
from runtime.uploading import AskedSpool, FailingStore, RecordingStore, spooled, uploader
from shared.collecting import (
    child,
    collected,
    collecting,
    eventually,
    kept,
    line_of,
    offer,
    serialise,
)


class StuckStore(Store):
    """A store whose disk does not answer until it is let."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked, self.free = threading.Event(), threading.Event()

    def known(self, digests: Iterable[str]) -> set[str]:
        self.asked.set()
        self.free.wait(60)
        return super().known(digests)


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
    store.fails_at = digests[2]  # in the first call that has several
    with store, collecting(store) as address:
        running = uploader(spool, address)
        spool.until_uploaded(count)
        running.stop(60)
    assert offered == [digests[:BATCH], digests[1 : 1 + BATCH], digests[1 + BATCH :]]


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
    monkeypatch.setattr(offers, "MAX_FRAMES", 0)
    digests = spooled(spool, collected("a"), collected("b"))
    with collecting(store) as address:
        running = uploader(spool, address)
        spool.until_uploaded(2)
        running.stop(60)
    assert [row.digest for row, _ in store.frames()] == digests


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
