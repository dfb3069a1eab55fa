"""From the spool to the collector, in the background, until each frame is acknowledged."""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import grpc

from misgiving.runtime.errors import MisgivingError
from misgiving.runtime.net.backoff import wait_s
from misgiving.runtime.net.connecting import Reopening, through_proxy
from misgiving.runtime.outbox.pacing import Attempts, Pace, UploadLimits
from misgiving.runtime.outbox.spool import Spool
from misgiving.runtime.outbox.value import Entry, upload_order
from misgiving.v1.fleet_pb2 import (
    OFFER_VERDICT_DECLINED,
    OFFER_VERDICT_LATER,
    OFFER_VERDICT_REFUSED,
    OFFER_VERDICT_STORED,
    OFFER_VERDICT_WANTED,
    OfferAnswer,
    OfferedFrame,
    OfferRequest,
    StatUploadRequest,
    StatUploadResponse,
    UploadRequest,
    UploadStart,
)
from misgiving.v1.fleet_pb2_grpc import FleetCollectorStub

log = logging.getLogger(__name__)

PERMANENT = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
"""Answers that will not change for the same bytes."""

BATCH = 16
"""Frames that are offered at once."""

_LOOK_S = 30.0
"""Between two looks at the clock and the link while they hold frames back."""


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
        limits: when and how fast it may upload, to begin with.
        clock: gives the local time.
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
        limits: UploadLimits = UploadLimits(),
        clock: Callable[[], datetime] = datetime.now,
    ) -> None:
        self._spool = spool
        self._target = target
        self._chunk_bytes = chunk_bytes
        self._deadline_s = deadline_s
        self._first_wait_s = first_wait_s
        self._longest_wait_s = longest_wait_s
        self._limits = limits
        self._clock = clock
        self._pace = Pace()
        self._attempts = Attempts()
        self._offers = True  # the collector takes offers, as far as is known
        self._failures = 0  # in a row
        self._unsure = True  # a process before this one may have been cut in an upload
        self._stopping = threading.Event()
        self._link = Reopening(target, 10.0, tls=tls)
        self._stub = FleetCollectorStub(self._link.channel)
        self._thread = threading.Thread(target=self._run, name="uploader", daemon=True)

    @property
    def limits(self) -> UploadLimits:
        """In force from the next frame on; the rate from the next chunk on."""
        return self._limits

    @limits.setter
    def limits(self, limits: UploadLimits) -> None:
        self._limits = limits
        self._spool.arrived.set()

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
            if shut_s := self._shut_s():
                self._spool.arrived.wait(min(shut_s, _LOOK_S))
            elif self._drain():
                self._spool.arrived.wait(_LOOK_S if self._spool.pending() else None)
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
        done = set[str]()
        while not self._shut_s() and (batch := self._next(done)):
            try:
                answers = self._offer(batch)
                done |= batch.keys() - answers.keys()
                for digest, answer in answers.items():
                    if self._shut_s() or batch[digest].score < self._limits.least_loss:
                        break  # since these were offered
                    if self._deliver(digest, answer):
                        done.add(digest)
                    self._succeeded()
            except Exception as error:  # this thread outlives whatever the network does
                if not self._stopping.is_set():
                    self._failed(error)
                return False
        return True

    def _next(self, done: set[str]) -> dict[str, Entry]:
        """The most valuable that may go now."""
        least = self._limits.least_loss
        entries = {x: one for x, one in self._spool.entries().items() if one.score >= least}
        order = (digest for digest in upload_order(entries) if digest not in done)
        first = sorted(order, key=self._attempts.put_off)[:BATCH]
        return {digest: entries[digest] for digest in first}

    def _shut_s(self) -> float:
        return self._limits.shut_s(self._clock())

    def _offer(self, batch: Mapping[str, Entry]) -> dict[str, OfferAnswer]:
        """What the collector says of these, but for those that have left the spool meanwhile."""
        offered = [frame for one in batch.items() if (frame := self._offered(*one))]
        answers = self._answers(offered)
        if len(answers) != len(offered):
            raise MisgivingError(f"it answered {len(answers)} of {len(offered)} offered frames")
        found = {frame.digest: answer for frame, answer in zip(offered, answers, strict=True)}
        if found and all(self._held(digest, answer) for digest, answer in found.items()):
            why = next((f": {one.reason}" for one in answers if one.reason), "")
            raise MisgivingError(f"it puts off each of the offered frames{why}")
        return found

    def _held(self, digest: str, answer: OfferAnswer) -> bool:
        """Whether an answer leaves a frame where it was before."""
        refused = answer.verdict == OFFER_VERDICT_REFUSED and self._attempts.put_off(digest)
        return refused or answer.verdict == OFFER_VERDICT_LATER

    def _offered(self, digest: str, entry: Entry) -> OfferedFrame | None:
        try:
            header = self._spool.header(digest)
        except KeyError:  # evicted meanwhile
            return None
        return OfferedFrame(digest=digest, size_bytes=entry.size, header=header)

    def _answers(self, offered: Sequence[OfferedFrame]) -> Sequence[OfferAnswer]:
        unasked = [OfferAnswer()] * len(offered)
        if not self._offers or not offered:
            return unasked
        try:
            request = OfferRequest(frames=offered)
            return self._stub.Offer(request, timeout=self._deadline_s).answers
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNIMPLEMENTED, *PERMANENT):
                raise
            self._offers = error.code() in PERMANENT  # else a collector of before
            return unasked

    def _deliver(self, digest: str, answer: OfferAnswer) -> bool:
        """Do as the collector says; False where the frame is to be offered again at once."""
        if answer.verdict == OFFER_VERDICT_LATER:
            return False
        if answer.verdict == OFFER_VERDICT_REFUSED:
            self._put_off(digest, answer.reason)
            return True
        if answer.verdict == OFFER_VERDICT_DECLINED:
            self._spool.decline(digest, answer.reason)
        elif answer.verdict == OFFER_VERDICT_STORED:
            self._spool.remove(digest)
        elif answer.verdict == OFFER_VERDICT_WANTED:
            self._upload(digest, answer.offset_bytes)
        elif (known := self._known(digest)).stored:
            self._spool.remove(digest)
        else:
            self._upload(digest, known.offset_bytes)
        return True

    def _upload(self, digest: str, offset: int) -> None:
        try:
            body = self._spool.read(digest)
        except KeyError:  # evicted meanwhile
            return
        self._attempts.begin(digest, offset)
        try:
            answer = self._stub.Upload(
                self._requests(digest, body, offset), timeout=self._longest_s(len(body) - offset)
            )
        except grpc.RpcError as error:
            # The first part of a resumed upload may be what is wrong: refused only as a whole.
            if offset or self._stopping.is_set() or error.code() not in PERMANENT:
                raise
            self._spool.refuse(digest, _text(error))
            self._attempts.over(digest)
            return
        if answer.digest != digest:
            raise MisgivingError(f"it acknowledged {answer.digest!r}; expected {digest}")
        self._spool.remove(digest)
        self._attempts.over(digest)

    def _put_off(self, digest: str, why: str) -> None:
        """Let others go first; each frame is told of once."""
        if not self._attempts.put_off(digest):
            log.warning("frame %s stays, as the collector refuses it now: %s", digest, why)
        self._attempts.give_way(digest)

    def _known(self, digest: str) -> StatUploadResponse:
        """What a collector has that takes no offers; after a frame that went well, nothing."""
        if not self._unsure:
            return StatUploadResponse()
        return self._stub.StatUpload(StatUploadRequest(digest=digest), timeout=self._deadline_s)

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        self._unsure = self._offers = True  # whoever answers next may be another release
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

    def _requests(self, digest: str, body: bytes, offset: int) -> Iterator[UploadRequest]:
        start = UploadStart(digest=digest, size_bytes=len(body), offset_bytes=offset)
        yield UploadRequest(start=start)
        at = offset
        while at < len(body) and not self._stopping.is_set():
            size = self._chunk_bytes
            if rate := self._limits.bytes_per_second:
                size = min(size, rate)
                self._stopping.wait(self._pace.wait_s(time.monotonic()))
                self._pace = self._pace.sent(size, rate, time.monotonic())
            yield UploadRequest(chunk=body[at : at + size])
            at += size

    def _longest_s(self, size: int) -> float:
        """How long a call may take that sends so many bytes."""
        rate = self._limits.bytes_per_second
        return self._deadline_s + (size / rate if rate else 0.0)


def _text(error: Exception) -> str:
    if isinstance(error, grpc.RpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error)
