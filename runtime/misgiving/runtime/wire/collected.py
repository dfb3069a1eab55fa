"""Frames that are kept, as the fleet side gets them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from google.protobuf.message import DecodeError

from misgiving.runtime.errors import DataError
from misgiving.runtime.geometry import Region
from misgiving.runtime.images import encode_jpeg, encode_png
from misgiving.runtime.nouns import ByValue, Decision, Frame, Person
from misgiving.runtime.wire.decisions import fill_flag, to_decision
from misgiving.runtime.wire.frames import fill_frame, fill_region, to_frame, to_region
from misgiving.runtime.wire.results import fill_person, to_person
from misgiving.v1 import fleet_pb2 as fleet
from misgiving.v1.fleet_pb2 import CollectedFrame


class Coding(Enum):
    """How a kept frame has its image; those of a :class:`Store` say it."""

    AS_SENT = "as sent"
    """The bytes that the client sent."""
    PNG = "png"
    """Without loss, of a raw or a redacted image."""
    JPEG = "jpeg"
    """With loss, of a raw or a redacted image."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """What a vehicle took out of an image, as frames of a :class:`Store` say it."""

    cropped: bool = False
    """All but the persons' windows is grey."""
    covered: tuple[Region, ...] = ()
    """Where heads are covered, in image px."""
    hidden: tuple[tuple[int, ...], ...] = ()
    """For each person the joints that nobody can see any more, by their place; empty where nothing
    is covered."""
    hook: str = ""
    """The operator's function that changed the image, ``package.module:function``."""


_CODINGS = {
    None: fleet.CODING_UNSPECIFIED,
    Coding.AS_SENT: fleet.CODING_AS_SENT,
    Coding.PNG: fleet.CODING_PNG,
    Coding.JPEG: fleet.CODING_JPEG,
}
_OF_NUMBER = {number: coding for coding, number in _CODINGS.items()}


@dataclass(frozen=True, slots=True, eq=False)
class KeptFrame(ByValue):
    """A kept frame with everything said about it, so that it explains itself; a :class:`Store` has
    them."""

    frame: Frame
    persons: tuple[Person, ...]
    bundle_digest: str
    signal_names: tuple[str, ...] = ()
    keypoint_names: tuple[str, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()
    device_id: str = ""
    nobody: Decision | None = None
    """Why a frame without persons is kept, and with which probability."""
    engine: str = ""
    """What ran the bundle, for example ``onnxruntime CPUExecutionProvider``; empty of an earlier
    release, as the three below."""
    precision: str = ""
    campaign: str = ""
    """Which campaign of the fleet side asked for it; empty where none did."""
    software_version: str = ""
    """Release of misgiving on the vehicle."""
    coding: Coding | None = None
    """None before it is stored, and of an earlier release."""
    jpeg_quality: int = 0
    """Of a :attr:`Coding.JPEG`, 1 to 100."""
    redaction: Redaction | None = None
    """None where the image has all that the camera saw."""
    finish: "Callable[[KeptFrame], KeptFrame] | None" = None
    """What is left to be done before it travels, such as to redact it: in the spool's thread."""

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """Those that say why it is kept."""
        of_persons = tuple(person.flag for person in self.persons)
        return of_persons or ((self.nobody,) if self.nobody else ())

    @property
    def size(self) -> int:
        """Bytes that its image takes in memory: nearly all of it."""
        return self.frame.size


def to_message(kept: KeptFrame) -> CollectedFrame:
    """As it travels: finished, and a raw image as PNG; raises what ``finish`` does."""
    if kept.finish:
        kept = kept.finish(replace(kept, finish=None))
    kept = coded(kept)
    message = CollectedFrame(
        bundle_digest=kept.bundle_digest,
        signal_names=kept.signal_names,
        keypoint_names=kept.keypoint_names,
        skeleton=[index for bone in kept.skeleton for index in bone],
        device_id=kept.device_id,
        engine=kept.engine,
        precision=kept.precision,
        campaign=kept.campaign,
        software_version=kept.software_version,
        coding=_CODINGS[kept.coding],
        jpeg_quality=kept.jpeg_quality,
    )
    fill_frame(message.frame, kept.frame)
    for person in kept.persons:
        fill_person(message.persons.add(), person)
        message.embeddings.add(values=person.embedding.tolist())
    if kept.nobody:
        fill_flag(message.nobody, kept.nobody)
    if kept.redaction:
        _fill_redaction(message.redaction, kept.redaction)
    return message


def coded(kept: KeptFrame, jpeg_quality: int = 0) -> KeptFrame:
    """The same with an encoded image, and how that is coded.

    Args:
        kept: an image that is encoded already stays as it is.
        jpeg_quality: 1 to 100; 0 for a PNG, without loss.
    """
    image = kept.frame.image
    if isinstance(image, bytes):
        return kept
    image = np.ascontiguousarray(image)
    data = encode_jpeg(image, jpeg_quality) if jpeg_quality else encode_png(image)
    coding = Coding.JPEG if jpeg_quality else Coding.PNG
    frame = replace(kept.frame, image=data)
    return replace(kept, frame=frame, coding=coding, jpeg_quality=jpeg_quality)


def to_kept(message: CollectedFrame) -> KeptFrame:
    """What a message of any release holds."""
    rows = [np.array(one.values[:], np.float32) for one in message.embeddings]
    rows += [np.empty(0, np.float32)] * (len(message.persons) - len(rows))
    persons = (to_person(person) for person in message.persons)
    flat = message.skeleton
    return KeptFrame(
        to_frame(message.frame),
        tuple(replace(one, embedding=row) for one, row in zip(persons, rows, strict=False)),
        message.bundle_digest,
        tuple(message.signal_names),
        tuple(message.keypoint_names),
        tuple(zip(flat[::2], flat[1::2], strict=False)),
        message.device_id,
        to_decision(message.nobody) if message.HasField("nobody") else None,
        message.engine,
        message.precision,
        message.campaign,
        message.software_version,
        _OF_NUMBER.get(message.coding),  # None also for one of a later release
        message.jpeg_quality,
        _to_redaction(message.redaction) if message.HasField("redaction") else None,
    )


def read_kept(body: bytes) -> KeptFrame:
    """What is in bytes that claim to be a collected frame.

    Raises:
        DataError: they are not, or it lacks its encoded image.
    """
    try:
        message = CollectedFrame.FromString(body)
    except DecodeError as error:
        raise DataError(
            f"{len(body)} bytes are no CollectedFrame: {error}; send one as the spool writes it"
        ) from error
    if not message.frame.image.encoded:
        raise DataError(
            f"frame {message.frame.frame_id!r} has no encoded image; expected a JPEG or PNG in it. "
            "Send a CollectedFrame as the spool writes it"
        )
    return to_kept(message)


def _fill_redaction(message: fleet.Redaction, redaction: Redaction) -> None:
    message.cropped = redaction.cropped
    message.hook = redaction.hook
    for region in redaction.covered:
        fill_region(message.covered.add(), region)
    for joints in redaction.hidden:
        message.hidden.add(joints=joints)


def _to_redaction(message: fleet.Redaction) -> Redaction:
    return Redaction(
        message.cropped,
        tuple(to_region(region) for region in message.covered),
        tuple(tuple(one.joints) for one in message.hidden),
        message.hook,
    )
