"""What a camera wrote beside the pixels is gone; the pixels are the same, to the last bit."""

import struct
import zlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from misgiving.runtime.geometry import CropRule
from misgiving.runtime.images import decode, encode_png
from misgiving.runtime.nouns import Frame
from misgiving.runtime.privacy.metadata import bare
from misgiving.runtime.privacy.policy import PrivacyPolicy
from misgiving.runtime.privacy.redacting import redacted
from misgiving.runtime.wire.collected import KeptFrame

NOISE = np.random.default_rng(0).integers(0, 255, (40, 64, 3), np.uint8)
SECRET = b"48.137 N, 11.575 E"
PNG = encode_png(NOISE)


def jpeg(*options: int) -> bytes:
    return cv2.imencode(".jpg", NOISE, options)[1].tobytes()


PLAIN = jpeg(cv2.IMWRITE_JPEG_QUALITY, 90)
PROGRESSIVE = jpeg(cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 1)


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body


def exif(turn: int, order: str = ">") -> bytes:
    """How a picture is turned, and behind that a place."""
    name = b"MM" if order == ">" else b"II"
    entries = struct.pack(order + "HHIHH", 0x10F, 3, 1, 7, 0)
    entries += struct.pack(order + "HHIHH", 0x112, 3, 1, turn, 0)
    entries += struct.pack(order + "HHII", 0x8825, 4, 1, 50)  # the GPS directory
    head = struct.pack(order + "2sHIH", name, 42, 8, 3)
    return segment(0xE1, b"Exif\0\0" + head + entries + bytes(4) + SECRET)


def with_segments(data: bytes, *segments: bytes) -> bytes:
    return data[:2] + b"".join(segments) + data[2:]


def chunk(name: bytes, content: bytes) -> bytes:
    named = name + content
    return struct.pack(">I", len(content)) + named + struct.pack(">I", zlib.crc32(named))


@pytest.mark.parametrize("data", [PLAIN, PROGRESSIVE, PNG])
def test_a_picture_with_nothing_beside_its_pixels_stays(data: bytes) -> None:
    assert bare(data) is data


@pytest.mark.parametrize(
    "data",
    [
        with_segments(PLAIN, exif(1)),
        with_segments(PROGRESSIVE, exif(1)),
        with_segments(PLAIN, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + SECRET)),
        with_segments(PLAIN, segment(0xED, b"Photoshop 3.0\0" + SECRET), segment(0xFE, SECRET)),
        with_segments(PLAIN, segment(0xE2, b"MPF\0" + SECRET)),
        PLAIN + with_segments(PLAIN, exif(1)),  # a second picture behind the first
        PNG[:33] + chunk(b"tEXt", b"place\0" + SECRET) + PNG[33:],
        PNG[:33] + chunk(b"eXIf", SECRET) + PNG[33:],
        PNG + SECRET,
    ],
)
def test_what_a_camera_wrote_goes(data: bytes) -> None:
    made = bare(data)
    assert SECRET in data
    assert SECRET not in made
    assert len(made) in (len(PLAIN), len(PROGRESSIVE), len(PNG))
    assert np.array_equal(decode(made), decode(data))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_how_it_is_turned_stays(turn: int, order: str) -> None:
    data = with_segments(PLAIN, exif(turn, order))
    made = bare(data)
    assert made.startswith(b"\xff\xd8")
    assert SECRET not in made
    assert np.array_equal(decode(made), decode(data))
    assert (decode(made).shape[0] == 64) == (turn >= 5)
    assert (made == PLAIN) == (turn == 1)


def test_what_the_colours_are_stays() -> None:
    profile = segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(128))
    made = bare(with_segments(PLAIN, profile, exif(1)))
    assert made == with_segments(PLAIN, profile)


@given(st.binary(max_size=60))
def test_whatever_stands_in_an_exif(junk: bytes) -> None:
    data = with_segments(PLAIN, segment(0xE1, b"Exif\0\0" + junk))
    assert np.array_equal(decode(bare(data)), decode(data))


def test_only_who_lets_the_place_travel_keeps_it() -> None:
    data, rule = with_segments(PLAIN, exif(1)), CropRule(height=56, width=42, padding=1.25)
    kept = KeptFrame(Frame(data, frame_id="1"), (), "b" * 64)
    assert redacted(kept, PrivacyPolicy(position=True), rule).frame.image == data
    done = redacted(kept, PrivacyPolicy(), rule)
    assert done == replace(kept, frame=replace(kept.frame, image=PLAIN))
