"""What is decoded, and the one line that everything else gets."""

import contextlib
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from misgiving.runtime import images
from misgiving.runtime.errors import ImageError, MisgivingError, ResourceExhausted

RAMP = np.arange(60 * 40 * 3, dtype=np.uint32).reshape(60, 40, 3).astype(np.uint8)


def png(array: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(".png", array, options)[1].tobytes()


def jpeg(array: np.ndarray = RAMP, *options: int) -> bytes:
    return cv2.imencode(".jpg", array, options)[1].tobytes()


def png_header(width: int, height: int) -> bytes:
    """A whole PNG whose header says a size, with next to no pixels behind it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 100)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def jpeg_header(width: int, height: int) -> bytes:
    """The example's JPEG with another size written into its frame header."""
    data = bytearray(jpeg())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


CHUNK = b"\0\0\0\0teXt" + struct.pack(">I", zlib.crc32(b"teXt"))
"""An empty one, which decoders skip."""

BAD = {
    "zero bytes": (b"", "is empty"),
    "text": (b"hello, this is no image at all", "68 65 6c 6c"),
    "a GIF": (b"GIF89a" + bytes(40), "47 49 46 38"),
    "JPEG: only the marker": (b"\xff\xd8", "corrupt or cut short"),
    "JPEG: header without pixels": (jpeg()[:300], "corrupt or cut short"),
    "JPEG: cut in the pixels": (jpeg()[:-40], "corrupt or cut short"),
    "JPEG: header says 0 wide": (jpeg_header(0, 60), "corrupt or cut short"),
    "JPEG: segments of length zero": (b"\xff\xd8" + b"\xff\xe0\0\0" * 50, "corrupt"),
    "JPEG: fill bytes for ever": (b"\xff\xd8" + b"\xff" * 500, "corrupt"),
    "PNG: only the signature": (png(RAMP)[:8], "corrupt or cut short"),
    "PNG: chunks for ever": (png(RAMP)[:33] + CHUNK * (1 << 16) + png(RAMP)[33:], "corrupt"),
    "PNG: cut in the pixels": (png(RAMP)[:-40], "corrupt or cut short"),
    "PNG: 0 wide": (png_header(0, 10), "corrupt"),
    "PNG: pixels damaged": (png_header(64, 64), "corrupt"),
    "PNG with alpha": (png(np.dstack([RAMP, RAMP[..., :1]])), "Drop the alpha channel"),
    "PNG of 16 bits": (png(RAMP.astype(np.uint16) * 257), "16 bits"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_bytes_are_refused_in_one_line(name: str) -> None:
    data, said = BAD[name]
    with pytest.raises(ImageError) as caught:
        images.decode(data, "frame 'x'")
    message = str(caught.value)
    assert said in message
    assert message.startswith("frame 'x'")
    assert "\n" not in message


@pytest.mark.parametrize("make", [png_header, jpeg_header])
def test_a_huge_header_is_refused_before_it_is_decoded(make: Callable[[int, int], bytes]) -> None:
    with pytest.raises(ResourceExhausted, match="30000 × 30000"):
        images.decode(make(30000, 30000))


@pytest.mark.parametrize(
    "data",
    [
        png(RAMP),
        png(RAMP[..., 0]),  # grey becomes RGB
        jpeg(),
        jpeg(RAMP, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        jpeg(RAMP[..., 0]),
        jpeg() + b"trailing bytes",
        png(RAMP) + bytes(100),
        png(RAMP) + png(RAMP)[:50],
        png(RAMP[:1, :1]),  # one pixel
        jpeg(RAMP[:1, :1]),
    ],
)
def test_good_bytes_are_decoded(data: bytes) -> None:
    image = images.decode(data)
    assert image.dtype == np.uint8
    assert image.shape in ((60, 40, 3), (1, 1, 3))


def test_colours_are_rgb_and_png_is_lossless() -> None:
    assert np.array_equal(images.decode(images.encode_png(RAMP)), RAMP)
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    assert (images.decode(images.encode_jpeg(red))[0, 0] - [255, 0, 0] < 4).all()


@pytest.mark.parametrize("cut", range(0, 700, 13))
def test_no_cut_of_a_file_raises_anything_else(cut: int) -> None:
    for data in (jpeg(), png(RAMP)):
        with pytest.raises(ImageError):
            images.decode(data[: min(cut, len(data) - 13)])


def test_random_damage_is_decoded_or_refused() -> None:
    random = np.random.default_rng(0)
    for data in (jpeg(), png(RAMP)) * 25:
        damaged = np.frombuffer(data, np.uint8).copy()
        damaged[random.integers(0, len(data), 4)] = random.integers(0, 256, 4)
        with contextlib.suppress(MisgivingError):
            assert images.decode(damaged.tobytes()).ndim == 3


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (RAMP.astype(np.float32), "float32"),
        (RAMP[..., 0], "(60, 40)"),
        (np.dstack([RAMP, RAMP[..., :1]]), "alpha"),
        (RAMP[:0], "(0, 40, 3)"),
        (RAMP[None], "(1, 60, 40, 3)"),
        (RAMP.tolist(), "list"),
        (None, "NoneType"),
    ],
)
def test_arrays_that_are_no_images(array: object, said: str) -> None:
    with pytest.raises(ImageError) as caught:
        images.check_rgb(array)
    assert said in str(caught.value)
    assert "expected" in str(caught.value)


@pytest.mark.parametrize(
    ("size", "height", "width", "said"),
    [
        (60 * 40 * 3 - 1, 60, 40, "expected uint8 RGB, 7200 bytes"),  # one byte short
        (60 * 40 * 4, 60, 40, "Drop the alpha channel"),  # RGBA
        (60 * 40 * 12, 60, 40, "28800 bytes"),  # float32
        (0, 0, 0, "at least one pixel"),
        (0, 0, 40, "at least one pixel"),
    ],
)
def test_raw_pixels_must_fit_their_shape(size: int, height: int, width: int, said: str) -> None:
    with pytest.raises(ImageError) as caught:
        images.from_raw(bytes(size), height, width)
    assert said in str(caught.value)


def test_raw_pixels() -> None:
    assert np.array_equal(images.from_raw(RAMP.tobytes(), 60, 40), RAMP)
    with pytest.raises(ResourceExhausted):
        images.from_raw(b"", 1 << 31, 1 << 31)


def test_files(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(RAMP))
    assert images.read(tmp_path / "a.png").shape == (60, 40, 3)
    for path in (tmp_path, tmp_path / "missing.png"):
        with pytest.raises(ImageError, match="expected a JPEG or PNG file"):
            images.read(path)


def test_exif_rotation_is_applied() -> None:
    """A phone's upright picture lies on its side in the file: image px are those of the viewer."""
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    data = io.BytesIO(jpeg())
    assert images.decode(data.read(2) + segment + data.read()).shape == (40, 60, 3)
