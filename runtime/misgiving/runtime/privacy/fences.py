"""Places on Earth in which frames are kept, or are not. Pure."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.nouns import Position

_EARTH_M = 6_371_008.8
"""Mean radius; the Earth is taken for a ball, which is wrong by .5 % of a distance at most."""


@dataclass(frozen=True, slots=True)
class Circle:
    """All that is near enough to a place.

    Raises:
        InvalidInput: the radius is no positive number.
    """

    centre: Position
    radius_m: float

    def __post_init__(self) -> None:
        if not 0 < self.radius_m < math.inf:
            raise InvalidInput(f"radius_m is {self.radius_m:g}; expected metres, above 0")

    def holds(self, place: Position) -> bool:
        """Whether a place is in it or on its rim."""
        a, b = math.radians(self.centre.latitude), math.radians(place.latitude)
        east = math.radians(place.longitude - self.centre.longitude)
        chord = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(east / 2) ** 2
        return 2 * _EARTH_M * math.asin(min(1.0, math.sqrt(chord))) <= self.radius_m


@dataclass(frozen=True, slots=True)
class Polygon:
    """All that is between some corners, whose edges are straight on a map of degrees; it may cross
    the 180th meridian, and holds no pole.

    Raises:
        InvalidInput: fewer than three corners, or half the Earth wide.
    """

    corners: tuple[Position, ...]

    def __post_init__(self) -> None:
        if len(self.corners) < 3:
            raise InvalidInput(
                f"a polygon has {len(self.corners)} corners; expected 3 or more. Add some"
            )
        east = self._east_of(self.corners[0])
        if max(east) - min(east) >= 180:
            raise InvalidInput("a polygon is half the Earth wide; expected less. Divide it")

    def holds(self, place: Position) -> bool:
        """Whether a place is in it or on an edge."""
        first = self.corners[0]
        east = np.array(self._east_of(first)) - _turned(place.longitude - first.longitude)
        north = np.array([corner.latitude for corner in self.corners]) - place.latitude
        # Seen from the place, so that float32, which OpenCV takes, is precise where it decides.
        outline = np.stack([east, north], axis=1).astype(np.float32)
        return cv2.pointPolygonTest(outline, (0.0, 0.0), False) >= 0

    def _east_of(self, place: Position) -> list[float]:
        return [_turned(corner.longitude - place.longitude) for corner in self.corners]


Fence = Circle | Polygon


def _turned(degrees: float) -> float:
    """The same angle, -180 to 180."""
    return (degrees + 180) % 360 - 180
