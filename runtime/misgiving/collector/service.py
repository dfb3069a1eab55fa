"""gRPC ↔ store: takes uploads, and acknowledges each once it is durable."""

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2

from misgiving.collector.control.service import SERVICE as CONTROL_SERVICE
from misgiving.collector.control.service import Steering
from misgiving.collector.declining import Decliner, Declining
from misgiving.collector.failing import Faults, StoreFailed
from misgiving.collector.frames.arrivals import Arrivals
from misgiving.collector.frames.devices import Caller, Devices, Gate
from misgiving.collector.frames.upkeep import Retention, kept_up
from misgiving.collector.offers import Offers, check_count
from misgiving.collector.store import Store, StoredFrame, wrong_offset
from misgiving.runtime.errors import (
    FailedPrecondition,
    InvalidInput,
    MisgivingError,
    ResourceExhausted,
)
from misgiving.runtime.net.grpc_server import add_health, bind, new_server
from misgiving.runtime.net.listening import check_exposed, check_plain, stop_signal
from misgiving.runtime.net.room import Limits
from misgiving.runtime.net.status import status_of
from misgiving.runtime.telemetry.metrics import status_name
from misgiving.v1 import fleet_pb2
from misgiving.v1.control_pb2_grpc import add_FleetControlServicer_to_server
from misgiving.v1.fleet_pb2 import (
    OfferRequest,
    OfferResponse,
    StatUploadRequest,
    StatUploadResponse,
    UploadAnswer,
    UploadBatchRequest,
    UploadBatchResponse,
    UploadRequest,
    UploadResponse,
    UploadStart,
    WholeFrame,
)
from misgiving.v1.fleet_pb2_grpc import FleetCollectorServicer, add_FleetCollectorServicer_to_server

log = logging.getLogger(__name__)

MAX_FRAME_BYTES = 64 << 20
"""Largest CollectedFrame that is taken."""

SERVICE = fleet_pb2.DESCRIPTOR.services_by_name["FleetCollector"].full_name

_THREADS = 32
_BATCHES = 8
"""Of whole frames that are being stored at once; each holds a file open for each of its frames."""
_GRACE_S = 10.0
_LIMITS = Limits(
    connections=4096,  # of vehicles that are done as well
    calls=1024,
    message_bytes=4 << 20,
    in_flight_bytes=1 << 30,
    # Of RESOURCE_EXHAUSTED a vehicle takes it that the frame will never be wanted.
    busy=grpc.StatusCode.UNAVAILABLE,
)


class Ingest(FleetCollectorServicer):
    """The service. All disk work runs on worker threads."""

    def __init__(
        self, store: Store, declining: Declining, devices: Devices, arrivals: Arrivals
    ) -> None:
        self.faults = Faults()
        """End calls."""
        self._store, self._arrivals = store, arrivals
        self._gate = Gate(devices, store.database)
        self._offers = Offers(store, self._gate, Decliner(declining, store.database))
        self._batches = asyncio.Semaphore(_BATCHES)

    async def StatUpload(
        self, request: StatUploadRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> StatUploadResponse:
        """How much of an upload is durable."""
        try:
            caller = Caller.of(context.auth_context())
            return await asyncio.to_thread(self._stat, request.digest, caller)
        except Exception as error:
            await self.faults.end(context, error)

    async def Upload(
        self,
        request_iterator: AsyncIterator[UploadRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> UploadResponse:
        """Take one frame; returns when it is durable."""
        try:
            caller = Caller.of(context.auth_context())
            return await self._upload(request_iterator, caller)
        except Exception as error:
            self._refused(error)
            await self.faults.end(context, error)

    async def UploadBatch(
        self, request: UploadBatchRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> UploadBatchResponse:
        """Take frames that came whole; returns when each is durable, or is not taken."""
        try:
            caller = Caller.of(context.auth_context())
            return await self._batch(request.frames, caller)
        except Exception as error:
            self._refused(error)
            await self.faults.end(context, error)

    async def Offer(
        self, request: OfferRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> OfferResponse:
        """What is wanted of frames whose bytes are still to come."""
        try:
            caller = Caller.of(context.auth_context())
            return await asyncio.to_thread(self._offers.answer, request.frames, caller)
        except Exception as error:
            await self.faults.end(context, error)

    def _stat(self, digest: str, caller: Caller) -> StatUploadResponse:
        if self._known(digest, caller):
            return StatUploadResponse(stored=True)
        return StatUploadResponse(offset_bytes=self._store.offset(digest))

    def _known(self, digest: str, caller: Caller) -> bool:
        return bool(self._offers.known([digest], caller))

    async def _upload(
        self, requests: AsyncIterator[UploadRequest], caller: Caller
    ) -> UploadResponse:
        start, began_s = await _start_of(requests), time.monotonic()
        if not await asyncio.to_thread(self._begins, start, caller):
            self._arrivals.known()
            return UploadResponse(digest=start.digest, already_stored=True)
        at, last = start.offset_bytes, b""
        async for request in requests:
            last = _chunk_of(request, start, at, last)
            if at + len(last) < start.size_bytes:  # the last chunk goes with the commit
                at, last = await asyncio.to_thread(self._store.append, start.digest, at, last), b""
        if at + len(last) < start.size_bytes:
            raise InvalidInput(
                f"upload ended after {at} of {start.size_bytes} bytes. Send the rest from byte {at}"
            )
        row = await asyncio.to_thread(self._finish, start.digest, caller, at, last)
        if row is None:
            self._arrivals.known()
        else:
            self._arrivals.took(row, time.monotonic() - began_s)
        return UploadResponse(digest=start.digest, already_stored=row is None)

    async def _batch(self, frames: Sequence[WholeFrame], caller: Caller) -> UploadBatchResponse:
        began_s = time.monotonic()
        check_count(frames)
        rows = dict[str, StoredFrame]()
        admit = self._admitting(caller, rows)
        async with self._batches:
            bodies = {one.digest: one.body for one in frames}  # copies, so not before
            taken = await asyncio.to_thread(self._store.take, bodies, admit)
        seconds, answers = time.monotonic() - began_s, dict[str, UploadAnswer]()
        for digest, one in taken.items():
            answers[digest] = answer = UploadAnswer(digest=digest)
            if isinstance(one, MisgivingError):
                self._refused(one)
                code, answer.message = status_of(one)
                answer.code = code.value[0]
            elif one:
                self._arrivals.took(rows[digest], seconds)
            else:
                self._arrivals.known()
                answer.already_stored = True
        return UploadBatchResponse(answers=[answers[one.digest] for one in frames])

    def _refused(self, error: Exception) -> None:
        failed = isinstance(error, OSError)
        self._arrivals.refused(StoreFailed.status if failed else status_name(error))

    def _begins(self, start: UploadStart, caller: Caller) -> bool:
        """Whether an upload's bytes are to come; False where it is stored already."""
        if self._known(start.digest, caller):
            return False
        self._gate.check_caller(caller)
        self._check_offset(start)
        return True

    def _finish(self, digest: str, caller: Caller, at: int, last: bytes) -> StoredFrame | None:
        """Store an upload whose last bytes are here; None where it was stored already."""
        if last:
            self._store.append(digest, at, last)
        rows = dict[str, StoredFrame]()
        new = self._store.commit(digest, self._admitting(caller, rows))
        return rows[digest] if new else None

    def _admitting(
        self, caller: Caller, rows: dict[str, StoredFrame]
    ) -> Callable[[StoredFrame], StoredFrame]:
        """As the gate's, which notes the rows that it gives, by digest."""
        admit = self._gate.admitting(caller)

        def admitted(row: StoredFrame) -> StoredFrame:
            rows[row.digest] = admit(row)
            return rows[row.digest]

        return admitted

    def _check_offset(self, start: UploadStart) -> None:
        durable = self._store.offset(start.digest)
        if durable > start.size_bytes:
            self._store.discard(start.digest)
            raise FailedPrecondition(
                f"upload of {start.size_bytes} bytes had {durable} already, which are dropped. "
                "Send it again from byte 0"
            )
        if start.offset_bytes != durable:
            raise wrong_offset(start.digest, start.offset_bytes, durable)


async def serve(
    listen: str,
    store: Store,
    *,
    tls: Path | str | None = None,
    insecure: bool = False,
    declining: Declining = Declining(),
    devices: Devices = Devices(),
    retention: Retention = Retention(),
    metrics: str | None = None,
) -> None:
    """Collect until SIGTERM or SIGINT, then finish the calls under way.

    >>> import asyncio
    >>> with Store(Path("collected")) as store:
    ...     asyncio.run(serve("127.0.0.1:50052", store))

    Args:
        listen: HOST:PORT; port 0 takes a free one.
        store: where the frames go.
        tls: folder of tls.crt and tls.key, and of ca.crt, by which clients then need a
            certificate; None for no TLS.
        insecure: listen without TLS where other machines reach it.
        declining: which frames are not wanted.
        devices: what they may do.
        retention: how long what has arrived is kept.
        metrics: HOST:PORT for Prometheus; None for none.

    Raises:
        InvalidInput: ``listen`` is not HOST:PORT, or others reach it, without TLS.
        FailedPrecondition: the address cannot be bound; there are no certificates.
    """
    tls = Path(tls) if tls else None
    check_exposed(listen, tls, insecure)
    if metrics:
        check_plain(metrics, insecure)
    stop, arrivals = stop_signal(), Arrivals()
    async with kept_up(store, arrivals, retention, metrics):
        server, address = await start_server(listen, store, tls, declining, devices, arrivals)
        print(f"collecting on {address} into {store.folder}", file=sys.stderr, flush=True)
        await stop.wait()
        await server.stop(_GRACE_S)


async def start_server(
    listen: str,
    store: Store,
    tls: Path | None = None,
    declining: Declining = Declining(),
    devices: Devices = Devices(),
    arrivals: Arrivals | None = None,
) -> tuple[grpc.aio.Server, str]:
    """Start the service with health and reflection; returns it and the HOST:PORT it has."""
    server = new_server(_LIMITS)
    # Those threads wait for the disk and for the database, whose syncs serve them together.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
    ingest = Ingest(store, declining, devices, arrivals or Arrivals())
    add_FleetCollectorServicer_to_server(ingest, server)
    add_FleetControlServicer_to_server(
        Steering(store.database, Gate(devices, store.database), ingest.faults.end), server
    )
    services = (SERVICE, CONTROL_SERVICE)
    checks = add_health(server, *services)
    address = bind(server, listen, tls)
    await server.start()
    for name in ("", *services):
        await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    return server, address


async def _start_of(requests: AsyncIterator[UploadRequest]) -> UploadStart:
    first = await anext(aiter(requests), UploadRequest())
    if first.WhichOneof("message") != "start":
        raise InvalidInput("upload does not begin with a start; send UploadStart first")
    if first.start.size_bytes > MAX_FRAME_BYTES:
        raise ResourceExhausted(
            f"frame has {first.start.size_bytes:,} bytes; at most {MAX_FRAME_BYTES:,} are taken. "
            "Send its image smaller"
        )
    return first.start


def _chunk_of(request: UploadRequest, start: UploadStart, at: int, before: bytes) -> bytes:
    """The bytes that came, behind those before them, which begin at an offset."""
    if request.WhichOneof("message") != "chunk":
        raise InvalidInput("upload has a second start; expected chunks. Begin another call")
    if at + len(before) + len(request.chunk) > start.size_bytes:
        raise InvalidInput(
            f"upload goes on beyond its {start.size_bytes} bytes; send UploadStart.size_bytes "
            "as it is"
        )
    return before + request.chunk
