"""What a video file's number of frames is worth, and whether the file is all there."""

import os
from enum import Enum
from pathlib import Path
from typing import IO

from misgiving.runtime.sources.mp4 import Track

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


class Counting(Enum):
    """What the number of frames that a container announces is worth."""

    EXACT = "exact"
    """The index lists each frame (MP4, MOV)."""
    PLACES = "places"
    """It counts places in time, of which a recorder may have left some empty (AVI)."""
    ESTIMATE = "estimate"
    """Duration × rate (Matroska, fragments, trimmed files): right if frames came evenly."""


def counting_of(path: Path, track: Track | None) -> Counting:
    """How a video file counts; ``track`` is that of an MP4 or MOV."""
    if track and track.samples and not track.trimmed:
        return Counting.EXACT
    with path.open("rb") as file:
        return Counting.PLACES if file.read(4) == b"RIFF" else Counting.ESTIMATE


def ends_early(path: Path) -> bool:
    """A Matroska, WebM or bare MJPEG file whose end is missing; others are told by their count."""
    with path.open("rb") as file:
        begin = file.read(4)
        if begin == _EBML:
            file.seek(_size(file) or 0, os.SEEK_CUR)
            if file.read(4) != _SEGMENT or (size := _size(file)) is None:
                return False
            return file.tell() + size > path.stat().st_size
        if begin[:3] == b"\xff\xd8\xff":
            file.seek(-min(path.stat().st_size, 4096), os.SEEK_END)
            return not file.read().rstrip(b"\0\r\n").endswith(b"\xff\xd9")
    return False


def _size(file: IO[bytes]) -> int | None:
    """The size of an EBML element; None for one that was never filled in."""
    first = file.read(1)
    more = 8 - first[0].bit_length() if first and first[0] else 0
    value = int.from_bytes(first + file.read(more), "big") - (1 << 7 * (more + 1))
    return None if value == (1 << 7 * (more + 1)) - 1 else max(value, 0)
