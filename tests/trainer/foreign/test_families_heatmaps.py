"""The family of heatmaps: its sub-pixel rules, layouts and blur, and what it refuses."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from misgiving.trainer import heatmaps
from misgiving.trainer.foreign.families import FAMILIES, maps
from misgiving.trainer.foreign.families.base import Shapes
from trainer.foreign.reading import check_export, looks, made, read, refused

CELLS, STRIDE = 24, 4
SIZE = CELLS * STRIDE
PLACES = torch.tensor([[[40.6, 22.0], [61.3, 75.1]]])
"""Input px: cells 10.15, 5.5 and 15.325, 18.775."""


def drawn(channels: int = 2) -> Tensor:
    places = PLACES.repeat(1, channels, 1)[:, :channels] / STRIDE
    return heatmaps.encode(places, torch.ones(1, channels, dtype=torch.bool), CELLS, 1.5)


def answered(tensor: Tensor, **options: Any) -> Any:
    raw = {"maps": tensor}
    return read(made("heatmaps", {"heatmaps": "maps", **options}, raw, 2, SIZE), raw)


@pytest.mark.parametrize(
    ("subpixel", "expected"),
    [
        ("none", [[42.0, 22.0], [62.0, 74.0]]),  # the middles of the cells
        ("quarter", [[41.0, 22.0], [61.0, 75.0]]),  # a quarter of 4 px nearer
        ("parabola", PLACES[0].tolist()),  # exact for a Gaussian
    ],
)
def test_where_in_a_cell(subpixel: str, expected: list[list[float]]) -> None:
    assert answered(drawn(), subpixel=subpixel).points[0].numpy() == pytest.approx(
        np.array(expected), abs=0.02
    )


def test_the_corner_of_a_cell() -> None:
    assert answered(drawn(), centre=0.0).points[0, 0].tolist() == [40.0, 20.0]


def test_a_peak_at_the_border_stays_in_its_cell() -> None:
    tensor = torch.zeros(1, 2, CELLS, CELLS)
    tensor[0, 0, 0, 0] = tensor[0, 1, -1, -1] = 1.0
    points = answered(tensor, subpixel="quarter").points[0]
    assert points.tolist() == [[2.0, 2.0], [SIZE - 2.0, SIZE - 2.0]]


def test_either_layout_and_logits() -> None:
    upright = answered(drawn(), subpixel="parabola")
    logits = maps.logit(drawn()).permute(0, 2, 3, 1)
    other = answered(logits, subpixel="parabola", layout="NHWC", activation="sigmoid")
    for one, two in zip(upright[:2], other[:2], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


def test_an_input_that_is_not_square() -> None:
    tensor = torch.zeros(1, 1, 6, 8)
    tensor[0, 0, 2, 5] = 1.0
    family = FAMILIES["heatmaps"]({"heatmaps": "m"}, Shapes({"m": (1, 1, 6, 8)}, 1, 48, 32))
    assert family.read([tensor]).points.tolist() == [[[22.0, 20.0]]]


def test_the_blur_is_opencvs() -> None:
    rng = np.random.default_rng(0)
    tensor = rng.uniform(size=(2, 3, 12, 9)).astype(np.float32)
    flat = tensor.reshape(-1, 12, 9)
    expected = [cv2.GaussianBlur(plane, (5, 5), 0) for plane in flat]
    ours = maps.blurred(torch.from_numpy(tensor), 5).reshape(-1, 12, 9)
    np.testing.assert_allclose(ours.numpy(), np.array(expected), atol=1e-5)


def test_the_blur_chooses_among_peaks() -> None:
    """A lone cell is higher, a hill is broader: only blurred, the hill is the higher."""
    tensor = drawn()
    tensor[0, 0, 20, 3] = 1.3
    sharp, soft = answered(tensor), answered(tensor, blur=5)
    assert sharp.points[0, 0].tolist() == [14.0, 82.0]
    assert soft.points[0, 0].tolist() == [42.0, 22.0]
    assert sharp.confidence[0, 0] == 1.0  # cut
    assert soft.confidence[0, 0] < 1.0


def test_the_second_peak_is_the_highest_outside_the_square() -> None:
    """Against the mask of every cell."""
    tensor = torch.rand(3, 4, 20, 30, generator=torch.Generator().manual_seed(0))
    at = tensor.flatten(2).argmax(-1)
    far = torch.ones_like(tensor, dtype=torch.bool)
    for image, maps_of in enumerate(at.tolist()):
        for joint, place in enumerate(maps_of):
            row, column = divmod(place, 30)
            far[image, joint, max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4] = False
    expected = torch.where(far, tensor, 0.0).amax((2, 3))
    value, _, margin, _ = maps.signs(tensor, at).reshape(3, maps.SIGNS, 4).unbind(1)
    torch.testing.assert_close(value - margin, expected)


def test_evidence_tells_a_second_peak_and_a_broad_one() -> None:
    sure = drawn()
    twice = sure.clone()
    twice[0, 0, 20, 3] = 0.9
    broad = heatmaps.encode(PLACES / STRIDE, torch.ones(1, 2, dtype=torch.bool), CELLS, 4.0)
    _, _, margin, mass = answered(sure).evidence[0].reshape(maps.SIGNS, 2)[:, 0].tolist()
    assert answered(twice).evidence[0].reshape(maps.SIGNS, 2)[2, 0] == pytest.approx(
        float(sure[0, 0].max()) - 0.9
    )
    assert margin > 0.7
    assert answered(broad).evidence[0].reshape(maps.SIGNS, 2)[3, 0] > mass + 1


@pytest.mark.parametrize("value", [0.0, -5.0, 1e30])
def test_a_flat_map_is_answered(value: float) -> None:
    answered(torch.full((1, 2, CELLS, CELLS), value), subpixel="parabola", blur=3)


def test_further_maps_only_where_said() -> None:
    raw = {"maps": drawn(3)}
    family = made("heatmaps", {"heatmaps": "maps", "first": True}, raw, 2, SIZE)
    assert read(family, raw).points.shape == (1, 2, 2)
    assert "expected (B, K, h, w), or more with first = true, for 2 keypoints" in refused(
        "heatmaps", {"heatmaps": "maps"}, raw, 2, SIZE
    )


@pytest.mark.parametrize(
    "options",
    [
        {"subpixel": "parabola", "blur": 5},
        {"subpixel": "quarter", "activation": "sigmoid"},
        {"layout": "NHWC"},
    ],
)
def test_exported(options: dict[str, Any], tmp_path: Path) -> None:
    tensor = drawn().permute(0, 2, 3, 1) if "layout" in options else drawn()
    raw = {"maps": tensor.contiguous()}
    check_export(made("heatmaps", {"heatmaps": "maps", **options}, raw, 2, SIZE), raw, tmp_path)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "[output] of family heatmaps: heatmaps: Field required; expected heatmaps, layout,"),
        ({"heatmaps": "maps", "size": 3}, "size: Unexpected keyword argument"),
        ({"heatmaps": "maps", "blur": 4}, "blur = 4; expected 0 or an odd size in cells"),
        ({"heatmaps": "maps", "subpixel": "dark"}, "subpixel: Input should be 'none', 'quarter'"),
        ({"heatmaps": "map"}, "no output 'map'; the graph has maps. Name one of them."),
        (
            {"heatmaps": "maps", "layout": "NHWC"},
            "output 'maps' is (free, 2, 24, 24); expected (B,",
        ),
    ],
)
def test_refused(options: dict[str, Any], says: str) -> None:
    assert says in refused("heatmaps", options, {"maps": drawn()}, 2, SIZE)


@pytest.mark.parametrize(
    ("keypoints", "shape", "expected"),
    [
        (0, (1, 17, 64, 64), {"layout": "NCHW"}),
        (17, (1, 64, 64, 17), {"layout": "NHWC"}),
        (14, (None, 64, 64, 15), {"layout": "NHWC", "first": True}),  # a background
        (17, (1, 14, 64, 64), None),  # fewer than there are keypoints
        (0, (1, 1, 64, 64), None),  # a mask
        (0, (1, 1000), None),
        (0, (1, 17, None, None), None),
    ],
)
def test_guessed(keypoints: int, shape: tuple[int | None, ...], expected: Any) -> None:
    found = looks(keypoints, 256, out=shape)
    assert found == (expected and ("heatmaps", {"heatmaps": "out", **expected}))


def test_guessed_among_several() -> None:
    """OpenPose's limbs are no keypoints; of two stages the last counts."""
    maps_of, limbs = (1, 19, 32, 32), (1, 38, 32, 32)
    found = looks(18, 256, stage_1=maps_of, stage_2=maps_of, limbs=limbs)
    expected = {"heatmaps": "stage_2", "layout": "NCHW", "first": True}
    assert found == ("heatmaps", expected)
