"""What a vehicle asks a collector, and what becomes of its frames by the answers."""

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import grpc

from misgiving.runtime.errors import MisgivingError
from misgiving.runtime.outbox.pacing import Attempts, Batching, Pace, UploadLimits
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
    UploadAnswer,
    UploadBatchRequest,
    UploadRequest,
    UploadStart,
    WholeFrame,
)
from misgiving.v1.fleet_pb2_grpc import FleetCollectorStub

log = logging.getLogger(__name__)

PERMANENT = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
"""Answers that will not change for the same bytes."""

BATCH = 16
"""Frames that are offered at once."""

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class Delivery:
    """Offers frames of a spool and uploads them, in one thread.

    Every method that asks the collector raises an RpcError or a MisgivingError where that fails
    and may succeed later.

    Args:
        spool: of the frames.
        channel: to the collector.
        chunk_bytes: of one message.
        deadline_s: of one call.
        limits: to begin with.
        stopping: when set, no further chunk is sent.
    """

    def __init__(
        self,
        spool: Spool,
        channel: grpc.Channel,
        *,
        chunk_bytes: int,
        deadline_s: float,
        limits: UploadLimits,
        stopping: threading.Event,
    ) -> None:
        self.limits = limits
        """In force from the next frame on; the rate from the next chunk on."""
        self._spool = spool
        self._stub = FleetCollectorStub(channel)
        self._chunk_bytes = chunk_bytes
        self._deadline_s = deadline_s
        self._stopping = stopping
        self._pace = Pace()
        self._attempts = Attempts()
        self._batching = Batching()
        self._offers = True  # the collector takes offers, as far as is known
        self._unsure = True  # a process before this one may have been cut in an upload

    def connect(self, channel: grpc.Channel) -> None:
        """Ask by another channel from now on."""
        self._stub = FleetCollectorStub(channel)

    def failed(self) -> None:
        """A call was cut or refused: whoever answers next may be another release."""
        self._unsure = self._offers = True
        self._batching.failed()

    def succeeded(self) -> None:
        """A frame was delivered."""
        self._unsure = False

    def next(self, done: set[str]) -> dict[str, Entry]:
        """The most valuable frames that may go now, but for some."""
        least = self.limits.least_loss
        entries = {x: one for x, one in self._spool.entries().items() if one.score >= least}
        order = (digest for digest in upload_order(entries) if digest not in done)
        first = sorted(order, key=self._attempts.put_off)[:BATCH]
        return {digest: entries[digest] for digest in first}

    def offer(self, batch: Mapping[str, Entry]) -> dict[str, OfferAnswer]:
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

    def first(
        self, answers: Mapping[str, OfferAnswer], batch: Mapping[str, Entry]
    ) -> dict[str, OfferAnswer]:
        """Those of the answers that come first; several where one call may carry the frames.

        One whose upload fails again and again spoils no other's.
        """
        most = 0 if self.limits.bytes_per_second else self._batching.most
        some = dict[str, OfferAnswer]()
        for digest, answer in answers.items():
            most -= batch[digest].size
            whole = answer.verdict == OFFER_VERDICT_WANTED and not answer.offset_bytes
            whole = whole and not self._attempts.put_off(digest)
            if some and (most < 0 or not whole):
                break
            some[digest] = answer
            if not whole:
                break
        return some

    def deliver(self, answers: Mapping[str, OfferAnswer]) -> set[str]:
        """Do as the collector says; the frames that are not to be offered again at once."""
        if len(answers) > 1:
            return self._upload_together(list(answers))
        return {x for x, answer in answers.items() if self._done(x, answer)}

    def _done(self, digest: str, answer: OfferAnswer) -> bool:
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
        if not (body := self._read(digest)):
            return
        self._attempts.begin(digest, offset)
        began_s = time.monotonic()
        try:
            answer = self._stub.Upload(
                self._requests(digest, body, offset), timeout=self._longest_s(len(body) - offset)
            )
        except grpc.RpcError as error:
            # The first part of a resumed upload may be what is wrong: refused only as a whole.
            if offset or self._stopping.is_set() or error.code() not in PERMANENT:
                raise
            self._refuse(digest, error_text(error))
            return
        if answer.digest != digest:
            raise MisgivingError(f"it acknowledged {answer.digest!r}; expected {digest}")
        self._batching.carried(len(body) - offset, time.monotonic() - began_s)
        self._spool.remove(digest)
        self._attempts.over(digest)

    def _upload_together(self, digests: Sequence[str]) -> set[str]:
        """Send frames whole in one call; those that are done with."""
        frames = [WholeFrame(digest=x, body=body) for x in digests if (body := self._read(x))]
        if not frames:
            return {*digests}
        began_s = time.monotonic()
        try:
            answers = self._stub.UploadBatch(
                UploadBatchRequest(frames=frames), timeout=self._deadline_s
            ).answers
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNIMPLEMENTED, *PERMANENT):
                raise
            self._batching.refused()
            return set()
        if [one.digest for one in answers] != [one.digest for one in frames]:
            raise MisgivingError(f"it answered {len(answers)} of {len(frames)} frames")
        self._batching.carried(sum(len(x.body) for x in frames), time.monotonic() - began_s)
        self._settle(answers)
        return {*digests}

    def _settle(self, answers: Sequence[UploadAnswer]) -> None:
        """Let go of the frames that are stored or never will be.

        Raises:
            MisgivingError: one is neither.
        """
        stored = [one.digest for one in answers if not one.code]
        self._spool.remove(*stored)
        for digest in stored:
            self._attempts.over(digest)
        for one in answers:
            if _CODES.get(one.code) in PERMANENT:
                self._refuse(one.digest, _said(one))
        failed = [one for one in answers if one.code and _CODES.get(one.code) not in PERMANENT]
        if failed:
            raise MisgivingError(_said(failed[0]))

    def _read(self, digest: str) -> bytes:
        """Empty of a frame that was evicted meanwhile."""
        with suppress(KeyError):
            return self._spool.read(digest)
        return b""

    def _refuse(self, digest: str, why: str) -> None:
        self._spool.refuse(digest, why)
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

    def _requests(self, digest: str, body: bytes, offset: int) -> Iterator[UploadRequest]:
        start = UploadStart(digest=digest, size_bytes=len(body), offset_bytes=offset)
        yield UploadRequest(start=start)
        at = offset
        while at < len(body) and not self._stopping.is_set():
            size = self._chunk_bytes
            if rate := self.limits.bytes_per_second:
                size = min(size, rate)
                self._stopping.wait(self._pace.wait_s(time.monotonic()))
                self._pace = self._pace.sent(size, rate, time.monotonic())
            yield UploadRequest(chunk=body[at : at + size])
            at += size

    def _longest_s(self, size: int) -> float:
        """How long a call may take that sends so many bytes."""
        rate = self.limits.bytes_per_second
        return self._deadline_s + (size / rate if rate else 0.0)


def _said(answer: UploadAnswer) -> str:
    code = _CODES.get(answer.code, grpc.StatusCode.UNKNOWN)
    return f"{code.name}: {answer.message}"


def error_text(error: Exception) -> str:
    """What the uploader's log says of an error."""
    if isinstance(error, grpc.RpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error)
