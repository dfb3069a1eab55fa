"""What a kept frame is on the wire, and what one of an earlier release was."""

from dataclasses import replace

import numpy as np
import pytest

from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.geometry import Region
from misgiving.runtime.images import decode, encode_png
from misgiving.runtime.nouns import Frame, Position
from misgiving.runtime.wire.collected import (
    Coding,
    KeptFrame,
    Redaction,
    coded,
    read_kept,
    to_message,
)
from shared.collecting import collected, serialise

NOISE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
FULL = KeptFrame(
    Frame(encode_png(NOISE), (), "7", "front", 5, Position(-33.5, 151.25)),
    (),
    "b" * 64,
    engine="onnxruntime CPUExecutionProvider",
    precision="int8",
    campaign="night",
    software_version="1.2",
    coding=Coding.JPEG,
    jpeg_quality=92,
    redaction=Redaction(True, (Region(1, 2, 3, 4),), ((), (12, 13)), "ours:plates"),
)


@pytest.mark.parametrize(
    "kept",
    [
        FULL,
        replace(FULL, redaction=None, coding=None, jpeg_quality=0),
        replace(FULL, redaction=Redaction()),  # nothing taken out, and yet looked at
        replace(FULL, frame=replace(FULL.frame, position=Position(0, 0))),  # a place, not unknown
    ],
)
def test_the_wire_loses_nothing(kept: KeptFrame) -> None:
    assert read_kept(to_message(kept).SerializeToString()) == kept


def test_a_frame_of_before_says_nothing_of_where_it_is_from() -> None:
    kept = read_kept(serialise(collected("1")))
    assert (kept.engine, kept.precision, kept.campaign, kept.software_version) == ("",) * 4
    assert (kept.coding, kept.redaction, kept.frame.position) == (None, None, None)


def test_a_place_that_is_none_is_refused() -> None:
    message = to_message(FULL)
    message.frame.position.latitude_deg = float("nan")
    with pytest.raises(InvalidInput, match="position is nan, 151.25; expected a latitude"):
        read_kept(message.SerializeToString())


@pytest.mark.parametrize(
    ("quality", "coding", "largest_error"),
    [(0, Coding.PNG, 0), (100, Coding.JPEG, 3)],
)
def test_a_raw_image_is_coded_and_says_how(
    quality: int, coding: Coding, largest_error: int
) -> None:
    rows, columns = np.indices((40, 60), np.uint8)
    smooth = np.stack([rows, columns, rows + columns], axis=-1)
    kept = coded(KeptFrame(Frame(smooth), (), "b" * 64), quality)
    assert (kept.coding, kept.jpeg_quality) == (coding, quality)
    assert np.abs(decode(kept.frame.image).astype(int) - smooth).max() <= largest_error


def test_an_encoded_image_stays_as_it_came() -> None:
    assert coded(FULL, 50) is FULL
