"""Stored frames as pictures, drawn by the rules that all pictures have; see ``runtime.draw``."""

import cv2
import numpy as np
from pydantic import ValidationError

from misgiving.runtime.draw import draw_figures, draw_result, drawn_as
from misgiving.runtime.images import encode_jpeg
from misgiving.runtime.keypoints import KeypointSet
from misgiving.runtime.lettering import Picture
from misgiving.runtime.nouns import Person
from misgiving.runtime.wire.collected import KeptFrame

THUMB_PX = 384
LARGEST_PX = 1600
"""Longer sides, at most."""

_QUALITY = 85


def thumbnail(frame: KeptFrame) -> bytes:
    """A small JPEG with boxes and skeletons; the page says in words what labels would."""
    image, scale = _shrunk(frame.frame.decoded(), THUMB_PX)
    if keypoints := keypoints_of(frame):
        persons = [drawn_as(one).moved((scale, scale)) for one in drawable(frame, keypoints)]
        draw_figures(image, persons, keypoints)
    return encode_jpeg(image, _QUALITY)


def picture(frame: KeptFrame, *, plain: bool = False) -> bytes:
    """The frame as JPEG, with everything drawn in unless ``plain``."""
    image = frame.frame.decoded()
    if not plain and (keypoints := keypoints_of(frame)):
        image = draw_result(image, drawable(frame, keypoints), keypoints)
    return encode_jpeg(_shrunk(image, LARGEST_PX)[0], _QUALITY)


def keypoints_of(frame: KeptFrame) -> KeypointSet | None:
    """The joints that a frame names; None where what it names makes no set."""
    try:
        return KeypointSet(
            name="collected", names=frame.keypoint_names, skeleton=frame.skeleton, torso=()
        )
    except ValidationError:
        return None


def drawable(frame: KeptFrame, keypoints: KeypointSet) -> list[Person]:
    """Those with as many joints as there are names."""
    return [one for one in frame.persons if len(one.keypoints) == len(keypoints)]


def _shrunk(image: Picture, longest: int) -> tuple[Picture, float]:
    """An image that may be drawn into, and by which factor it was made smaller."""
    scale = min(1.0, longest / max(image.shape[:2]))
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.array(small, np.uint8), scale
