"""What OpenCV does not tell of an MP4 or MOV file: mirrored pictures, and a count that holds."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_LARGEST_INDEX = 256 * 1024 * 1024
"""Bytes of the index (``moov``) that are read; that of a day of video is a tenth of it."""
_FIXED = 65536.0
_MATRIX_AT = {b"mvhd": (36, 48), b"tkhd": (40, 52)}
"""Where the matrix begins in versions 0 and 1."""


@dataclass(frozen=True, slots=True)
class Track:
    """The first video track of a file."""

    matrix: NDArray[np.float64]
    """(2, 2): a row (x, y) of the stored picture times it is where the player shows it."""
    samples: int
    """Frames that the index lists; 0 where they are listed elsewhere, in fragments."""
    trimmed: bool
    """An edit list plays less than what is stored."""

    @property
    def mirrored(self) -> bool:
        return bool(np.linalg.det(self.matrix) < 0)


def read_track(path: Path) -> Track | None:
    """The video track of an MP4 or MOV file; None where the file is none, or is damaged."""
    try:
        moov = _index(path)
        for name, trak in _boxes(moov):
            if name == b"trak" and _find(trak, b"mdia", b"hdlr")[8:12] == b"vide":
                return _track(trak, _find(moov, b"mvhd"))
    except (OSError, ValueError, struct.error, LookupError):
        pass
    return None


def shown(image: NDArray[np.uint8], matrix: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A stored picture (H, W, 3) as a player shows it: turned by quarters, and mirrored."""
    (a, b), (c, d) = matrix
    across, down = a, d
    if abs(b) + abs(c) > abs(a) + abs(d):
        image = image.swapaxes(0, 1)
        across, down = c, b
    return image[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]


def _index(path: Path) -> bytes:
    """The ``moov`` box, wherever in the file it stands."""
    with path.open("rb") as file:
        while len(head := file.read(16)) >= 8:
            size, name = struct.unpack_from(">I4s", head)
            start, length = file.tell() - len(head), 8
            if size == 1:
                (size,), length = struct.unpack_from(">Q", head, 8), 16
            if name == b"moov" and (size >= length or not size):
                file.seek(start + length)
                return file.read(min(size - length, _LARGEST_INDEX) if size else _LARGEST_INDEX)
            if size < length:
                break
            file.seek(start + size)
    raise LookupError("moov")


def _track(trak: bytes, mvhd: bytes) -> Track:
    media = _find(trak, b"mdia", b"mdhd")
    samples = struct.unpack_from(">I", _find(trak, b"mdia", b"minf", b"stbl", b"stsz"), 8)[0]
    matrix = _matrix(b"tkhd", _find(trak, b"tkhd")) @ _matrix(b"mvhd", mvhd)
    scale, duration = struct.unpack_from(
        ">IQ" if media[0] else ">II", media, 20 if media[0] else 12
    )
    movie_scale = struct.unpack_from(">I", mvhd, 20 if mvhd[0] else 12)[0]
    played = sum(_played(trak)) / max(movie_scale, 1)
    stored = duration / max(scale, 1)
    trimmed = played > 0 and played + stored / max(samples, 1) / 2 < stored
    return Track(matrix, samples, trimmed)


def _played(trak: bytes) -> Iterator[int]:
    """Durations of the edits that show something, in the movie's units; none without a list."""
    try:
        edits = _find(trak, b"edts", b"elst")
    except LookupError:
        return
    entry = struct.Struct(">QqI" if edits[0] else ">IiI")
    for index in range(struct.unpack_from(">I", edits, 4)[0]):
        duration, start, _ = entry.unpack_from(edits, 8 + index * entry.size)
        if start >= 0:
            yield duration


def _matrix(name: bytes, box: bytes) -> NDArray[np.float64]:
    a, b, _, c, d = struct.unpack_from(">5i", box, _MATRIX_AT[name][bool(box[0])])
    return np.array([[a, b], [c, d]]) / _FIXED


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each box."""
    at = 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            (size,), head = struct.unpack_from(">Q", data, at + 8), 16
        if size < head:
            return
        yield name, data[at + head : at + size]
        at += size


def _find(data: bytes, *path: bytes) -> bytes:
    """The content of the first box below a path of names; raises LookupError."""
    for wanted in path:
        data = next((content for name, content in _boxes(data) if name == wanted), b"")
        if not data:
            raise LookupError(wanted)
    return data
