"""Shared memory on the wire: what a client asks for, what it is given, where a frame lies in it."""

from dataclasses import dataclass
from pathlib import Path

from misgiving.v1 import detector_pb2 as wire
from misgiving.v1 import pose_pb2 as pose

FOLDER = Path("/dev/shm")
"""Where Linux has POSIX shared memory."""
PREFIX = "misgiving-"
"""Of the files there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lent:
    """Shared memory that a server has given to a client."""

    name: str
    """Of its file in FOLDER, until the first frame is read from it."""
    token: bytes
    """Known to this client alone."""
    slots: int
    slot_bytes: int


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a raw frame lies."""

    token: bytes
    number: int


def memory_request(slots: int, slot_bytes: int) -> wire.ShareMemoryRequest:
    return wire.ShareMemoryRequest(slots=slots, slot_bytes=slot_bytes)


def to_memory(lent: Lent) -> wire.ShareMemoryResponse:
    """What a client is given, as a message."""
    return wire.ShareMemoryResponse(
        memory=wire.SharedMemory(
            name=lent.name, token=lent.token, slots=lent.slots, slot_bytes=lent.slot_bytes
        )
    )


def to_lent(message: wire.ShareMemoryResponse) -> Lent:
    """What a message holds."""
    memory = message.memory
    return Lent(
        name=memory.name,
        token=memory.token,
        slots=memory.slots,
        slot_bytes=memory.slot_bytes,
    )


def fill_shared(message: pose.SharedImage, slot: Slot, height: int, width: int) -> None:
    message.token, message.slot = slot.token, slot.number
    message.height_px, message.width_px = height, width
