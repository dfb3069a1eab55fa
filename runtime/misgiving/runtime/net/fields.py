"""How many fields a message has, before it is parsed.

Two bytes of a message can become forty times as many in memory, each an object of its own: those of
a frame are few.
"""

from functools import cache

from google.protobuf.descriptor import Descriptor

MAX_FIELDS = 4096
"""Of a request; one with the most regions has less than a hundred."""
SMALL_BYTES = 16 * 1024
"""Whatever is in fewer bytes does no harm."""

_INLINE_BYTES = 64
"""Shorter messages in a message are counted as one field."""


def are_many(data: bytes, kind: Descriptor) -> bool:
    """Whether a request has more than MAX_FIELDS; False where it is no message of its kind."""
    if len(data) <= SMALL_BYTES:
        return False
    try:
        return _left(data, 0, len(data), kind, MAX_FIELDS) < 0
    except (IndexError, ValueError):  # the parser will say so
        return False


def _left(data: bytes, at: int, end: int, kind: Descriptor, left: int) -> int:
    """How many fields more there may be behind those between two places."""
    messages = _messages(kind)
    while at < end and left >= 0:
        left -= 1
        key, at = _varint(data, at)
        match key & 7:
            case 0:
                _, at = _varint(data, at)
            case 1:
                at += 8
            case 2:
                size, at = _varint(data, at)
                if size > _INLINE_BYTES and (inner := messages.get(key >> 3)):
                    left = _left(data, at, min(at + size, end), inner, left)
                at += size
            case 5:
                at += 4
    return left


@cache
def _messages(kind: Descriptor) -> dict[int, Descriptor]:
    return {one.number: one.message_type for one in kind.fields if one.message_type}


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number, and the place behind it."""
    if (value := data[at]) < 128:  # nearly always
        return value, at + 1
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number of more than ten bytes")
