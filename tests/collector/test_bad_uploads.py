"""Uploads that lie, are cut, out of order or replayed leave nothing half stored, in either store.

Those of a foreign device are in ``test_devices.py`` and ``test_put_off.py``, what goes away in the
middle in ``test_away.py``.
"""

import asyncio
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import grpc
import pytest

from misgiving.collector.service import MAX_FRAME_BYTES
from misgiving.collector.store import Store
from misgiving.v1.fleet_pb2 import StatUploadRequest, UploadRequest
from shared.collecting import collected, files_below, kept, serialise
from shared.services import Place
from shared.uploads import BODY, DIGEST, chunk, serving, start, upload_of

if TYPE_CHECKING:  # known to the types alone
    from misgiving.v1.fleet_pb2_grpc import FleetCollectorAsyncStub


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    with place.open() as store:
        yield store


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
    store: Store, place: Place, requests: list[UploadRequest], code: str, text: str
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
    assert place.all_objects() == []


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


def test_a_vehicle_keeps_its_frame_when_the_folder_is_replaced(store: Store, place: Place) -> None:
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
    with place.open() as restored:
        assert [frame for _, frame in restored.frames()] == [kept("before")]
