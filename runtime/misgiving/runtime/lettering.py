"""Text in pictures: labels that stand outside the box they speak of, and the key in a corner."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
Picture = NDArray[np.uint8]

SHADOW: Final[Colour] = (20, 20, 20)
WHITE: Final[Colour] = (255, 255, 255)

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SMALLEST = 0.45  # of cv2's font sizes, still readable
_BRIGHTNESS = (0.3, 0.59, 0.11)  # of red, green, blue
_PER_PX = 1 / 1800  # font size for each px of the picture's longer side
_BEHIND_KEY = 0.75  # how much of the picture the key's ground hides


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of whole pixels; right and bottom are the first ones outside."""

    left: int
    top: int
    right: int
    bottom: int

    def meets(self, other: "Box") -> bool:
        """Whether the two share a pixel."""
        wide = self.left < other.right and other.left < self.right
        return wide and self.top < other.bottom and other.top < self.bottom

    def within(self, width: int, height: int) -> bool:
        """Whether all of it lies in a picture."""
        return self.left >= 0 and self.top >= 0 and self.right <= width and self.bottom <= height


class Mark(Enum):
    """What the key shows before a line."""

    DOT = "dot"
    RING = "ring"
    BOX = "box"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the key."""

    mark: Mark
    colour: Colour
    text: str


def draw_label(
    picture: Picture, text: str, around: Box, colour: Colour, taken: Sequence[Box]
) -> Box | None:
    """A bar with text, outside a box where the picture has room.

    Args:
        picture: RGB, shape (H, W, 3), written to.
        text: ASCII, as cv2 draws no other.
        around: what it speaks of; beside a small box the text is smaller.
        colour: of the bar; the text is dark or white, whichever is read better.
        taken: where other text stands.

    Returns:
        Where it stands, None where there is no free place: labels over labels cannot be read.
    """
    size = _font_size(picture)
    fitting = 1.25 * size * (around.right - around.left) / _text_size(text, size)[0]
    size = max(_SMALLEST, size / 2, min(size, fitting))
    place = label_place(around, *_text_size(text, size), picture.shape, taken)
    if place is None:
        return None
    cv2.rectangle(picture, (place.left, place.top), (place.right - 1, place.bottom - 1), colour, -1)
    ink = SHADOW if np.dot(colour, _BRIGHTNESS) > 150 else WHITE
    _write(picture, text, place.left, place.top, size, ink)
    return place


def label_place(
    around: Box, width: int, height: int, shape: tuple[int, ...], taken: Sequence[Box]
) -> Box | None:
    """The first free place above, below, right or left of a box, else inside at its top."""
    for left, top in _places(around, width, height, shape):
        place = Box(left, top, left + width, top + height)
        if place.within(shape[1], shape[0]) and not any(place.meets(other) for other in taken):
            return place
    return None


def _places(
    around: Box, width: int, height: int, shape: tuple[int, ...]
) -> Iterator[tuple[int, int]]:
    lefts = [max(0, min(left, shape[1] - width)) for left in (around.left, around.right - width)]
    top = max(0, min(around.top, shape[0] - height))
    for outside in (around.top - height, around.bottom):
        yield from ((left, outside) for left in lefts)
    yield from ((left, top) for left in (around.right, around.left - width, *lefts))


def draw_key(picture: Picture, rows: Sequence[Row], avoided: NDArray[np.floating]) -> Box | None:
    """What the colours mean, in the corner that hides least.

    Args:
        picture: RGB, shape (H, W, 3), written to.
        rows: one below the other.
        avoided: points, (N, 2), of which as few as possible are covered.

    Returns:
        Where it stands, None where it would take more than half of the picture's width or height.
    """
    size = _font_size(picture)
    texts = [_text_size(row.text, size) for row in rows]
    line = max((height for _, height in texts), default=0)
    width = max((width for width, _ in texts), default=0) + line
    if not rows or 2 * line * len(rows) > picture.shape[0] or 2 * width > picture.shape[1]:
        return None
    place = _corner(picture.shape, width, line * len(rows), avoided)
    ground = picture[place.top : place.bottom, place.left : place.right]
    ground[:] = (ground * (1 - _BEHIND_KEY) + np.array(SHADOW) * _BEHIND_KEY).astype(np.uint8)
    for index, row in enumerate(rows):
        top = place.top + index * line
        _draw_mark(picture, row, place.left + line // 2, top + line // 2, line // 4)
        _write(picture, row.text, place.left + line, top, size, WHITE)
    return place


def _corner(shape: tuple[int, ...], width: int, height: int, avoided: NDArray[np.floating]) -> Box:
    low, right = shape[0] - height, shape[1] - width
    corners = [(0, low), (right, low), (right, 0), (0, 0)]
    places = [Box(x, y, x + width, y + height) for x, y in corners]
    return min(places, key=lambda place: _covered(place, avoided))


def _covered(place: Box, points: NDArray[np.floating]) -> int:
    low, high = (place.left, place.top), (place.right, place.bottom)
    return int(((points >= low) & (points < high)).all(axis=-1).sum())


def _draw_mark(picture: Picture, row: Row, x: int, y: int, radius: int) -> None:
    thin = max(1, radius // 3)
    if row.mark is Mark.BOX:
        corners = (x - radius, y - radius), (x + radius, y + radius)
        cv2.rectangle(picture, *corners, row.colour, thin)
    else:
        filled = -1 if row.mark is Mark.DOT else thin
        cv2.circle(picture, (x, y), radius, row.colour, filled, cv2.LINE_AA)


def _font_size(picture: Picture) -> float:
    longer: int = max(picture.shape[:2])
    return max(_SMALLEST, _PER_PX * longer)


def _text_size(text: str, size: float) -> tuple[int, int]:
    """Width and height of a text with its margins."""
    (width, height), below = cv2.getTextSize(text, _FONT, size, _thickness(size))
    margin = height // 2
    return width + 2 * margin, height + below + margin


def _write(picture: Picture, text: str, left: int, top: int, size: float, ink: Colour) -> None:
    (_, height), _ = cv2.getTextSize(text, _FONT, size, _thickness(size))
    at = (left + height // 2, top + height + height // 4)
    cv2.putText(picture, text, at, _FONT, size, ink, _thickness(size), cv2.LINE_AA)


def _thickness(size: float) -> int:
    return max(1, round(size))
