"""Frames that come whole, several in a call: each is stored or refused by itself."""

import asyncio
import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from misgiving.collector.frames.devices import Devices
from misgiving.collector.offers import MAX_FRAMES
from misgiving.collector.store import Store, StoreReplaced, StoreUnavailable
from misgiving.collector.store.rows import Rows, StoredFrame
from misgiving.runtime.errors import FailedPrecondition
from misgiving.runtime.wire.sealing import FRAME, seal
from misgiving.v1.fleet_pb2 import UploadAnswer, UploadBatchRequest, WholeFrame
from shared.collecting import body_of, files_below, kept
from shared.services import Place
from shared.uploads import BODY, DIGEST, chunk, serving, start, upload_of

OK, INVALID, PRECONDITION, UNAVAILABLE = (
    getattr(grpc.StatusCode, name).value[0]
    for name in ("OK", "INVALID_ARGUMENT", "FAILED_PRECONDITION", "UNAVAILABLE")
)
FRAMES = dict(body_of(f"f{number}") for number in range(5))


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    with place.open() as store:
        yield store


def whole(frames: Mapping[str, bytes]) -> UploadBatchRequest:
    made = (WholeFrame(digest=digest, body=body) for digest, body in frames.items())
    return UploadBatchRequest(frames=made)


def answers(
    store: Store, *requests: UploadBatchRequest, **options: Any
) -> list[Sequence[UploadAnswer]]:
    """To calls one after the other."""

    async def scene() -> list[Sequence[UploadAnswer]]:
        async with serving(store, **options) as stub:
            return [(await stub.UploadBatch(one)).answers for one in requests]

    return asyncio.run(scene())


def test_each_frame_is_stored_once(store: Store, place: Place) -> None:
    request = whole(FRAMES)
    request.frames.append(request.frames[0])  # twice in one call
    first, second = answers(store, request, request)
    assert [one.digest for one in first] == [*FRAMES, next(iter(FRAMES))]
    assert {(one.code, one.already_stored, one.message) for one in first} == {(OK, False, "")}
    assert {(one.code, one.already_stored) for one in second} == {(OK, True)}
    found = {row.digest: frame for row, frame in store.frames()}
    assert found == {body_of(f"f{number}")[0]: kept(f"f{number}") for number in range(5)}
    assert place.all_objects() == sorted(FRAMES)
    assert files_below(store.folder / "incoming") == []


def test_one_that_is_wrong_spoils_no_other(store: Store, place: Place) -> None:
    pictureless = b""
    sealed = seal(BODY, X25519PrivateKey.generate().public_key(), FRAME)
    wrong = {
        "0" * 64: (BODY, INVALID, "upload has sha256"),
        "../../x": (BODY, INVALID, "expected a sha256"),
        hashlib.sha256(b"\xff").hexdigest(): (b"\xff", INVALID, "are no CollectedFrame"),
        hashlib.sha256(pictureless).hexdigest(): (pictureless, INVALID, "no encoded image"),
        hashlib.sha256(BODY[:-9]).hexdigest(): (BODY, INVALID, "upload has sha256"),
        hashlib.sha256(sealed).hexdigest(): (sealed, PRECONDITION, "key"),
    }
    bodies = {digest: body for digest, (body, _, _) in wrong.items()}
    (said,) = answers(store, whole(FRAMES | bodies))
    assert [one.code for one in said[: len(FRAMES)]] == [OK] * len(FRAMES)
    for one in said[len(FRAMES) :]:
        _, code, text = wrong[one.digest]
        assert (one.code, one.already_stored) == (code, False)
        assert text in one.message
        assert "\n" not in one.message
    assert store.count() == len(FRAMES)
    assert place.all_objects() == sorted(FRAMES)
    assert files_below(store.folder / "incoming") == []


def test_those_before_a_frame_count_for_the_quota(store: Store) -> None:
    (said,) = answers(store, whole(FRAMES), devices=Devices(frames_per_day=3))
    assert [one.code for one in said] == [OK] * 3 + [UNAVAILABLE] * 2
    assert "has sent 3 frames in 24 hours" in said[-1].message
    assert store.count() == 3


def test_too_many_frames_are_refused(store: Store) -> None:
    request = UploadBatchRequest(frames=[WholeFrame(digest=DIGEST)] * (MAX_FRAMES + 1))
    with pytest.raises(grpc.aio.AioRpcError, match=f"{MAX_FRAMES + 1} frames came in one call"):
        answers(store, request)
    assert store.count() == 0


def test_remains_of_an_upload_are_replaced(store: Store) -> None:
    store.append(DIGEST, 0, b"?" * 2 * len(BODY))
    (said,) = answers(store, whole({DIGEST: BODY}))
    assert said[0].code == OK
    assert [frame for _, frame in store.frames()] == [kept("f0")]
    assert files_below(store.folder / "incoming") == []


def test_calls_with_the_same_frames_at_once(store: Store, place: Place) -> None:
    """In any order, beside uploads of one of them in parts; nobody waits for ever."""
    forth, back = whole(FRAMES), whole(dict(reversed(FRAMES.items())))

    async def scene() -> None:
        async with serving(store) as stub:
            batches = [stub.UploadBatch(one, timeout=60) for one in [forth, back] * 8]
            single = stub.Upload(iter([start(), chunk(BODY)]), timeout=60)
            said = await asyncio.gather(*batches)
            assert {one.code for batch in said for one in batch.answers} == {OK}
            await asyncio.gather(single, return_exceptions=True)

    asyncio.run(scene())
    assert store.count() == len(FRAMES)
    assert place.all_objects() == sorted(FRAMES)


def test_nothing_is_acknowledged_where_the_rows_cannot_be_written(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert = Rows.insert

    def failing(rows: Rows, some: Sequence[StoredFrame], *more: Any) -> list[bool]:
        monkeypatch.setattr(Rows, "insert", insert)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Rows, "insert", failing)
    with pytest.raises(grpc.aio.AioRpcError, match="No space left on device") as caught:
        answers(store, whole(FRAMES))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert store.count() == 0
    (said,) = answers(store, whole(FRAMES))
    assert {(one.code, one.already_stored) for one in said} == {(OK, False)}
    assert store.count() == len(FRAMES)


@pytest.mark.parametrize("kind", [StoreReplaced, StoreUnavailable])
def test_a_store_that_fails_as_it_is_asked_is_no_frames_fault(
    store: Store, kind: type[FailedPrecondition]
) -> None:
    """As where a quota is asked for, and the database is away by then."""

    def admit(row: StoredFrame) -> StoredFrame:
        raise kind("away")

    with pytest.raises(kind):
        store.take(FRAMES, admit)
    assert store.count() == 0


def test_nothing_is_taken_where_the_folder_is_replaced(store: Store, place: Place) -> None:
    store.folder.rename(store.folder.with_name("moved"))
    shutil.copytree(store.folder.with_name("moved"), store.folder)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        answers(store, whole(FRAMES))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    with place.open() as restored:
        assert restored.count() == 0


def test_a_frame_that_came_in_parts_is_known(store: Store) -> None:
    async def scene() -> None:
        async with serving(store) as stub:
            await stub.Upload(upload_of(BODY))
            (said,) = (await stub.UploadBatch(whole({DIGEST: BODY}))).answers
            assert (said.code, said.already_stored) == (OK, True)
            assert (await stub.Upload(upload_of(BODY))).already_stored

    asyncio.run(scene())
