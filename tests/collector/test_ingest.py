"""A real collector: what it takes, and that its own faults are none of a vehicle's."""

import asyncio
import gc
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

import grpc
import pytest

from misgiving.collector.service import start_server
from misgiving.collector.store import Store
from misgiving.runtime.errors import MisgivingError
from misgiving.runtime.net import grpc_server
from misgiving.v1.fleet_pb2 import StatUploadRequest
from shared.collecting import child, collected, eventually, kept, line_of, serialise
from shared.uploads import BODY, DIGEST, chunk, serving, start, upload_of


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "store")
    yield store
    store.close()


def test_upload_resumes(store: Store) -> None:
    store.append(DIGEST, 0, BODY[:777])

    async def scene() -> None:
        async with serving(store) as stub:
            known = await stub.StatUpload(StatUploadRequest(digest=DIGEST))
            assert (known.stored, known.offset_bytes) == (False, 777)
            await stub.Upload(upload_of(BODY, offset=777))

    asyncio.run(scene())
    assert store.read(DIGEST) == kept("f0")


def test_names_of_before_they_were_bounded_are_stored(store: Store) -> None:
    async def scene() -> None:
        async with serving(store) as stub:
            await stub.Upload(upload_of(serialise(collected("x" * 5000))))

    asyncio.run(scene())
    assert [row.frame_id for row, _ in store.frames()] == ["x" * 5000]


def test_disk_that_fails_is_not_the_vehicles_fault(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.folder.joinpath("incoming").rmdir()  # every write fails from here on

    async def scene() -> None:
        async with serving(store) as stub:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Upload(upload_of(BODY))
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert str(store.folder) not in caught.value.details()

    asyncio.run(scene())
    assert str(store.folder) in caplog.text


def test_refused_uploads_leave_nothing(store: Store) -> None:
    """What they leave knows itself: it goes with the next collection of garbage."""

    def left() -> int:
        gc.collect()
        return sum(type(one).__name__ == "AbortError" for one in gc.get_objects())

    async def scene() -> None:
        before = left()
        async with serving(store) as stub:
            for _ in range(50):
                with pytest.raises(grpc.aio.AioRpcError):
                    await stub.Upload(iter([start(), start(), *[chunk(bytes(100_000))] * 3]))
            await asyncio.to_thread(eventually, lambda: left() < before + 10)

    asyncio.run(scene())


VANISHING = """
import sys
import grpc
from misgiving.v1.fleet_pb2 import UploadRequest, UploadStart
from misgiving.v1.fleet_pb2_grpc import FleetCollectorStub

def requests():
    yield UploadRequest(start=UploadStart(digest="a" * 64, size_bytes=100))
    yield UploadRequest(chunk=b"some")
    print("open", flush=True)
    sys.stdin.read()

FleetCollectorStub(grpc.insecure_channel(sys.argv[1])).Upload(requests())
"""


def test_an_upload_of_a_vehicle_that_hangs_ends(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a tenth of the time; its kernel still acknowledges what is sent."""
    soon = {"grpc.keepalive_time_ms": 300, "grpc.http2.ping_timeout_ms": 5_000}
    ours = dict(grpc_server.OPTIONS)
    assert sum(ours[key] for key in soon) <= 60_000
    monkeypatch.setattr(grpc_server, "OPTIONS", tuple({**ours, **soon}.items()))

    async def scene() -> None:
        server, address = await start_server("127.0.0.1:0", store)
        before, loop = len(asyncio.all_tasks()), asyncio.get_running_loop()
        with child(VANISHING, address) as vehicle:
            assert await asyncio.to_thread(line_of, vehicle) == "open"
            path = store.folder / "incoming" / ("a" * 64 + ".part")
            await asyncio.to_thread(eventually, path.exists)
            assert len(asyncio.all_tasks()) > before
            vehicle.send_signal(signal.SIGSTOP)
            await asyncio.to_thread(eventually, lambda: len(asyncio.all_tasks(loop)) <= before)
        await server.stop(None)

    asyncio.run(scene())
    assert store.offset("a" * 64) == 4


class BrokenStore(Store):
    """A store with a fault of its own."""

    def __init__(self, folder: Path, error: Exception) -> None:
        super().__init__(folder)
        self.error = error

    def known(self, digests: Iterable[str]) -> set[str]:
        raise self.error


@pytest.mark.parametrize("error", [MisgivingError("said"), ZeroDivisionError("secret")])
def test_a_fault_of_the_collector_is_internal(
    tmp_path: Path, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(store: Store) -> None:
        async with serving(store) as stub:
            for call in (
                stub.StatUpload(StatUploadRequest(digest=DIGEST)),
                stub.Upload(upload_of(BODY)),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
                assert caught.value.code() is grpc.StatusCode.INTERNAL
                assert "secret" not in str(caught.value.details())

    with BrokenStore(tmp_path, error) as store:
        asyncio.run(scene(store))
    assert ("secret" in caplog.text) == isinstance(error, ZeroDivisionError)
