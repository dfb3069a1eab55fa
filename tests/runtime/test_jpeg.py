"""Whole JPEGs of every kind are decoded; cut ones are not, whatever comes behind the cut."""

import struct

import cv2
import numpy as np
import pytest

from misgiving.runtime import images
from misgiving.runtime import jpeg as jpegs
from misgiving.runtime.errors import ImageError, ResourceExhausted

END = b"\xff\xd9"
KINDS = {
    "baseline": (),
    "progressive": (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restarts": (cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
    "optimised": (cv2.IMWRITE_JPEG_OPTIMIZE, 1),
    "4:4:4": (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
}


def noise() -> np.ndarray:
    small = np.random.default_rng(1).integers(0, 256, (30, 40, 3), np.uint8)
    return cv2.resize(small, (331, 243), interpolation=cv2.INTER_CUBIC)


def jpeg(image: np.ndarray, kind: str = "baseline") -> bytes:
    return cv2.imencode(".jpg", image, KINDS[kind])[1].tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("colours", ["RGB", "grey"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.8, 0.95])
def test_a_cut_with_an_end_behind_it_is_refused(kind: str, colours: str, share: float) -> None:
    whole = jpeg(noise() if colours == "RGB" else noise()[..., 0], kind)
    assert images.decode(whole).shape == (243, 331, 3)
    cut = whole[: int(share * len(whole))]
    if kind == "progressive":  # but for the last scan: it refines what is there already
        cut = cut[: whole.rindex(b"\xff\xda") - 9]
    behind = {
        "an end marker": END,
        "zeros": bytes(200) + END,
        "another image": whole,  # a camera's buffer that was not filled
        "a thumbnail": jpeg(noise()[:40, :40]),
    }
    for what, rest in behind.items():
        with pytest.raises(ImageError, match="corrupt or cut short"):
            print(what, images.decode(cut + rest).shape)


@pytest.mark.parametrize("kind", ["baseline", "restarts", "optimised"])
def test_a_hole_in_the_middle_is_refused(kind: str) -> None:
    whole = jpeg(noise(), kind)
    third = len(whole) // 3
    with pytest.raises(ImageError, match="corrupt or cut short"):
        images.decode(whole[:third] + whole[2 * third :])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0, 128, 255])
def test_flat_pictures_and_bars_are_whole(kind: str, value: int) -> None:
    """The grey of missing pixels may be a picture's own."""
    flat = np.full((96, 120, 3), value, np.uint8)
    bars = np.pad(noise(), ((64, 64), (0, 0), (0, 0)), constant_values=value)
    for image in (flat, bars, flat[:1, :1], flat[:17, :9]):
        assert images.decode(jpeg(image, kind)).shape == image.shape


def test_scans_and_segments_are_bounded() -> None:
    """Each costs a decoder, or us, time that the number of pixels does not tell."""
    whole = jpeg(noise(), "progressive")
    end, room = len(whole) - len(END), jpegs.MAX_SCANS - whole.count(b"\xff\xda")
    scan, comment = whole[whole.rindex(b"\xff\xc4") : end], b"\xff\xfe\0\2"
    for scans, comments in ((room, 0), (0, 4000)):
        images.decode(whole[:2] + comments * comment + whole[2:end] + scans * scan + END)
    for scans, comments in ((room + 1, 0), (0, jpegs.MAX_SEGMENTS)):
        with pytest.raises(ResourceExhausted, match="more than 100 scans or 4,096 segments"):
            images.decode(whole[:2] + comments * comment + whole[2:end] + scans * scan + END)


def test_strays_and_fill_bytes_between_segments_are_skipped() -> None:
    whole = jpeg(noise())
    for marker in (b"\xff\xdb", b"\xff\xc4", b"\xff\xda"):
        at = whole.index(marker)
        for stray in (b"\0\0", b"ab", b"\xff\xff", b"\xff\0"):
            decoded = images.decode(whole[:at] + stray + whole[at:])
            assert np.array_equal(decoded, images.decode(whole))


def test_the_end_of_a_thumbnail_is_not_the_picture_s() -> None:
    whole, thumbnail = jpeg(noise()), jpeg(noise()[:30, :40])
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(thumbnail)) + thumbnail
    assert images.decode(whole[:2] + segment + whole[2:]).shape == (243, 331, 3)
    with pytest.raises(ImageError):
        images.decode(whole[:2] + segment + whole[2:200])


def test_a_few_bytes_that_say_they_are_megapixels_are_not_decoded() -> None:
    """Each block takes a bit at least."""
    for kind in ("baseline", "progressive"):
        whole = jpeg(noise(), kind)
        at = whole.index(b"\xff\xc0" if kind == "baseline" else b"\xff\xc2") + 5
        claimed = whole[:at] + struct.pack(">HH", 7000, 7000) + whole[at + 4 :]
        assert jpegs.lacks_bits(claimed, "image")
        with pytest.raises(ImageError, match="corrupt or cut short"):
            images.decode(claimed)
        padded = claimed[:2] + b"\xff\xfe\xff\xff" + bytes(0xFFFD)
        padded += b"\xff\xfe\xff\xff" + bytes(0xFFFD) + b"\xff\xfe\xff\xff" + bytes(0xFFFD)
        assert not jpegs.lacks_bits(padded + claimed[2:], "image")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("height", "width"), [(1, 4000), (4000, 1), (1500, 1500), (7, 9)])
def test_the_smallest_jpegs_of_a_size_have_a_bit_for_each_block(
    kind: str, height: int, width: int
) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    for colours in (image, image[..., 0]):
        assert images.decode(jpeg(colours, kind)).shape == image.shape


def test_pixels_times_scans_are_bounded() -> None:
    whole = jpeg(np.zeros((5000, 5000, 3), np.uint8), "progressive")
    end, scans = len(whole) - len(END), whole.count(b"\xff\xda")
    scan, most = whole[whole.rindex(b"\xff\xc4") : end], jpegs.MAX_WORK // 5000**2
    assert not jpegs.lacks_bits(whole[:end] + (most - scans) * scan + END, "image")
    with pytest.raises(ResourceExhausted, match="has 41 scans of 5000 × 5000 px; at most 1,000"):
        images.decode(whole[:end] + (most - scans + 1) * scan + END)
