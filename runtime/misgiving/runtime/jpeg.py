"""Is a JPEG whole? Decoders fill what is missing with grey or blur, and tell nobody.

ITU-T T.81 has the markers (table B.1) and what a scan may be followed by (B.2).
"""

import math
import re
import struct
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.errors import ResourceExhausted

START = b"\xff\xd8"
MAX_SCANS = 100
"""Decoders go over all pixels for each scan, which may have a few bytes; libjpeg writes 10."""
MAX_SEGMENTS = 4096
"""Of a picture; 64 MiB of segments of the greatest length are a quarter."""

MAX_WORK = 1_000_000_000
"""Pixels × scans of a picture; 20 scans of 50 megapixels."""

_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HUFFMAN = {0xC0, 0xC1, 0xC2}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_SCAN, _END = 0xDA, 0xD9
_SEGMENTS = _FRAMES | {0xC4, 0xCC, _SCAN, 0xDB, 0xDC, 0xDD, 0xFE} | set(range(0xE0, 0xF0))
"""Markers that a length follows."""

_APPLICATIONS = set(range(0xE0, 0xF0))
_COMMENT, _EXIF, _ORIENTATION = 0xFE, b"Exif\0\0", 0x112
_OF_PIXELS = (b"JFIF\0", b"ICC_PROFILE\0", b"Adobe")
"""How segments of applications begin that say what the pixels mean."""

_MARKER = re.compile(rb"\xff([\x01-\xfe])", re.DOTALL)
_MARKER_AFTER_PIXELS = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])", re.DOTALL)
"""Within a scan, FF 00 is a byte of it, and restart markers are part of it."""
_RESTARTS = [bytes([0xFF, number]) for number in range(0xD0, 0xD8)]

_MORE = bytes(np.random.default_rng(0).integers(0, 255, 512, np.uint8))
"""Entropy-coded nonsense, without FF."""


def size(data: bytes, name: str) -> tuple[int, int] | None:
    """Width and height in px as the header says; None where the segments do not lead to the end.

    Bytes between two segments are skipped, as decoders do.

    Raises:
        ResourceExhausted: there are so many scans or segments that decoding would take long,
            however few pixels there are.
    """
    found, scans = None, 0
    for number, (marker, body) in enumerate(_segments(data)):
        scans += marker == _SCAN
        if scans > MAX_SCANS or number == MAX_SEGMENTS:
            raise ResourceExhausted(
                f"{name} has more than {MAX_SCANS} scans or {MAX_SEGMENTS:,} segments; expected a "
                "camera's JPEG, which has a few. Encode it again"
            )
        if marker in _FRAMES and len(body) >= 6:
            height, width = struct.unpack(">HH", body[1:5])
            found = (width, height)
        if marker == _END:
            return None if found is None or 0 in found else found
    return None


def bare(data: bytes) -> bytes:
    """The same picture without what a camera writes beside its pixels, and behind them.

    What says how it is turned stays, and what its colours are.

    Args:
        data: a JPEG that leads to its end marker.
    """
    parts, begin, turn = list[bytes](), len(START), 1
    for marker, at in _ends(data):
        if marker == _END:
            parts.append(data[begin : at + 2])
        elif marker in _APPLICATIONS or marker == _COMMENT:
            end = at + 2 + _length(data, at)
            body = data[at + 4 : end]
            if marker == _COMMENT or not body.startswith(_OF_PIXELS):
                parts.append(data[begin:at])
                begin = end
            if body.startswith(_EXIF):
                turn = _turn(body[len(_EXIF) :])
    return START + (_turned(turn) if turn > 1 else b"") + b"".join(parts)


def _turn(tiff: bytes) -> int:
    """How EXIF says that a picture is turned, 2 to 8; 1 where it does not."""
    order = "<" if tiff.startswith(b"II") else ">"
    try:
        (at,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
            if tag == _ORIENTATION and 1 <= value <= 8:
                return int(value)
    except struct.error:  # cut, or none
        pass
    return 1


def _turned(turn: int) -> bytes:
    """A segment that says nothing else."""
    entry = struct.pack(">HHIHH", _ORIENTATION, 3, 1, turn, 0)
    body = _EXIF + struct.pack(">2sHIH", b"MM", 42, 8, 1) + entry + bytes(4)
    return b"\xff\xe1" + struct.pack(">H", 2 + len(body)) + body


def lacks_bits(data: bytes, name: str) -> bool:
    """Whether there are fewer bits than blocks: grey that would take long to decode.

    Args:
        data: a JPEG that leads to its end marker.
        name: what messages call it.

    Raises:
        ResourceExhausted: more than MAX_WORK.
    """
    segments = list(_segments(data))
    frame, body = next((m, body) for m, body in segments if m in _FRAMES and len(body) >= 6)
    scans = sum(marker == _SCAN for marker, _ in segments)
    height, width = struct.unpack(">HH", body[1:5])
    if scans * height * width > MAX_WORK:
        raise ResourceExhausted(
            f"{name} has {scans} scans of {width} × {height} px; at most {MAX_WORK:,} pixels × "
            "scans are decoded. Encode it with fewer scans, or smaller"
        )
    return frame in _HUFFMAN and 8 * len(data) < _blocks(body)


def lacks_pixels(data: bytes, image: NDArray[Any]) -> bool:
    """Whether the decoder needed more than the scans have.

    Where pixels come in refining scans, all scans must be there; where restart markers stand after
    every so many blocks, all of these. Otherwise: a decoder ignores what follows the last pixel, so
    pixels were missing where more data before the end marker changes the image. That costs a second
    decoding: only an image is asked of which a corner has the grey of missing pixels.

    Args:
        data: a JPEG that leads to its end marker.
        image: decoded from it.
    """
    header = dict(takewhile(lambda segment: segment[0] != _SCAN, _segments(data)))
    frame, body = next(((m, header[m]) for m in header if m in _FRAMES), (0, b""))
    if frame in _PROGRESSIVE:
        return _unrefined(data, body)
    interval = int.from_bytes(header.get(0xDD, b""), "big")
    if body and interval and sum(map(data.count, _RESTARTS)) < (_units(body) - 1) // interval:
        return True
    corners = image[[0, 0, -1, -1], [0, -1, 0, -1]]  # turned by EXIF, any may be the last pixel
    if not (corners == 128).all(axis=1).any():
        return False
    *_, (_, last) = _ends(data)
    longer = np.frombuffer(data[:last] + _MORE + data[last:], np.uint8)
    again = cv2.imdecode(longer, cv2.IMREAD_COLOR_RGB)
    if again is None or again.shape != image.shape:
        return True
    return cv2.norm(again, image, cv2.NORM_INF) != 0


def _unrefined(data: bytes, frame: bytes) -> bool:
    """Whether a coefficient of a component is never sent to its last bit."""
    left = {(component, k) for component in frame[6::3] for k in range(64)}
    for marker, body in _segments(data):
        if marker == _SCAN and body:
            components, rest = body[1 : 1 + 2 * body[0] : 2], body[1 + 2 * body[0] :]
            if len(rest) == 3 and not rest[2] & 15:
                left -= {(c, k) for c in components for k in range(rest[0], rest[1] + 1)}
    return bool(left)


def _blocks(frame: bytes) -> int:
    """Blocks of all components; each takes a bit at least."""
    height, width, count = struct.unpack(">HHB", frame[1:6])
    factors = [(max(1, one >> 4), max(1, one & 15)) for one in frame[7 : 6 + 3 * count : 3]]
    most = [max(column) for column in zip(*factors, strict=True)]
    return sum(
        math.ceil(width * across / most[0] / 8) * math.ceil(height * down / most[1] / 8)
        for across, down in factors
    )


def _units(frame: bytes) -> int:
    """Units of a scan with all components that restart intervals are counted in, at least."""
    height, width, count = struct.unpack(">HHB", frame[1:6])
    if count == 1:
        return int(math.ceil(width / 8) * math.ceil(height / 8))
    factors = frame[7 : 6 + 3 * count : 3]
    across = max([1, *(factor >> 4 for factor in factors)])
    down = max([1, *(factor & 15 for factor in factors)])
    return int(math.ceil(width / 8 / across) * math.ceil(height / 8 / down))


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Markers with what belongs to them, up to the end marker or where there is no way on."""
    for marker, at in _ends(data):
        body = data[at + 4 : at + 2 + _length(data, at)] if marker in _SEGMENTS else b""
        yield marker, body


def _ends(data: bytes) -> Iterator[tuple[int, int]]:
    """Each marker and where its FF lies."""
    at, pattern = len(START), _MARKER
    while found := pattern.search(data, at):
        marker, where = found[1][0], found.end() - 2
        if marker not in _SEGMENTS and marker != _END:
            return  # another image begins, or this was none
        yield marker, where
        if marker == _END:
            return
        length = _length(data, where)
        if length < 2:
            return
        at = where + 2 + length
        pattern = _MARKER_AFTER_PIXELS if marker == _SCAN else _MARKER


def _length(data: bytes, at: int) -> int:
    """Of the segment whose marker is at a place; 0 where the data ends before it."""
    two = data[at + 2 : at + 4]
    return int(struct.unpack(">H", two)[0]) if len(two) == 2 else 0
