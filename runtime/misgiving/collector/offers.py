"""What is wanted of frames whose bytes are still to come."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from misgiving.collector.declining import WANTED, Decliner, Verdict
from misgiving.collector.frames.devices import Caller, Foreign, Gate, OverQuota
from misgiving.collector.store import Store
from misgiving.runtime.errors import DataError, FailedPrecondition, InvalidInput
from misgiving.runtime.wire.offers import Header
from misgiving.v1.fleet_pb2 import (
    OFFER_VERDICT_DECLINED,
    OFFER_VERDICT_LATER,
    OFFER_VERDICT_REFUSED,
    OFFER_VERDICT_STORED,
    OFFER_VERDICT_WANTED,
    OfferAnswer,
    OfferedFrame,
    OfferResponse,
)

MAX_FRAMES = 64
"""Most frames that are offered, or sent whole, in one call."""


class Offers:
    """Answers what vehicles offer.

    Args:
        store: of the frames that are there.
        gate: holds devices to their rules.
        decliner: says what is not wanted.
    """

    def __init__(self, store: Store, gate: Gate, decliner: Decliner) -> None:
        self._store, self._gate, self._decliner = store, gate, decliner

    def known(self, digests: Iterable[str], caller: Caller) -> set[str]:
        """Those of frames that are stored, as far as the caller may be told."""
        return {x for x in self._store.known(digests) if self._gate.may_read(caller, x)}

    def answer(self, frames: Sequence[OfferedFrame], caller: Caller) -> OfferResponse:
        """What is wanted of frames; those that are declined are written down."""
        check_count(frames)
        offered = {one.digest: one for one in frames}
        known = self.known(offered, caller)
        answers, headers = dict[str, OfferAnswer](), dict[str, Header | None]()
        for digest, one in offered.items():
            if digest in known:
                answers[digest] = OfferAnswer(verdict=OFFER_VERDICT_STORED)
                continue
            offset = self._store.offset(digest)
            answers[digest] = OfferAnswer(verdict=OFFER_VERDICT_WANTED, offset_bytes=offset)
            try:
                headers[digest] = self._header(one, caller)
            except Foreign as error:
                answers[digest] = OfferAnswer(verdict=OFFER_VERDICT_REFUSED, reason=str(error))
        verdicts = self._decliner.judge({x: one for x, one in headers.items() if one})
        take = self._gate.offering(caller)
        for digest, header in headers.items():
            verdict = verdicts.get(digest, WANTED)
            if verdict is not WANTED:
                answers[digest] = _unwanted(verdict)
            elif header or caller.names:
                try:
                    take(header.device_id if header else "", offered[digest].size_bytes)
                except OverQuota as error:
                    answers[digest] = OfferAnswer(verdict=OFFER_VERDICT_LATER, reason=str(error))
        return OfferResponse(answers=[answers[one.digest] for one in frames])

    def _header(self, frame: OfferedFrame, caller: Caller) -> Header | None:
        """None where nobody here can read it: then nothing speaks against the frame.

        Raises:
            Foreign: it is another device's.
        """
        try:
            header = self._store.opener.header(frame.header)
        except (DataError, FailedPrecondition):
            return None
        return replace(header, device_id=self._gate.name_of(caller, header.device_id))


def check_count(frames: Sequence[object]) -> None:
    """Raise InvalidInput where a call has more frames than are looked at."""
    if len(frames) > MAX_FRAMES:
        raise InvalidInput(
            f"{len(frames)} frames came in one call; at most {MAX_FRAMES} are looked at. Send fewer"
        )


def _unwanted(verdict: Verdict) -> OfferAnswer:
    if verdict.declined:
        return OfferAnswer(verdict=OFFER_VERDICT_DECLINED, reason=verdict.declined.said)
    return OfferAnswer(verdict=OFFER_VERDICT_LATER)
