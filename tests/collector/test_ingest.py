"""A real collector: acknowledged means durable, and bad uploads get their status."""

import asyncio
import gc
import hashlib
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from misgiving.collector.service import MAX_FRAME_BYTES, SERVICE, start_server
from misgiving.collector.store import Store
from misgiving.runtime.errors import FailedPrecondition, InvalidInput, MisgivingError
from misgiving.runtime.net import grpc_server
from misgiving.runtime.wire.collected import to_message
from misgiving.v1.fleet_pb2 import StatUploadRequest, UploadRequest, UploadStart
from misgiving.v1.fleet_pb2_grpc import FleetCollectorStub
from shared.collecting import (
    child,
    collected,
    eventually,
    files_below,
    kept,
    line_of,
    serialise,
)

if TYPE_CHECKING:  # known to the types alone
    from misgiving.v1.fleet_pb2_grpc import FleetCollectorAsyncStub

BODY = serialise(collected("f0"))
DIGEST = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "store")
    yield store
    store.close()


@asynccontextmanager
async def serving(store: Store) -> AsyncIterator["FleetCollectorAsyncStub"]:
    """A real server on a free port, and a stub that talks to it."""
    server, address = await start_server(store=store, listen="127.0.0.1:0")
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            yield FleetCollectorStub(channel)
    finally:
        await server.stop(None)


def start(digest: str = DIGEST, size: int = len(BODY), offset: int = 0) -> UploadRequest:
    upload = UploadStart(digest=digest, size_bytes=size, offset_bytes=offset)
    return UploadRequest(start=upload)


def chunk(data: bytes) -> UploadRequest:
    return UploadRequest(chunk=data)


def upload_of(body: bytes, offset: int = 0, step: int = 4096) -> Iterator[UploadRequest]:
    yield start(hashlib.sha256(body).hexdigest(), len(body), offset)
    yield from (chunk(body[at : at + step]) for at in range(offset, len(body), step))


def test_upload_is_stored_and_the_second_one_known(store: Store) -> None:
    async def scene() -> None:
        async with serving(store) as stub:
            before = await stub.StatUpload(StatUploadRequest(digest=DIGEST))
            first = await stub.Upload(upload_of(BODY))
            second = await stub.Upload(upload_of(BODY))
            after = await stub.StatUpload(StatUploadRequest(digest=DIGEST))
        assert (before.stored, before.offset_bytes) == (False, 0)
        assert (first.digest, first.already_stored) == (DIGEST, False)
        assert (second.digest, second.already_stored) == (DIGEST, True)
        assert after.stored

    asyncio.run(scene())
    assert [frame for _, frame in store.frames()] == [kept("f0")]
    assert files_below(store.folder / "incoming") == []


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


GARBAGE = b"\xff\xff\xff"
PICTURELESS = b""
TOO_LARGE = MAX_FRAME_BYTES + 1


@pytest.mark.parametrize(
    ("requests", "code", "text"),
    [
        ([], "INVALID_ARGUMENT", "does not begin with a start"),
        ([chunk(BODY)], "INVALID_ARGUMENT", "does not begin with a start"),
        ([start(), start()], "INVALID_ARGUMENT", "a second start"),
        ([start("../../x")], "INVALID_ARGUMENT", "expected a sha256"),
        ([start(size=TOO_LARGE)], "RESOURCE_EXHAUSTED", "at most 67,108,864"),
        ([start(), chunk(BODY + b"?")], "INVALID_ARGUMENT", "beyond its"),
        ([start(), chunk(BODY[:9])], "INVALID_ARGUMENT", "ended after 9 of"),
        ([start(), chunk(BODY[1:] + b"?")], "INVALID_ARGUMENT", "upload has sha256"),
        ([start(offset=5), chunk(BODY[5:])], "FAILED_PRECONDITION", "byte 5; 0 bytes are durable"),
        # out of order, of another size than said, behind its end, under another spelling
        ([start(), chunk(BODY[500:]), chunk(BODY[:500])], "INVALID_ARGUMENT", "upload has sha256"),
        ([start(size=0)], "INVALID_ARGUMENT", "upload has sha256"),
        ([start(size=500), chunk(BODY[:500])], "INVALID_ARGUMENT", "upload has sha256"),
        ([start(offset=len(BODY) + 1)], "FAILED_PRECONDITION", "0 bytes are durable"),
        ([start(DIGEST.upper())], "INVALID_ARGUMENT", "expected a sha256"),
        (list(upload_of(GARBAGE)), "INVALID_ARGUMENT", "are no CollectedFrame"),
        (list(upload_of(PICTURELESS)), "INVALID_ARGUMENT", "no encoded image"),
    ],
)
def test_what_is_not_taken(
    store: Store, requests: list[UploadRequest], code: str, text: str
) -> None:
    async def scene() -> None:
        async with serving(store) as stub:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Upload(iter(requests))
        assert caught.value.code().name == code
        assert text in caught.value.details()
        assert "\n" not in caught.value.details()

    asyncio.run(scene())
    assert store.count() == 0


def test_altered_upload_leaves_nothing_behind(store: Store) -> None:
    async def scene() -> None:
        async with serving(store) as stub:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Upload(iter([start(), chunk(BODY[1:] + b"?")]))
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert (await stub.StatUpload(StatUploadRequest(digest=DIGEST))).offset_bytes == 0
            await stub.Upload(upload_of(BODY))

    asyncio.run(scene())
    assert store.count() == 1


def test_remains_longer_than_the_upload_are_dropped(store: Store) -> None:
    store.append(DIGEST, 0, BODY * 2)

    async def scene() -> None:
        async with serving(store) as stub:
            with pytest.raises(grpc.aio.AioRpcError, match="Send it again from byte 0"):
                await stub.Upload(upload_of(BODY, offset=2 * len(BODY)))
            await stub.Upload(upload_of(BODY))

    asyncio.run(scene())
    assert store.count() == 1


def test_concurrent_uploads_of_one_frame(store: Store) -> None:
    """Whoever is behind is told to resume; then the frame is there once, whole."""

    async def attempt(stub: "FleetCollectorAsyncStub") -> str:
        try:
            return (await stub.Upload(upload_of(BODY, step=500))).digest
        except grpc.aio.AioRpcError as error:
            if error.details() == "Internal error from Core":  # the client's, refused as it writes
                return await attempt(stub)
            return error.code().name

    async def scene() -> list[str]:
        async with serving(store) as stub:
            return await asyncio.gather(*(attempt(stub) for _ in range(16)))

    assert set(asyncio.run(scene())) <= {DIGEST, "FAILED_PRECONDITION"}
    assert store.count() <= 1

    async def again() -> None:
        async with serving(store) as stub:
            known = await stub.StatUpload(StatUploadRequest(digest=DIGEST))
            await stub.Upload(upload_of(BODY, offset=known.offset_bytes))

    asyncio.run(again())
    assert [frame for _, frame in store.frames()] == [kept("f0")]


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

    def stored(self, digest: str) -> bool:
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


def test_a_vehicle_keeps_its_frame_when_the_store_is_replaced(store: Store) -> None:
    store.put(serialise(collected("before")))
    store.folder.rename(store.folder.with_name("moved"))
    shutil.copytree(store.folder.with_name("moved"), store.folder)

    async def scene() -> None:
        async with serving(store) as stub:
            asked = stub.StatUpload(StatUploadRequest(digest=DIGEST)), stub.Upload(upload_of(BODY))
            for call in asked:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
                assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION

    asyncio.run(scene())
    with Store(store.folder) as restored:
        assert [frame for _, frame in restored.frames()] == [kept("before")]


def test_port_in_use(store: Store) -> None:
    async def scene() -> None:
        server, address = await start_server("127.0.0.1:0", store)
        try:
            with pytest.raises(FailedPrecondition, match=f"{address} cannot be bound; expected"):
                await start_server(address, store)
        finally:
            await server.stop(None)

    asyncio.run(scene())


@pytest.mark.parametrize(
    "listen", ["", "50052", "127.0.0.1", "127.0.0.1:", ":1", "h:65536", "h:-1"]
)
def test_address_that_is_none(store: Store, listen: str) -> None:
    with pytest.raises(InvalidInput, match="expected HOST:PORT"):
        asyncio.run(start_server(listen, store))


COLLECT = """
import sys
from misgiving.runtime.verbs.command import main

store, listen = [*sys.argv[1:], "127.0.0.1:0"][:2]
sys.argv[1:] = ["collect", "--listen", listen, "--store", store]
main()
"""


def address_of(process: "subprocess.Popen[str]", folder: Path) -> str:
    line = process.stderr.readline().strip()
    assert line.startswith("collecting on 127.0.0.1:"), line + process.stderr.read()
    assert line.endswith(f" into {folder}")
    return line.split()[2]


def test_port_in_use_is_one_line(tmp_path: Path) -> None:
    with child(COLLECT, tmp_path / "a") as first:
        address = address_of(first, tmp_path / "a")
        with child(COLLECT, tmp_path / "b", address) as second:
            assert second.wait(60) == 2
            (line,) = second.stderr.read().splitlines()
    assert line.startswith(f"misgiving: {address} cannot be bound; expected")


def test_sigterm_ends_a_collector_that_is_alive_and_described(tmp_path: Path) -> None:
    with child(COLLECT, tmp_path) as process:
        with grpc.insecure_channel(address_of(process, tmp_path)) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            for service in ("", SERVICE):
                answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=60)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
            asked = reflection_pb2.ServerReflectionRequest(list_services="")
            reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
            (answer,) = reflection.ServerReflectionInfo(iter([asked]), timeout=60)
        assert SERVICE in {s.name for s in answer.list_services_response.service}
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert process.stderr.read() == ""


def test_killed_collector_has_what_it_acknowledged(tmp_path: Path) -> None:
    bodies = [serialise(collected(f"f{number}")) for number in range(5)]
    with child(COLLECT, tmp_path) as process:
        with grpc.insecure_channel(address_of(process, tmp_path)) as channel:
            stub = FleetCollectorStub(channel)
            for body in bodies:
                stub.Upload(upload_of(body), timeout=60)
        process.kill()
        process.wait(60)
    store = Store(tmp_path)
    assert [serialise(to_message(frame)) for _, frame in store.frames()] == bodies
    store.close()
