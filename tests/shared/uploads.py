"""Uploads by gRPC to a real collector in this process, message by message."""

import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc

from misgiving.collector.service import start_server
from misgiving.collector.store import Store
from misgiving.v1.fleet_pb2 import UploadRequest, UploadStart
from misgiving.v1.fleet_pb2_grpc import FleetCollectorStub
from shared.collecting import body_of

if TYPE_CHECKING:  # known to the types alone
    from misgiving.v1.fleet_pb2_grpc import FleetCollectorAsyncStub

DIGEST, BODY = body_of("f0")


@asynccontextmanager
async def serving(store: Store, **options: Any) -> AsyncIterator["FleetCollectorAsyncStub"]:
    """A real server on a free port, and a stub that talks to it."""
    server, address = await start_server("127.0.0.1:0", store, **options)
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
