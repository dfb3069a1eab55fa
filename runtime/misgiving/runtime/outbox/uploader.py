"""From the spool to the collector, in the background, until each frame is acknowledged."""

import logging
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc

from misgiving.runtime.errors import MisgivingError
from misgiving.runtime.net.backoff import wait_s
from misgiving.runtime.net.connecting import Reopening, through_proxy
from misgiving.runtime.outbox.spool import Spool
from misgiving.v1.fleet_pb2 import (
    StatUploadRequest,
    StatUploadResponse,
    UploadRequest,
    UploadStart,
)
from misgiving.v1.fleet_pb2_grpc import FleetCollectorStub

log = logging.getLogger(__name__)

PERMANENT = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
"""Answers that will not change for the same bytes."""


class Uploader:
    """One thread that empties a spool into a collector.

    Args:
        spool: the only uploader of this spool.
        target: HOST:PORT of the collector.
        chunk_bytes: of one message; at most what the collector receives (4 MiB by default).
        deadline_s: of one call; a longer upload goes on where it was cut.
        first_wait_s: between the first two attempts; doubles with each further one.
        longest_wait_s: between any two attempts.
        tls: folder of our certificates, see ``net/tls.py``; read again after a failure where
            they have changed, so that one that was renewed is used. None for a collector without
            TLS.
    """

    def __init__(
        self,
        spool: Spool,
        target: str,
        *,
        chunk_bytes: int = 256 * 1024,
        deadline_s: float = 60.0,
        first_wait_s: float = 0.5,
        longest_wait_s: float = 60.0,
        tls: Path | None = None,
    ) -> None:
        self._spool = spool
        self._target = target
        self._chunk_bytes = chunk_bytes
        self._deadline_s = deadline_s
        self._first_wait_s = first_wait_s
        self._longest_wait_s = longest_wait_s
        self._failures = 0  # in a row
        self._unsure = True  # a process before this one may have been cut in an upload
        self._stopping = threading.Event()
        self._link = Reopening(target, 10.0, tls=tls)
        self._stub = FleetCollectorStub(self._link.channel)
        self._thread = threading.Thread(target=self._run, name="uploader", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self, timeout: float | None = None) -> None:
        """Cancel the call under way and end the thread; what is not acknowledged stays spooled.

        Args:
            timeout: longest wait for the thread, in seconds.
        """
        self._stopping.set()
        self._spool.arrived.set()
        self._link.channel.close()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            self._spool.arrived.clear()
            if self._stopping.is_set():
                return
            if self._drain():
                self._spool.arrived.wait()
            else:
                draw = random.random()
                self._stopping.wait(
                    wait_s(self._failures, self._first_wait_s, self._longest_wait_s, draw)
                )
                self._reconnect()

    def _reconnect(self) -> None:
        """With the certificates of now."""
        if self._link.reopen():
            self._stub = FleetCollectorStub(self._link.channel)
        if self._stopping.is_set():  # which may have closed the one before
            self._link.channel.close()

    def _drain(self) -> bool:
        """Deliver what is pending; False where an attempt failed and a later one may not."""
        for digest in self._spool.pending():
            try:
                self._deliver(digest)
            except Exception as error:  # this thread outlives whatever the network does
                if not self._stopping.is_set():
                    self._failed(error)
                return False
            self._succeeded()
        return True

    def _deliver(self, digest: str) -> None:
        known = self._known(digest)
        if not known.stored:
            try:
                body = self._spool.read(digest)
            except KeyError:  # evicted meanwhile
                return
            requests = _requests(digest, body, known.offset_bytes, self._chunk_bytes)
            try:
                answer = self._stub.Upload(requests, timeout=self._deadline_s)
            except grpc.RpcError as error:
                # The first part of a resumed upload may be what is wrong: refused only as a whole.
                if known.offset_bytes or error.code() not in PERMANENT:
                    raise
                self._spool.refuse(digest, _text(error))
                return
            if answer.digest != digest:
                raise MisgivingError(f"it acknowledged {answer.digest!r}; expected {digest}")
        self._spool.remove(digest)

    def _known(self, digest: str) -> StatUploadResponse:
        """What the collector has of a frame; after a frame that went well, nothing of the next."""
        if not self._unsure:
            return StatUploadResponse()
        return self._stub.StatUpload(StatUploadRequest(digest=digest), timeout=self._deadline_s)

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        self._unsure = True
        if self._failures == 1:
            pending = self._spool.counts().pending
            log.warning(
                "collector %s: %s; trying on, %d pending",
                self._target + through_proxy(self._target),
                _text(error),
                pending,
            )

    def _succeeded(self) -> None:
        if self._failures:
            log.warning("collector %s takes frames again", self._target)
        self._failures = 0
        self._unsure = False


def _requests(digest: str, body: bytes, offset: int, chunk_bytes: int) -> Iterator[UploadRequest]:
    start = UploadStart(digest=digest, size_bytes=len(body), offset_bytes=offset)
    yield UploadRequest(start=start)
    for at in range(offset, len(body), chunk_bytes):
        yield UploadRequest(chunk=body[at : at + chunk_bytes])


def _text(error: Exception) -> str:
    if isinstance(error, grpc.RpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error)
