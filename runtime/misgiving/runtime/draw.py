"""Skeletons on pictures: left and right in different colours, doubtful joints hollow.

Axes: K keypoints, H W picture.
"""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.joint_names import side_of
from misgiving.runtime.keypoints import KeypointSet
from misgiving.runtime.nouns import Person

Colour = tuple[int, int, int]
Picture = NDArray[np.uint8]

LEFT: Colour = (255, 150, 40)
RIGHT: Colour = (40, 170, 255)
CENTRE: Colour = (240, 240, 240)
FLAGGED: Colour = (220, 40, 50)
CALM: Colour = (30, 130, 70)
SHADOW: Colour = (20, 20, 20)

DOUBTFUL_BELOW = 0.3
"""Confidence below which a joint is drawn hollow and its bones thin."""
SMALLEST_SIDE = 480
"""Pictures whose longer side is smaller are enlarged, so that lines do not cover the person."""

_SHIFT = 4  # cv2 draws at 1/16 px


def draw_result(image: Picture, persons: Iterable[Person], keypoints: KeypointSet) -> Picture:
    """A copy of an RGB image (H, W, 3), enlarged where it is small, with everything drawn in.

    >>> image = np.full((240, 320, 3), 128, np.uint8)
    >>> estimator = Estimator.load()
    >>> persons = estimator.infer(image).persons
    >>> draw_result(image, persons, estimator.bundle.manifest.keypoints).shape
    (360, 480, 3)

    Args:
        image: uint8.
        persons: of a result, in px of ``image``.
        keypoints: of the bundle that answered.
    """
    scale = max(1.0, SMALLEST_SIDE / max(image.shape[:2]))
    canvas = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    picture = np.ascontiguousarray(canvas, np.uint8)
    for person in persons:
        draw_skeleton(
            picture, person.keypoints * np.array([scale, scale, 1], np.float32), keypoints
        )
    for person in persons:
        _draw_score(picture, person, scale)
    return picture


def draw_skeleton(
    picture: Picture,
    points: NDArray[np.floating],
    keypoints: KeypointSet,
    doubtful_below: float = DOUBTFUL_BELOW,
) -> None:
    """Draw one person into an RGB picture.

    Args:
        picture: shape (H, W, 3), written to.
        points: shape (K, 3): x, y in px of this picture, and confidence. A joint that is not
            finite is left out.
        keypoints: gives the bones, and by their names the sides.
        doubtful_below: joints with less confidence are drawn hollow.
    """
    unit = max(1, round(max(picture.shape[:2]) / 320))
    drawable = np.isfinite(points).all(axis=-1) & (np.abs(points) < 1e6).all(axis=-1)
    sure = points[:, 2] >= doubtful_below
    for bone in keypoints.skeleton:
        if drawable[list(bone)].all():
            width = 2 * unit if sure[list(bone)].all() else unit
            _bone(picture, points[list(bone), :2], side_colour(keypoints.names, bone), width)
    for index in np.flatnonzero(drawable):
        colour = side_colour(keypoints.names, (int(index),))
        _joint(picture, points[index, :2], colour, 2 * unit + 1, bool(sure[index]))


def side_colour(names: Sequence[str], joints: Sequence[int]) -> Colour:
    """The colour of a joint or bone: its side's, or the centre's where it has none."""
    sides = {side_of(names[index]) for index in joints} - {""}
    if len(sides) != 1:
        return CENTRE
    return LEFT if sides == {"left"} else RIGHT


def draw_label(picture: Picture, text: str, left: int, top: int, colour: Colour) -> None:
    """White text on a coloured bar, moved so that it stays inside the picture."""
    size = max(0.4, max(picture.shape[:2]) / 1200)
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    margin = height // 2
    bar_width, bar_height = width + 2 * margin, height + below + margin
    left = max(0, min(left, picture.shape[1] - bar_width))
    top = max(0, min(top, picture.shape[0] - bar_height))
    cv2.rectangle(picture, (left, top), (left + bar_width, top + bar_height), colour, -1)
    at = (left + margin, top + height + margin // 2)
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, (255,) * 3, 1, cv2.LINE_AA)


def _draw_score(picture: Picture, person: Person, scale: float) -> None:
    flagged = person.flag.raised
    colour = FLAGGED if flagged else CALM
    region = person.region
    left, top, width, height = (
        round(max(-1e6, min(1e6, side * scale)))
        for side in (region.x, region.y, region.width, region.height)
    )
    thickness = max(1, max(picture.shape[:2]) // 400)
    cv2.rectangle(picture, (left, top), (left + width, top + height), colour, thickness)
    text = f"predicted loss {person.predicted_loss:.3f}{' FLAGGED' if flagged else ''}"
    draw_label(picture, text, left, top, colour)


def _bone(picture: Picture, ends: NDArray[np.floating], colour: Colour, width: int) -> None:
    start, stop = (_fixed(end) for end in ends)
    cv2.line(picture, start, stop, SHADOW, width + 2, cv2.LINE_AA, _SHIFT)
    cv2.line(picture, start, stop, colour, width, cv2.LINE_AA, _SHIFT)


def _joint(
    picture: Picture, point: NDArray[np.floating], colour: Colour, radius: int, sure: bool
) -> None:
    centre, fixed_radius = _fixed(point), radius << _SHIFT
    cv2.circle(picture, centre, fixed_radius, SHADOW, 3, cv2.LINE_AA, _SHIFT)
    cv2.circle(picture, centre, fixed_radius, colour, -1 if sure else 1, cv2.LINE_AA, _SHIFT)


def _fixed(point: NDArray[np.floating]) -> tuple[int, int]:
    """Continuous px → cv2's fixed point, whose whole numbers are pixel centres."""
    x, y = np.round((point - 0.5) * (1 << _SHIFT)).astype(int).tolist()
    return x, y
