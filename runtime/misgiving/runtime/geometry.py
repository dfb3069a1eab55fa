"""The one home of coordinates: image ↔ input ↔ heatmap.

Every space is continuous: its top-left corner is (0, 0), pixel (row i, column j) covers
[j, j + 1) × [i, i + 1) and has its centre at (j + 0.5, i + 0.5). Going from one space to
another is therefore a scale and a shift, with no half pixels left over:

1. a **region** (person box, image px) grows by the crop rule's padding and to the input's
   aspect, and is rounded to whole image pixels: the **window**;
2. the window is cut out, black where it leaves the image, and resized to the **input**;
3. the network answers in **heatmap** cells, ``stride`` input px each.

Training's evaluation, export's parity and the runtime all cut with :func:`cut`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from misgiving.runtime.errors import RegionError, ResourceExhausted

MAX_REGIONS = 64
"""Persons of one frame; more is refused."""

Points = TypeVar("Points", bound=NDArray[np.floating])


class CropRule(BaseModel):
    """How a region becomes the network's input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: int = Field(gt=0)
    """Input height in px."""
    width: int = Field(gt=0)
    """Input width in px."""
    padding: float = Field(ge=1.0)
    """Window size over region size. The whole frame, having no surroundings, is not padded."""


@dataclass(frozen=True, slots=True)
class Region:
    """A person's box in image px.

    >>> Region.around(np.array([[40.0, 10.0], [160.0, 210.0]]))
    Region(x=40.0, y=10.0, width=120.0, height=200.0)
    """

    x: float
    y: float
    width: float
    height: float

    @classmethod
    def around(cls, points: NDArray[np.floating]) -> "Region":
        """The tight box of points, shape (N, 2), N ≥ 1; at least one px wide and high."""
        low, high = points.min(axis=0), points.max(axis=0)
        width, height = np.maximum(high - low, 1.0)
        return cls(float(low[0]), float(low[1]), float(width), float(height))


@dataclass(frozen=True, slots=True)
class Window:
    """What is cut out of an image: whole pixels, may reach outside it."""

    left: int
    top: int
    width: int
    height: int


def whole_pixels(points: NDArray[np.floating], frame: Region) -> Region:
    """The smallest box of whole pixels around points, (N, 2), as far as it lies in the frame."""
    size = np.array([frame.width, frame.height])
    low = np.clip(np.floor(points.min(axis=0)), 0, size - 1)
    high = np.clip(np.ceil(points.max(axis=0)), low + 1, size)
    return Region(*map(float, (*low, *(high - low))))


def check_count(regions: int, frame_id: str) -> None:
    """Raise ResourceExhausted for more regions than a frame may have."""
    if regions > MAX_REGIONS:
        raise ResourceExhausted(
            f"frame {frame_id!r} has {regions} regions; at most {MAX_REGIONS} are answered. "
            "Send the rest in another frame"
        )


def check_area(region: Region) -> None:
    """Raise RegionError unless the region is finite and has an area."""
    corners = (region.x, region.y, region.x + region.width, region.y + region.height)
    finite = all(map(math.isfinite, corners))
    if not (finite and region.width > 0 and region.height > 0):
        raise RegionError(
            f"region is {_text(region)}; expected finite numbers with width and height above 0"
        )


def check_region(region: Region, image_height: int, image_width: int) -> None:
    """Raise RegionError unless the region has an area and touches the image."""
    check_area(region)
    corners = (region.x, region.y, region.x + region.width, region.y + region.height)
    outside_x = corners[2] <= 0 or corners[0] >= image_width
    if outside_x or corners[3] <= 0 or corners[1] >= image_height:
        raise RegionError(
            f"region is {_text(region)}, outside the image of {image_width} × {image_height} px; "
            "send x,y,width,height in pixels of this image"
        )


def window_of(region: Region | None, image_height: int, image_width: int, rule: CropRule) -> Window:
    """The window that the crop rule cuts for a region, or for the whole frame.

    Raises:
        RegionError: the region has no area or lies outside the image.
    """
    padding = 1.0 if region is None else rule.padding
    region = region or Region(0, 0, image_width, image_height)
    check_region(region, image_height, image_width)
    # A box far larger than its image would only add black: nothing beyond one image around it.
    wide = min(region.width * padding, 3.0 * image_width)
    high = min(region.height * padding, 3.0 * image_height)
    scale = max(wide / rule.width, high / rule.height)
    width, height = (max(1, round(side * scale)) for side in (rule.width, rule.height))
    left = round(region.x + region.width / 2 - width / 2)
    top = round(region.y + region.height / 2 - height / 2)
    return Window(left, top, width, height)


def cut(image: NDArray[np.uint8], window: Window, height: int, width: int) -> NDArray[np.uint8]:
    """Cut a window out of an image (H, W, 3) and resize it to (height, width, 3).

    Black where the window leaves the image. Averages areas when it shrinks (no aliasing) and
    interpolates when it enlarges.
    """
    rows, columns = image.shape[:2]
    top, left = max(window.top, 0), max(window.left, 0)
    bottom = min(window.top + window.height, rows)
    right = min(window.left + window.width, columns)
    inside = image[top : max(bottom, top), left : max(right, left)]
    if inside.shape[:2] != (window.height, window.width):
        padded = np.zeros((window.height, window.width, 3), np.uint8)
        y, x = top - window.top, left - window.left
        padded[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
        inside = padded
    shrinks = window.width * window.height > width * height
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(inside, (width, height), interpolation=method), np.uint8)


def input_to_image(points: Points, window: Window, height: int, width: int) -> Points:
    """Input px → image px, last axis x, y; what follows them stays."""
    rest = points.shape[-1] - 2
    scale = (window.width / width, window.height / height, *[1] * rest)
    shift = (window.left, window.top, *[0] * rest)
    by, to = np.array((scale, shift), points.dtype)
    image: Points = points * by + to
    return image


def inputs_to_images(points: Points, windows: Sequence[Window], height: int, width: int) -> Points:
    """Input px → image px of several persons, (N, K, 2), each with a window of its own."""
    corners = np.array([(w.left, w.top) for w in windows], points.dtype)
    scales = np.array([(w.width / width, w.height / height) for w in windows], points.dtype)
    return points * scales.reshape(-1, 1, 2) + corners.reshape(-1, 1, 2)  # type: ignore[return-value]


def image_to_input(points: Points, window: Window, height: int, width: int) -> Points:
    """Image px → input px, last axis x, y."""
    scale = np.array([width / window.width, height / window.height], points.dtype)
    return (points - np.array([window.left, window.top], points.dtype)) * scale  # type: ignore[return-value]


def _text(region: Region) -> str:
    return f"{region.x:g},{region.y:g},{region.width:g},{region.height:g}"
