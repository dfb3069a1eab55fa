"""What a camera writes beside the pixels of a picture, its place among it, is taken out.

The pixels stay as they are, to the last bit.
"""

import struct
from collections.abc import Iterator

import numpy as np

from misgiving.runtime import jpeg
from misgiving.runtime.errors import ImageError
from misgiving.runtime.images import decode, encode_png

_SIGNATURE = 8
_OF_PIXELS = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP"}
"""Chunks of a PNG that say what its pixels are."""


def bare(image: bytes) -> bytes:
    """An encoded image without EXIF, XMP, comments and the like.

    Args:
        image: a JPEG or PNG that decodes.

    Returns:
        The same image where it has none of these; a PNG where it cannot do without.
    """
    made = jpeg.bare(image) if image.startswith(jpeg.START) else _bare_png(image)
    if made == image:
        return image
    pixels = decode(image)
    return made if _decodes_to(made, pixels) else encode_png(pixels)


def _decodes_to(data: bytes, pixels: np.ndarray) -> bool:
    try:
        return np.array_equal(decode(data), pixels)
    except ImageError:
        return False


def _bare_png(data: bytes) -> bytes:
    kept = (chunk for chunk in _chunks(data) if chunk[4:8] in _OF_PIXELS)
    return data[:_SIGNATURE] + b"".join(kept)


def _chunks(data: bytes) -> Iterator[bytes]:
    """Length, name, content and checksum of each, up to the last."""
    at, name = _SIGNATURE, b""
    while name != b"IEND" and len(data) >= at + 12:
        (size,) = struct.unpack_from(">I", data, at)
        name = data[at + 4 : at + 8]
        yield data[at : at + 12 + size]
        at += 12 + size
