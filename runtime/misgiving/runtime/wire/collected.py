"""Frames that are kept, as the fleet side gets them."""

from dataclasses import dataclass, replace

import numpy as np
from google.protobuf.message import DecodeError

from misgiving.runtime.errors import DataError
from misgiving.runtime.images import encode_png
from misgiving.runtime.nouns import ByValue, Decision, Frame, Person
from misgiving.runtime.wire.decisions import fill_flag, to_decision
from misgiving.runtime.wire.frames import fill_frame, to_frame
from misgiving.runtime.wire.results import fill_person, to_person
from misgiving.v1.fleet_pb2 import CollectedFrame


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
    """As it travels: a raw image becomes a PNG."""
    message = CollectedFrame(
        bundle_digest=kept.bundle_digest,
        signal_names=kept.signal_names,
        keypoint_names=kept.keypoint_names,
        skeleton=[index for bone in kept.skeleton for index in bone],
        device_id=kept.device_id,
    )
    fill_frame(message.frame, _encoded(kept.frame))
    for person in kept.persons:
        fill_person(message.persons.add(), person)
        message.embeddings.add(values=person.embedding.tolist())
    if kept.nobody:
        fill_flag(message.nobody, kept.nobody)
    return message


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


def _encoded(frame: Frame) -> Frame:
    if isinstance(frame.image, bytes):
        return frame
    return replace(frame, image=encode_png(np.ascontiguousarray(frame.image)))
