"""How persons are drawn, in every picture and page: what their limbs, boxes and labels look like.

A box is the part that was looked at, in the colour of the person's state. Left and right limbs
differ, doubtful ones are pale, and strokes grow with the person.

Axes: K keypoints, H W picture.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.geometry import Region
from misgiving.runtime.joint_names import side_of
from misgiving.runtime.keypoints import KeypointSet
from misgiving.runtime.lettering import (
    SHADOW,
    Box,
    Colour,
    Mark,
    Picture,
    Row,
    draw_key,
    draw_label,
)
from misgiving.runtime.nouns import Person

LEFT: Final[Colour] = (60, 220, 240)
RIGHT: Final[Colour] = (150, 90, 255)
CENTRE: Final[Colour] = (240, 240, 240)
RED: Final[Colour] = (214, 40, 50)
AMBER: Final[Colour] = (255, 176, 0)
GREY: Final[Colour] = (125, 125, 125)
SIDES = "left in cyan, right in violet, doubtful joints hollow and pale"
BOXES = (
    "Box: what was looked at, red where flagged, amber where P(failure) is 0.5 or more, else grey"
)
"""What a page says of its pictures, in place of the key."""

DOUBTFUL_BELOW = 0.3
"""Confidence below which a joint is doubtful, where the head does not tell joints apart."""
EVEN_ODDS = 0.5
"""Probability from which on a failure, or the miss of a joint, is more likely than not."""
SMALLEST_SIDE = 480
"""Pictures whose longer side is smaller are enlarged, so that lines do not cover the person."""

_PALE = 0.5  # how much of a doubtful limb is seen
_STROKES = 70  # strokes of a bone's width in a person's longer side
_SIDES = ((LEFT, "left"), (RIGHT, "right"))
_STATES = (
    (RED, "looked at, flagged"),
    (AMBER, "looked at, P(failure) >= 0.5"),
    (GREY, "looked at, not flagged"),
)
_NOWHERE = np.empty((0, 2))
_SHIFT = 4  # cv2 draws at 1/16 px
_FAR = 1e5  # px, beyond which cv2's fixed point overflows


@dataclass(frozen=True, slots=True)
class Drawn:
    """A person as it is drawn; all lengths in px of the picture."""

    points: NDArray[np.floating]
    """(K, 3): x, y and confidence. A joint that is not finite is left out."""
    joint_loss: NDArray[np.floating] | None = None
    """(K,) where the head tells joints apart."""
    region: Region | None = None
    """The part that was looked at; None draws no box."""
    predicted_loss: float = float("nan")
    failure_probability: float | None = None
    flagged: bool = False

    @property
    def colour(self) -> Colour:
        """Red: flagged. Amber: not flagged, though it more likely failed than not. Grey: else."""
        if self.flagged:
            return RED
        return AMBER if (self.failure_probability or 0) >= EVEN_ODDS else GREY

    @property
    def label(self) -> str:
        """P(failure), or the predicted loss where nothing is calibrated."""
        said = f"predicted loss {self.predicted_loss:.3f}"
        if self.failure_probability is not None:
            said = f"P(failure) {self.failure_probability:.2f}"
        return f"{said}, flagged" if self.flagged else said

    @property
    def doubtful(self) -> NDArray[np.bool_]:
        """(K,): joints that the head holds to be missed, or else of low confidence.

        Joint losses outside [0, 1] are no chances of a miss, and say nothing here.
        """
        loss = self.joint_loss
        if loss is not None and len(loss) and ((loss >= 0) & (loss <= 1)).all():
            return np.asarray(loss >= EVEN_ODDS)
        return ~(self.points[:, 2] >= DOUBTFUL_BELOW)

    @property
    def drawable(self) -> NDArray[np.bool_]:
        """(K,): joints that are somewhere."""
        near = np.abs(self.points) < _FAR
        return np.asarray(near.all(axis=-1))  # and so neither NaN nor infinite

    def box(self, picture: Picture) -> Box | None:
        """The region as far as it lies in the picture; None where nothing was looked at."""
        if self.region is None:
            return None
        one, (high, wide) = self.region, picture.shape[:2]
        sides = np.round((one.x, one.y, one.x + one.width, one.y + one.height))
        inside = np.clip(np.nan_to_num(sides), 0, (wide, high, wide, high))
        return Box(*inside.astype(int).tolist())

    def moved(self, scale: Sequence[float], shift: Sequence[float] = (0, 0)) -> "Drawn":
        """The same in another picture, whose px are ``scale * (px - shift)``; x before y."""
        points = self.points.astype(float)
        points[:, :2] = (points[:, :2] - shift) * scale
        if (one := self.region) is None:
            return replace(self, points=points)
        left, top = np.subtract((one.x, one.y), shift) * scale
        width, height = np.multiply((one.width, one.height), scale)
        return replace(self, points=points, region=Region(left, top, width, height))


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
    draw_persons(picture, [drawn_as(person).moved((scale, scale)) for person in persons], keypoints)
    return picture


def draw_persons(picture: Picture, persons: Sequence[Drawn], keypoints: KeypointSet) -> None:
    """Draw persons with their labels into an RGB picture, and the key of what is seen.

    Args:
        picture: shape (H, W, 3), written to.
        persons: as they are drawn.
        keypoints: give the bones, and by their names the sides.
    """
    draw_figures(picture, persons, keypoints)
    boxed = [(person, box) for person in persons if (box := person.box(picture))]
    seen = [person.points[person.drawable, :2] for person in persons]
    seen += [np.array([(box.left, box.top), (box.right - 1, box.bottom - 1)]) for _, box in boxed]
    key = draw_key(picture, _key(persons, keypoints), np.concatenate(seen or [_NOWHERE]))
    taken = [key] if key else []
    for person, box in sorted(boxed, key=lambda one: not one[0].flagged):
        if place := draw_label(picture, person.label, box, person.colour, taken):
            taken.append(place)


def draw_figures(picture: Picture, persons: Sequence[Drawn], keypoints: KeypointSet) -> None:
    """Draw boxes, limbs and joints alone, the doubtful ones pale; for pictures with a caption."""
    for person in sorted(persons, key=lambda person: person.flagged):  # flags are not covered
        if box := person.box(picture):
            _draw_box(picture, box, person.colour)
    faint = picture.copy()
    for person in persons:
        _skeleton(faint, person, keypoints, doubtful=True)
    cv2.addWeighted(faint, _PALE, picture, 1 - _PALE, 0, dst=picture)
    for person in persons:
        _skeleton(picture, person, keypoints, doubtful=False)


def side_colour(names: Sequence[str], joints: Sequence[int]) -> Colour:
    """The colour of a joint or bone: its side's, or the centre's where it has none."""
    sides = {side_of(names[index]) for index in joints} - {""}
    if len(sides) != 1:
        return CENTRE
    return LEFT if sides == {"left"} else RIGHT


def stroke(extent: float, picture: Picture) -> float:
    """Width in px of a bone of a person whose longer side is ``extent`` px; boxes have half."""
    return float(np.clip(extent / _STROKES, 1, max(1, max(picture.shape[:2]) / _STROKES)))


def drawn_as(person: Person) -> Drawn:
    """A person as it is drawn in the px of its image."""
    return Drawn(
        person.keypoints,
        person.keypoint_loss,
        person.region,
        person.predicted_loss,
        person.failure_probability,
        person.flag.raised,
    )


def _key(persons: Sequence[Drawn], keypoints: KeypointSet) -> list[Row]:
    """Of what is to be seen."""
    shown = {
        side_colour(keypoints.names, [int(index)])
        for person in persons
        for index in np.flatnonzero(person.drawable)
    }
    rows = [
        Row(Mark.DOT, colour, f"the person's {side}") for colour, side in _SIDES if colour in shown
    ]
    if any((person.doubtful & person.drawable).any() for person in persons):
        rows.append(Row(Mark.RING, CENTRE, "doubtful"))
    states = {person.colour for person in persons if person.region}
    return rows + [Row(Mark.BOX, colour, said) for colour, said in _STATES if colour in states]


def _draw_box(picture: Picture, box: Box, colour: Colour) -> None:
    extent = max(box.right - box.left, box.bottom - box.top)
    width = max(2, round(stroke(extent, picture) / 2))
    corners = (box.left, box.top), (box.right - 1, box.bottom - 1)
    cv2.rectangle(picture, *corners, SHADOW, width + 2)
    cv2.rectangle(picture, *corners, colour, width)


def _skeleton(picture: Picture, person: Drawn, keypoints: KeypointSet, *, doubtful: bool) -> None:
    """The sure or the doubtful part of a person; a bone is as sure as its two ends."""
    drawable, doubt, points = person.drawable, person.doubtful, person.points
    extent = np.ptp(points[drawable, :2], axis=0).max() if drawable.any() else 0
    width = stroke(extent, picture)
    for bone in map(list, keypoints.skeleton):
        if drawable[bone].all() and doubt[bone].any() == doubtful:
            _bone(picture, points[bone, :2], side_colour(keypoints.names, bone), width)
    for index in np.flatnonzero(drawable & (doubt == doubtful)):
        colour = side_colour(keypoints.names, [int(index)])
        _joint(picture, points[index, :2], colour, width, hollow=doubtful)


def _bone(picture: Picture, ends: NDArray[np.floating], colour: Colour, width: float) -> None:
    start, stop = (_fixed(end) for end in ends)
    cv2.line(picture, start, stop, SHADOW, round(1.6 * width) + 1, cv2.LINE_AA, _SHIFT)
    cv2.line(picture, start, stop, colour, round(width), cv2.LINE_AA, _SHIFT)


def _joint(
    picture: Picture, point: NDArray[np.floating], colour: Colour, width: float, *, hollow: bool
) -> None:
    centre, rim = _fixed(point), max(1, round(0.4 * width))
    radius = round((2 if hollow else 1.5) * width * (1 << _SHIFT))
    cv2.circle(picture, centre, radius, SHADOW, rim + 2, cv2.LINE_AA, _SHIFT)
    cv2.circle(picture, centre, radius, colour, rim if hollow else -1, cv2.LINE_AA, _SHIFT)


def _fixed(point: NDArray[np.floating]) -> tuple[int, int]:
    """Continuous px → cv2's fixed point, whose whole numbers are pixel centres."""
    x, y = np.round((point - 0.5) * (1 << _SHIFT)).astype(int).tolist()
    return x, y
