"""Windows, cuts and the way back, to the half pixel."""

import math

import numpy as np
import pytest

from misgiving.runtime.errors import RegionError
from misgiving.runtime.geometry import (
    CropRule,
    Region,
    Window,
    check_region,
    cut,
    image_to_input,
    input_to_image,
    inputs_to_images,
    window_of,
)

RULE = CropRule(height=256, width=192, padding=1.25)


@pytest.mark.parametrize(
    ("region", "size", "expected"),
    [
        # the whole frame is not padded, only brought to the aspect 3:4: wide
        (None, (300, 400), Window(0, -116, 400, 533)),
        # the whole frame, exactly the aspect
        (None, (256, 192), Window(0, 0, 192, 256)),
        # a frame of one pixel
        (None, (1, 1), Window(0, 0, 1, 1)),
        # a region grows by 1.25 to 150 × 200
        (Region(100, 100, 120, 160), (480, 640), Window(85, 80, 150, 200)),
        # a wide region is made high
        (Region(100, 100, 120, 10), (480, 640), Window(85, 5, 150, 200)),
        # a region that leaves the image keeps its window: black is added
        (Region(-20, -20, 120, 160), (480, 640), Window(-35, -40, 150, 200)),
        # a huge region stops at three images
        (Region(-1e6, -1e6, 2e6, 2e6), (100, 75), Window(-112, -150, 225, 300)),
    ],
)
def test_windows(region: Region | None, size: tuple[int, int], expected: Window) -> None:
    assert window_of(region, *size, RULE) == expected


@pytest.mark.parametrize(
    ("region", "said"),
    [
        (Region(0, 0, 0, 10), "width and height above 0"),
        (Region(0, 0, 10, -1), "width and height above 0"),
        (Region(math.nan, 0, 10, 10), "finite"),
        (Region(0, 0, math.inf, 10), "finite"),
        (Region(640, 0, 10, 10), "outside"),  # touches the right edge from outside
        (Region(-10, 0, 10, 10), "outside"),
        (Region(0, 480, 10, 10), "outside"),
        (Region(0, -10, 10, 10), "outside"),
    ],
)
def test_regions_that_cannot_be_cut(region: Region, said: str) -> None:
    with pytest.raises(RegionError, match=said):
        check_region(region, 480, 640)


def test_a_region_at_the_last_pixel_is_inside() -> None:
    check_region(Region(639.9, 479.9, 10, 10), 480, 640)


@pytest.mark.parametrize(
    "window", [Window(3, 5, 30, 40), Window(-7, -9, 60, 80), Window(19, 23, 15, 20)]
)
def test_cut_without_resizing_copies_pixels(window: Window) -> None:
    image = np.random.default_rng(1).integers(1, 256, (50, 40, 3), dtype=np.uint8)
    got = cut(image, window, window.height, window.width)
    for y in range(window.height):
        for x in range(window.width):
            row, column = y + window.top, x + window.left
            inside = 0 <= row < 50 and 0 <= column < 40
            assert np.array_equal(got[y, x], image[row, column] if inside else [0, 0, 0])


def test_a_window_wholly_outside_is_black() -> None:
    image = np.full((10, 10, 3), 255, np.uint8)
    assert not cut(image, Window(50, -90, 20, 20), 10, 10).any()


def test_cut_averages_when_it_shrinks() -> None:
    image = np.random.default_rng(2).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    got = cut(image, Window(0, 0, 60, 40), 20, 30).astype(float)
    mean = image.reshape(20, 2, 30, 2, 3).mean(axis=(1, 3))
    assert np.abs(got - mean).max() <= 0.5


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0, 3.0])
def test_a_spot_is_found_where_the_coordinates_say(scale: float) -> None:
    """Centre of mass of a spot in the input, mapped back, is the spot's centre: no half pixel."""
    image = np.zeros((128, 96, 3), np.uint8)
    image[60:66, 30:36] = 255
    window = Window(6, 20, 60, 80)
    height, width = round(80 * scale), round(60 * scale)
    grey = cut(image, window, height, width)[..., 0].astype(float)
    rows, columns = np.indices(grey.shape) + 0.5
    spot = np.array([(grey * columns).sum(), (grey * rows).sum()]) / grey.sum()
    assert input_to_image(spot, window, height, width) == pytest.approx([33, 63], abs=0.05)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_image_and_input_are_inverses(dtype: type) -> None:
    points = np.random.default_rng(3).uniform(-50, 500, (5, 14, 2)).astype(dtype)
    window = Window(-13, 27, 151, 201)
    there = image_to_input(points, window, 256, 192)
    back = input_to_image(there, window, 256, 192)
    assert back.dtype == dtype
    assert np.abs(back - points).max() < 1e-3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [0, 1, 7])  # nobody, a batch of one, several
def test_a_batch_goes_back_as_each_alone(count: int, dtype: type) -> None:
    rng = np.random.default_rng(count)
    points = rng.uniform(0, 256, (count, 14, 2)).astype(dtype)
    windows = [Window(*(int(side) for side in rng.integers(1, 999, 4))) for _ in range(count)]
    got = inputs_to_images(points, windows, 256, 192)
    assert (got.dtype, got.shape) == (dtype, points.shape)
    for row, window, image in zip(points, windows, got, strict=True):
        assert np.array_equal(input_to_image(row, window, 256, 192), image)


def test_what_follows_x_and_y_stays() -> None:
    points = np.random.default_rng(5).uniform(0, 1, (14, 3)).astype(np.float32)
    window = Window(-13, 27, 151, 201)
    got = input_to_image(points, window, 256, 192)
    assert np.array_equal(got[:, :2], input_to_image(points[:, :2], window, 256, 192))
    assert np.array_equal(got[:, 2], points[:, 2])


def test_corners_go_to_corners() -> None:
    window = Window(10, 20, 30, 40)
    corners = np.array([[0.0, 0.0], [192.0, 256.0]])
    assert input_to_image(corners, window, 256, 192).tolist() == [[10, 20], [40, 60]]


def test_the_box_of_one_point_has_an_area() -> None:
    assert Region.around(np.array([[3.0, 4.0]])) == Region(3, 4, 1, 1)
    assert Region.around(np.array([[3.0, 4.0], [9.0, 2.0]])) == Region(3, 2, 6, 2)
