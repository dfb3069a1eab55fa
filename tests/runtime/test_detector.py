"""A person detector: its TOML, what goes in, and who comes out."""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.geometry import Region
from misgiving.runtime.persons.detector import Detector, persons_of
from misgiving.runtime.persons.detector_toml import PersonTable
from misgiving.runtime.persons.families import Candidates
from shared.tiny import DETECTOR


def described(folder: Path, first: str = "", **changes: object) -> Path:
    """The tiny detector beside its TOML, in which some values are others."""
    text = DETECTOR.read_text("utf-8")
    for key, value in changes.items():
        text = re.sub(f"^{key} = .*$", f"{key} = {json.dumps(value)}", text, flags=re.MULTILINE)
    toml = folder / "detector.toml"
    toml.write_text(f"{first}\n{text}", "utf-8")
    shutil.copy(DETECTOR.parent / "net.onnx", folder)
    return toml


def picture(height: int, width: int, red: tuple[slice, slice], channel: int = 0) -> Any:
    """Black but for a rectangle of full red, or of another channel."""
    image = np.zeros((height, width, 3), np.uint8)
    image[red[0], red[1], channel] = 255
    return image


IN_A_CELL = (slice(64, 80), slice(64, 80))
"""Of a picture of 128 × 128 px: a cell of the input, whose corner is the middle of the person."""
THERE = Region(32, 32, 64, 64)


@pytest.mark.parametrize(
    ("layout", "kind", "std", "channel", "colour"),
    [
        ("NCHW", "FLOAT", 255, 0, "RGB"),
        ("NHWC", "FLOAT", 255, 0, "RGB"),
        ("NCHW", "FLOAT", 255, 2, "BGR"),
        ("NCHW", "FLOAT16", 255, 0, "RGB"),
    ],
)
def test_pixels_go_in_as_the_toml_says(
    tmp_path: Path, layout: str, kind: str, std: float, channel: int, colour: str
) -> None:
    onnx = pytest.importorskip("onnx")
    from shared.make_tiny_detector import red_cells

    toml = described(tmp_path, std=std, colour=colour)
    net = red_cells(layout=layout, kind=getattr(onnx.TensorProto, kind))
    onnx.save(net, tmp_path / "net.onnx")
    detector = Detector.load(toml)
    assert detector.find(picture(128, 128, IN_A_CELL, channel)) == (THERE,)
    assert detector.find(picture(128, 128, IN_A_CELL, 2 - channel)) == ()


@pytest.mark.parametrize(
    ("fit", "expected"),
    [
        # 128 × 256 px in 64 × 64: a cell is 16 × 32 px, half the input 64 × 128 px.
        ("stretch", Region(64, 32, 128, 64)),
        # A quarter of the size, 16 px of border above: half the input is 128 px both ways.
        ("letterbox", Region(64, 0, 128, 128)),
        ("letterbox-top-left", Region(64, 0, 128, 128)),
    ],
)
def test_boxes_come_back_in_image_pixels(tmp_path: Path, fit: str, expected: Region) -> None:
    detector = Detector.load(described(tmp_path, fit=fit))
    found = detector.find(picture(128, 256, (slice(64, 96), slice(128, 160))))
    assert found == (expected,)


def test_the_border_of_a_letterbox_has_the_grey_of_the_toml(tmp_path: Path) -> None:
    """White borders are red too."""
    black = np.zeros((64, 256, 3), np.uint8)
    for pad, found in ((255, True), (0, False)):
        toml = described(tmp_path, fit="letterbox", pad=pad)
        assert bool(Detector.load(toml).find(black)) == found


def test_another_file_than_the_toml_was_written_for_is_refused(tmp_path: Path) -> None:
    net = (DETECTOR.parent / "net.onnx").read_bytes()
    toml = described(tmp_path, f'sha256 = "{hashlib.sha256(net).hexdigest()}"')
    assert Detector.load(toml).most == 16
    (tmp_path / "net.onnx").write_bytes(net + b" ")
    with pytest.raises(InvalidInput, match="expected .* Take the file that the TOML"):
        Detector.load(toml)


def chosen(boxes: list[list[float]], scores: list[float], **keys: float) -> tuple[Region, ...]:
    """Who of these is a person in a picture of 100 × 80 px."""
    table = PersonTable.model_validate({"class": 0, "score": 0.5, "iou": 0.5, **keys})
    corners = np.array(boxes, np.float64).reshape(-1, 2, 2)
    return persons_of(Candidates(corners, np.array(scores)), table, 80, 100)


A, B = [10.0, 10.0, 30.0, 60.0], [60.0, 10.0, 80.0, 60.0]
ALMOST_A = [11.0, 10.0, 31.0, 60.0]
AS_A, AS_B = Region(10, 10, 20, 50), Region(60, 10, 20, 50)


@pytest.mark.parametrize(
    ("boxes", "scores", "keys", "expected"),
    [
        ([], [], {}, ()),
        ([A], [0.9], {}, (AS_A,)),
        ([A], [0.4], {}, ()),  # not sure enough
        ([A, B], [0.6, 0.9], {}, (AS_B, AS_A)),  # the surest first
        ([A, B], [0.6, 0.9], {"most": 1}, (AS_B,)),
        ([ALMOST_A, A], [0.6, 0.9], {}, (AS_A,)),  # the same person
        ([ALMOST_A, A], [0.6, 0.9], {"iou": 1}, (AS_A, Region(11, 10, 20, 50))),
        ([[-9, -9, 20.2, 200]], [0.9], {}, (Region(0, 0, 21, 80),)),  # as far as the picture goes
        ([[200, 10, 300, 60]], [0.9], {}, ()),  # beside it
        ([[30, 10, 10, 60]], [0.9], {}, ()),  # turned around
        ([[10, 10, 14, 20]], [0.9], {}, ()),  # too small
        ([[10, 10, 14, 20]], [0.9], {"smallest_px": 10}, (Region(10, 10, 4, 10),)),
        ([[np.nan, 10, 30, 60], A], [0.9, 0.8], {}, (AS_A,)),
        ([A], [np.nan], {}, ()),
    ],
)
def test_who_counts_as_a_person(
    boxes: Any, scores: Any, keys: dict[str, float], expected: tuple[Region, ...]
) -> None:
    assert chosen(boxes, scores, **keys) == expected
