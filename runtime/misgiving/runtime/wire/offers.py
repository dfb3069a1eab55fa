"""What is said of a kept frame before its bytes travel, so that the fleet side can decline it."""

import hashlib
from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError

from misgiving.runtime.errors import DataError
from misgiving.runtime.nouns import ByValue, Floats, Reason
from misgiving.runtime.wire.decisions import KEPT, REASONS, to_decision
from misgiving.v1.fleet_pb2 import CollectedFrame, FrameHeader


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Header(ByValue):
    """A kept frame without its image; of its persons, the one with the greatest predicted loss."""

    frame_id: str
    stream_id: str
    device_id: str
    capture_time_unix_nano: int
    """Zero where unknown."""
    bundle_digest: str
    predicted_loss: float | None
    """None where nobody was found."""
    failure_probability: float | None
    kept: tuple[Reason, ...]
    """Why it is kept, each reason once, in the order of the protocol's numbers."""
    sampling_probability: float
    campaign: str
    image_digest: str
    """sha256 of the encoded image, in hex."""
    embedding: Floats
    """(D,) float32; (0,) where there is none."""


def header_of(frame: CollectedFrame) -> bytes:
    """The serialised FrameHeader of a frame that is about to be spooled."""
    header = FrameHeader(
        frame_id=frame.frame.frame_id,
        stream_id=frame.frame.stream_id,
        device_id=frame.device_id,
        capture_time_unix_nano=frame.frame.capture_time_unix_nano,
        bundle_digest=frame.bundle_digest,
        campaign=frame.campaign,
        image_digest=hashlib.sha256(frame.frame.image.encoded).hexdigest(),
    )
    flags = [one.flag for one in frame.persons] or [frame.nobody]
    reasons = {to_decision(flag).kept for flag in flags}
    header.kept.extend(sorted(KEPT[reason] for reason in reasons if reason))
    header.sampling_probability = flags[0].sampling_probability
    if frame.persons:
        _fill_worst(header, frame)
    return header.SerializeToString(deterministic=True)


def read_header(data: bytes) -> Header:
    """What a serialised FrameHeader of any release says.

    Raises:
        DataError: the bytes are none.
    """
    try:
        header = FrameHeader.FromString(data)
    except DecodeError as error:
        raise DataError(
            f"{len(data)} bytes are no FrameHeader: {error}; send one as the spool writes it"
        ) from error
    known = (REASONS.get(number) for number in header.kept)
    return Header(
        frame_id=header.frame_id,
        stream_id=header.stream_id,
        device_id=header.device_id,
        capture_time_unix_nano=header.capture_time_unix_nano,
        bundle_digest=header.bundle_digest,
        predicted_loss=header.predicted_loss if header.HasField("predicted_loss") else None,
        failure_probability=(
            header.failure_probability if header.HasField("failure_probability") else None
        ),
        kept=tuple(reason for reason in known if reason),
        sampling_probability=header.sampling_probability,
        campaign=header.campaign,
        image_digest=header.image_digest,
        embedding=np.array(header.embedding.values[:], np.float32),
    )


def _fill_worst(header: FrameHeader, frame: CollectedFrame) -> None:
    losses = [one.predicted_loss for one in frame.persons]
    worst = int(np.argmax(np.nan_to_num(losses, nan=-np.inf)))
    person = frame.persons[worst]
    header.predicted_loss = person.predicted_loss
    if person.HasField("failure_probability"):
        header.failure_probability = person.failure_probability
    header.sampling_probability = person.flag.sampling_probability
    if worst < len(frame.embeddings):
        header.embedding.CopyFrom(frame.embeddings[worst])
