"""On which side of training and validation a labelled frame is, for all label sets to come.

A stream's time is cut into pieces, and a piece's name alone decides its side: it does not move
when more frames come, and frames that are nearly the same, which follow each other, share it.
At the border of two sides those of validation that are within a moment of training are on
neither. A frame whose time is not known goes with all such frames of its stream.
"""

import hashlib

from misgiving.collector.annotations.coco import FrameOrigin
from misgiving.runtime.labelset import Split

VAL_SHARE = 0.1
"""Of the pieces."""
PIECE_S = 600
MOMENT_S = 30
"""Nearer in time than this, frames of one stream may show nearly the same."""
_NANO = 10**9


def split_of(origin: FrameOrigin) -> Split:
    """The side of a frame and all its persons."""
    stream = f"{origin.device_id}\0{origin.stream_id}"
    time_s = origin.capture_time_unix_nano // _NANO
    if origin.capture_time_unix_nano <= 0:
        return _side(stream if stream != "\0" else origin.frame_digest)
    side, here = _side_at(stream, time_s), time_s % PIECE_S
    neighbours = {-1: here < MOMENT_S, 1: here >= PIECE_S - MOMENT_S}
    near = [
        _side_at(stream, time_s + step * PIECE_S) for step, close in neighbours.items() if close
    ]
    return "neither" if side == "val" and "train" in near else side


def _side_at(stream: str, time_s: int) -> Split:
    return _side(f"{stream}\0{time_s // PIECE_S}")


def _side(name: str) -> Split:
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return "val" if number < VAL_SHARE * 2**64 else "train"
