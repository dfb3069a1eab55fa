"""Where a person's head may be, as far as an answer tells. Pure.

A head lies around its joints, and the less an answer is to be believed, the farther from them.
Where the answer has more likely failed than not, the upper part of the person's window is taken
too: a network that has lost a person has the head anywhere. ``benchmarks/head_blur.py`` measures
how many true heads that covers. Axes: K keypoints.
"""

from collections.abc import Sequence

import numpy as np

from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.geometry import CropRule, Region, window_of
from misgiving.runtime.joint_names import without_side
from misgiving.runtime.nouns import Person

SURE, DOUBTFUL = 0.7, 1.5
"""Half a side of the box in head lengths: of an answer that is sure, and what certain failure
adds."""
UPPER = 0.8
"""How far down the region the upper part reaches. Of a grid of these three, what hides least of the
picture where .96 of the heads of flagged persons of LSPET 8001-9000 are covered, looked for in the
whole picture as it is and turned by 20° and 40° to both sides; of others as many as before."""
_OF_PERSON = 0.24
"""A head's length in sides of a square as large as the person's region: LSPET's median."""
_OF_FACE = 2.0
"""A head's length in the distance of the farthest two joints of a face."""
_SPINE = ("head_top", "neck", "upper_neck")
_FACE = ("nose", "eye", "ear")


def head_joints(names: Sequence[str]) -> list[int]:
    """Which of some joints are a head's, by their place.

    Raises:
        InvalidInput: none is.
    """
    found = [at for at, name in enumerate(names) if without_side(name) in (*_SPINE, *_FACE)]
    if not found:
        raise InvalidInput(
            f"heads are to be blurred, and of the joints {', '.join(names[:3])}… none is a head's; "
            f"expected one of {', '.join((*_SPINE, *_FACE))}. Use privacy.crop, or a hook"
        )
    return found


def head_boxes(
    person: Person, names: Sequence[str], rule: CropRule, height: int, width: int
) -> list[Region]:
    """Boxes in image px that cover a head, as far as it can be told.

    Args:
        person: answered.
        names: of the K joints.
        rule: of the bundle that answered.
        height: of the image, in px.
        width: of the image, in px.

    Raises:
        InvalidInput: no joint is a head's.
    """
    window, region = window_of(person.region, height, width, rule), person.region
    left, top = float(window.left), float(window.top)
    points = person.keypoints[head_joints(names), :2].astype(float)
    if not np.isfinite(points).all():
        return [Region(left, top, window.width, window.height)]
    doubt = 1.0 if person.failure_probability is None else person.failure_probability
    reach = _length(person, names) * (SURE + DOUBTFUL * doubt)
    x, y = points.mean(axis=0).tolist()
    boxes = [Region(x - reach, y - reach, 2 * reach, 2 * reach)]
    if doubt >= 0.5:
        boxes.append(Region(left, top, window.width, region.y + region.height * UPPER - top))
    return boxes


def _length(person: Person, names: Sequence[str]) -> float:
    """About how long the head is, in px; never shorter than a person of that size has it."""
    spine = [at for at, name in enumerate(names) if without_side(name) in _SPINE]
    face = [at for at, name in enumerate(names) if without_side(name) in _FACE]
    side = float(np.sqrt(person.region.width * person.region.height))
    spans = _span(person, spine), _OF_FACE * _span(person, face), _OF_PERSON * side
    return max(spans)


def _span(person: Person, joints: list[int]) -> float:
    points = person.keypoints[joints, :2].astype(float)
    apart = np.linalg.norm(points[:, None] - points, axis=-1)
    return float(apart.max(initial=0.0))
