"""A database or an object store that goes away in the midst of it, and comes back.

The real servers are ended as a crash ends them. Vehicles are told to keep their frames; nothing is
half stored, and nothing that was acknowledged is lost.
"""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from misgiving.collector.store import Store, StoreUnavailable
from misgiving.runtime.errors import FailedPrecondition, InvalidInput
from misgiving.v1.fleet_pb2 import StatUploadRequest, UploadRequest, UploadStart
from misgiving.v1.fleet_pb2_grpc import FleetCollectorStub
from shared.collecting import body_of, collecting, eventually, kept
from shared.services import S3, Postgres


@pytest.mark.parametrize("gone", ["postgres", "s3"])
def test_a_server_that_goes_away_and_comes_back(
    tmp_path: Path,
    gone: str,
    postgres: Postgres,
    s3: S3,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (before, first), (digest, body) = body_of("before"), body_of("meanwhile")
    server = {"postgres": postgres, "s3": s3}[gone]
    with Store(tmp_path, postgres.emptied(), s3.make()) as store, collecting(store) as address:
        with grpc.insecure_channel(address) as channel:
            stub = FleetCollectorStub(channel)
            stub.Upload(upload_of(before, first), timeout=60)
            try:
                with pytest.raises(grpc.RpcError) as refused:
                    stub.Upload(cut_short(store, server, digest, body), timeout=300)
            finally:
                server.start()
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
            assert refused.value.details().endswith("Keep the frame, and send it again")
            stat = stub.StatUpload(StatUploadRequest(digest=digest), timeout=60)
            assert (stat.stored, stat.offset_bytes) == (False, len(body))
            stub.Upload(upload_of(digest, body, stat.offset_bytes), timeout=60)
            again = stub.Upload(upload_of(before, first), timeout=60)
            assert again.already_stored
        assert [frame for _, frame in store.frames()] == [kept("before"), kept("meanwhile")]
    assert "expected it to answer. Start it" in caplog.text


def upload_of(digest: str, body: bytes, offset: int = 0) -> Iterator[UploadRequest]:
    start = UploadStart(digest=digest, size_bytes=len(body), offset_bytes=offset)
    rest = [UploadRequest(chunk=body[offset:])] if offset < len(body) else []
    return iter([UploadRequest(start=start), *rest])


def cut_short(
    store: Store, server: Postgres | S3, digest: str, body: bytes
) -> Iterator[UploadRequest]:
    """An upload in the midst of which a server ends."""
    yield UploadRequest(start=UploadStart(digest=digest, size_bytes=len(body)))
    yield UploadRequest(chunk=body[:100])
    eventually(lambda: store.offset(digest) == 100)
    server.kill()
    yield UploadRequest(chunk=body[100:])


def test_a_database_that_is_away_at_the_start(tmp_path: Path) -> None:
    url = f"postgresql://ann:secret@/kept?host={tmp_path}"
    with pytest.raises(StoreUnavailable, match=r"database postgresql://ann:\*\*\*@/kept: ") as away:
        Store(tmp_path / "store", url)
    assert "secret" not in str(away.value)
    assert "\n" not in str(away.value)


def test_a_bucket_that_is_not_there(tmp_path: Path, s3: S3) -> None:
    with pytest.raises(FailedPrecondition, match="s3://nobody: there is no such bucket"):
        Store(tmp_path, None, "s3://nobody/fleet")


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"objects": "s3://bucket/x"}, "has no database, and none is named; .* with --database"),
        ({"url": "postgresql:///kept"}, "is no store; .* with --store, or a bucket with --obj"),
        ({}, "is no store; .* with --store$"),
    ],
)
def test_half_a_store_is_made_for_nobody_who_asks(
    tmp_path: Path, named: dict[str, str], said: str
) -> None:
    with pytest.raises(FailedPrecondition, match=said):
        Store(tmp_path / "store", **named, create=False)
    assert not (tmp_path / "store").exists()


def test_a_database_that_refuses_is_not_to_be_started(tmp_path: Path, postgres: Postgres) -> None:
    with pytest.raises(StoreUnavailable, match='"nope" does not exist; .* may read.* Correct that'):
        Store(tmp_path / "store", postgres.url("nope"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"folder": "s3://bucket/x"}, "--store is s3:…; expected a folder. Name a database by"),
        ({"folder": "postgresql://a:secret@h/d"}, "--store is postgresql:…; expected a folder"),
        ({"objects": "ftp://bucket"}, "--objects is ftp:; expected s3://BUCKET/PREFIX"),
        ({"objects": "folder"}, "--objects is no URL; expected s3://BUCKET/PREFIX. For a folder"),
        ({"objects": "s3://a:secret@bucket/x"}, "Set AWS_ENDPOINT_URL and AWS_ACCESS_KEY_ID"),
        ({"objects": "s3:///x"}, "or no bucket; expected s3://BUCKET/PREFIX"),
        ({"objects": "s3://[x"}, "--objects is no URL"),
        ({"url": "mysql://a:secret@h/d?password=secret"}, r"is mysql://a:\*\*\*@h/d; expected sql"),
        ({"url": "a:secret@h"}, "--database is no URL; expected sqlite:///FILE or postgresql:"),
        ({"url": "postgresql://a:secret@h:port/d"}, "--database is no URL"),
        ({"url": "sqlite://"}, "--database is sqlite://, without a file"),
    ],
)
def test_what_names_no_store(tmp_path: Path, options: dict[str, str], said: str) -> None:
    folder = Path(options.pop("folder", str(tmp_path)))
    with pytest.raises(InvalidInput, match=said) as caught:
        Store(folder, **options)
    assert "secret" not in str(caught.value)
