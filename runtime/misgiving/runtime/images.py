"""Bytes and arrays that claim to be images: checked before they are decoded, then decoded."""

import os
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from misgiving.runtime import jpeg
from misgiving.runtime.errors import ImageError, ResourceExhausted

MAX_PIXELS = 51_000_000
"""Largest image that is decoded, a little more than the 8192 × 6144 px of sensors with "50
megapixels"; a header that says more is refused unread."""

SUFFIXES = (".jpg", ".jpeg", ".png")

_MAX_CHUNKS = 1 << 16
_PNG = b"\x89PNG\r\n\x1a\n"


def decode(data: bytes, name: str = "image") -> NDArray[np.uint8]:
    """Decode a JPEG or an 8-bit PNG without alpha to RGB (H, W, 3); grey becomes RGB.

    Args:
        data: the encoded bytes.
        name: what messages call it.

    Raises:
        ImageError: empty, truncated, corrupt, another format, alpha, or 16 bits a channel.
        ResourceExhausted: the header says more than MAX_PIXELS, or a JPEG has so many scans or
            segments, for its size, that it would take long.
    """
    width, height = _header_size(data, name)
    if width * height > MAX_PIXELS:
        raise ResourceExhausted(
            f"{name} says it is {width} × {height} px; at most {MAX_PIXELS:,} pixels are decoded. "
            "Send it smaller"
        )
    if data.startswith(jpeg.START) and jpeg.lacks_bits(data, name):
        raise _corrupt(data, name)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise _corrupt(data, name) from error
    if image is None or (data.startswith(jpeg.START) and jpeg.lacks_pixels(data, image)):
        raise _corrupt(data, name)
    return np.asarray(image, np.uint8)


def name_of(path: Path) -> str:
    """A path as the wire and stdout take it: bytes that are no UTF-8 become U+FFFD."""
    return os.fsencode(path).decode(errors="replace")


def is_image(path: Path) -> bool:
    """Whether a file's name or its first bytes are those of an image; a pipe's are left to its
    reader, and MJPEG is a video of JPEGs."""
    if path.suffix.lower() in SUFFIXES or not path.is_file():
        return True
    with path.open("rb") as file:
        start = file.read(len(_PNG))
    return start == _PNG or (start.startswith(jpeg.START) and "mj" not in path.suffix.lower())


def read(path: Path) -> NDArray[np.uint8]:
    """Read and decode an image file; errors as :func:`decode`, and for what is not a file."""
    return decode(read_bytes(path), str(path))


def read_bytes(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        ImageError: there is no such file, or it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}; expected a JPEG or PNG file") from error


def check_rgb(image: Any, name: str = "frame") -> NDArray[np.uint8]:
    """Raise ImageError unless ``image`` is a non-empty uint8 array (H, W, 3)."""
    if not isinstance(image, np.ndarray):
        raise ImageError(f"{name} is a {type(image).__name__}; expected a numpy array (H, W, 3)")
    expected = "expected (H, W, 3) uint8 RGB"
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        hint = ". Drop the alpha channel before sending" if image.shape[2:] == (4,) else ""
        raise ImageError(f"{name} is {image.shape}; {expected}{hint}")
    if image.dtype != np.uint8:
        raise ImageError(f"{name} is {image.dtype}; {expected}. Scale to 0–255 and convert")
    return image


def from_raw(pixels: bytes, height: int, width: int, name: str = "frame") -> NDArray[np.uint8]:
    """Raw RGB rows as an array (height, width, 3), without a copy.

    Raises:
        ImageError: the number of bytes is not height × width × 3.
        ResourceExhausted: more than MAX_PIXELS.
    """
    check_size(height, width, name)
    if height * width == 0 or len(pixels) != height * width * 3:
        alpha = len(pixels) == height * width * 4 > 0
        hint = ". Drop the alpha channel before sending" if alpha else ""
        raise ImageError(
            f"{name} has {len(pixels)} bytes for {width} × {height} px; "
            f"expected uint8 RGB, {height * width * 3} bytes and at least one pixel{hint}"
        )
    return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)


def check_size(height: int, width: int, name: str = "frame") -> None:
    """Raise ResourceExhausted where a raw image has more than MAX_PIXELS."""
    if height * width > MAX_PIXELS:
        raise ResourceExhausted(f"{name} is {width} × {height} px; at most {MAX_PIXELS:,} pixels")


def encode_jpeg(image: NDArray[np.uint8], quality: int = 92) -> bytes:
    """An RGB array (H, W, 3) as JPEG bytes."""
    bgr = cv2.cvtColor(check_rgb(image), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """An RGB array (H, W, 3) as PNG bytes, losslessly."""
    bgr = cv2.cvtColor(check_rgb(image), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def _header_size(data: bytes, name: str) -> tuple[int, int]:
    if not data:
        raise ImageError(f"{name} is empty (0 bytes); expected a JPEG or PNG")
    if data.startswith(_PNG):
        return _png_size(data, name)
    if data.startswith(jpeg.START):
        if (size := jpeg.size(data, name)) is None:
            raise _corrupt(data, name)
        return size
    raise ImageError(
        f"{name} starts with {data[:4].hex(' ')}; expected a JPEG (ff d8) or PNG (89 50 4e 47). "
        "Convert it first"
    )


def _png_size(data: bytes, name: str) -> tuple[int, int]:
    if len(data) < 33:
        raise _corrupt(data, name)
    width, height, bits, colour = struct.unpack(">IIBB", data[16:26])
    if colour in (4, 6):
        raise ImageError(f"{name} is a PNG with alpha; expected RGB. Drop the alpha channel")
    if bits == 16:
        raise ImageError(f"{name} is a PNG with 16 bits a channel; expected 8. Convert it first")
    if not _png_ends(data):
        raise _corrupt(data, name)
    return width, height


def _png_ends(data: bytes) -> bool:
    """Whether the chunks lead to the last one; what lies behind it is nobody's."""
    at = len(_PNG)
    for _ in range(_MAX_CHUNKS):
        if at + 12 > len(data):
            break
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        at += 12 + length
        if kind == b"IEND":
            return bool(at <= len(data))
    return False


def _corrupt(data: bytes, name: str) -> ImageError:
    return ImageError(
        f"{name} is corrupt or cut short ({len(data)} bytes); expected a whole JPEG or PNG. "
        "Encode or copy it again"
    )
