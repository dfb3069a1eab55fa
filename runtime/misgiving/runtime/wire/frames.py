"""Frames as messages, and back."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime import images
from misgiving.runtime.errors import ImageError, InvalidInput, ResourceExhausted
from misgiving.runtime.geometry import Region, check_count
from misgiving.runtime.nouns import Frame, Position
from misgiving.runtime.wire.sharing import Slot, fill_shared
from misgiving.v1 import pose_pb2 as pose

ReadSlot = Callable[[Slot, int, int, str], NDArray[np.uint8]]
"""A slot of shared memory, with the height and width of a picture in it and the frame's name in
messages → the picture."""

LARGEST_IMAGE_BYTES = 32 * 1024 * 1024 - 64 * 1024
"""What a server's largest message leaves to the image."""

MAX_NAME = 512
"""Characters of a name that a client gives: it comes back in answers, and goes into logs and the
spool."""


def sendable(frame: Frame) -> Frame:
    """The same frame, as PNG where it is too large to be sent raw.

    Raises:
        ResourceExhausted: more than LARGEST_IMAGE_BYTES.
    """
    if isinstance(frame.image, bytes):
        _check_fits(frame.image, "the image is too large to be sent")
        return frame
    if frame.image.size <= LARGEST_IMAGE_BYTES:
        return frame
    height, width = frame.image.shape[:2]
    encoded = images.encode_png(np.ascontiguousarray(frame.image))
    _check_fits(encoded, f"frames of {width} × {height} px are too large to be sent, raw or as PNG")
    return replace(frame, image=encoded)


def fill_frame(message: pose.Frame, frame: Frame, slot: Slot | None = None) -> None:
    """Write a frame into an empty message: in place, since each nesting would copy the image.

    Args:
        message: to be filled.
        frame: a raw one where there is a slot.
        slot: of shared memory, where its pixels lie already; None where they travel.
    """
    message.frame_id = frame.frame_id
    message.stream_id = frame.stream_id
    message.capture_time_unix_nano = frame.capture_time_unix_nano
    if frame.position:
        message.position.latitude_deg = frame.position.latitude
        message.position.longitude_deg = frame.position.longitude
    for region in frame.regions:
        fill_region(message.regions.add(), region)
    if isinstance(frame.image, bytes):
        message.image.encoded = frame.image
        return
    height, width = frame.image.shape[:2]
    if slot:
        fill_shared(message.image.shared, slot, height, width)
        return
    raw = message.image.raw
    raw.height_px, raw.width_px = height, width
    raw.pixels = frame.image.tobytes()


def received(message: pose.Frame, read: ReadSlot | None = None) -> Frame:
    """What a client has sent.

    Args:
        message: of the client.
        read: of a server that shares memory with clients; None where nobody does.

    Raises:
        InvalidInput: a name is longer than MAX_NAME.
        ImageError, InvalidInput, ResourceExhausted: as :func:`to_frame`.
    """
    check_name("frame_id", message.frame_id)
    check_name("stream_id", message.stream_id)
    return to_frame(message, read)


def check_name(what: str, name: str) -> None:
    """Raise InvalidInput for a name that is longer than MAX_NAME."""
    if len(name) > MAX_NAME:
        raise InvalidInput(
            f"{what} has {len(name):,} characters; expected at most {MAX_NAME}. Shorten it"
        )


def to_frame(message: pose.Frame, read: ReadSlot | None = None) -> Frame:
    """What a message holds.

    Args:
        message: of a client.
        read: of a server that shares memory with clients; None where nobody does.

    Raises:
        ImageError: there is no image, or a raw one has another size than it says, or is in no
            memory of ours.
        InvalidInput: its position is none.
        ResourceExhausted: a raw image of too many pixels, or too many regions: a message has
            room for millions, and making these would hold up all other streams.
    """
    check_count(len(message.regions), message.frame_id)
    return Frame(
        _image(message, read),
        tuple([to_region(region) for region in message.regions]),
        message.frame_id,
        message.stream_id,
        message.capture_time_unix_nano,
        to_position(message.position) if message.HasField("position") else None,
    )


def to_position(message: pose.Position) -> Position:
    """What a message holds; InvalidInput where it is no place on Earth."""
    return Position(message.latitude_deg, message.longitude_deg)


def _image(message: pose.Frame, read: ReadSlot | None) -> "bytes | NDArray[np.uint8]":
    """The image; each look at the message's bytes is a copy of them."""
    image, name = message.image, f"frame {message.frame_id!r}"
    match image.WhichOneof("data"):
        case "encoded":
            return image.encoded
        case "raw":
            raw = image.raw
            return images.from_raw(raw.pixels, raw.height_px, raw.width_px, name)
        case "shared" if read:
            one = image.shared
            return read(Slot(one.token, one.slot), one.height_px, one.width_px, name)
    raise ImageError(f"{name} has no image; expected 'encoded' or 'raw'. Set one of them")


def fill_region(message: pose.Region, region: Region) -> None:
    message.x_px, message.y_px = region.x, region.y
    message.width_px, message.height_px = region.width, region.height


def to_region(message: pose.Region) -> Region:
    return Region(message.x_px, message.y_px, message.width_px, message.height_px)


def _check_fits(encoded: bytes, what: str) -> None:
    if len(encoded) > LARGEST_IMAGE_BYTES:
        raise ResourceExhausted(
            f"{what} ({len(encoded)} bytes); at most {LARGEST_IMAGE_BYTES} are taken. "
            "Scale it, or encode it smaller"
        )
