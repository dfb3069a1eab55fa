"""Which exported person each corrected one is: pure, for the persons of one image.

Tools drop our key and count ids anew, so places decide: every corrected person gets an exported
one as long as there are any, so that all distances together are smallest. However far an
annotator moved somebody: who is alone in the image cannot be anybody else. Axes: N persons of
one image, K keypoints.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Key = tuple[str, int]
"""Frame digest and place in it, as exported."""

_SURE = 1e9
"""Far more than any distance in px: what a key says goes before every place."""
_ID = 1e-6
"""What the same id is worth: it decides only between equal places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Persons:
    """The persons of one image, in px of the exported one."""

    ids: Sequence[int | str]
    keys: Sequence[Key | None]
    points: NDArray[np.float64]
    """(N, K, 2)"""
    visibility: NDArray[np.int8]
    """(N, K)"""
    boxes: NDArray[np.float64]
    """(N, 4): x, y, width, height; no box where width or height is not above 0."""
    tolerances: NDArray[np.float64]
    """(N, 2), px by which a tool's rounding may have moved a joint."""

    def __len__(self) -> int:
        return len(self.ids)

    def subset(self, places: Sequence[int]) -> "Persons":
        """Some of them, in that order."""
        return Persons(
            ids=[self.ids[place] for place in places],
            keys=[self.keys[place] for place in places],
            **{name: getattr(self, name)[places] for name in _ARRAYS},
        )

    @property
    def extents(self) -> NDArray[np.float64]:
        """(N, 4), the boxes, else those of the labelled joints."""
        labelled = (self.visibility > 0)[..., None]
        low = np.where(labelled, self.points, np.inf).min(axis=1)
        high = np.where(labelled, self.points, -np.inf).max(axis=1)
        boxed = self.boxes[:, 2:].min(axis=1, keepdims=True) > 0
        return np.where(boxed, self.boxes, np.concatenate([low, high - low], axis=1))


_ARRAYS = ("points", "visibility", "boxes", "tolerances")


def match(corrected: Persons, exported: Persons) -> list[int]:
    """For each corrected person the place of the exported one, −1 for who was added."""
    costs = _distances(corrected, exported)
    for one, key in enumerate(corrected.keys):
        for other, known in enumerate(exported.keys):
            costs[one, other] -= _ID * (corrected.ids[one] == exported.ids[other])
            if key is not None and key in exported.keys:
                costs[one, other] += -_SURE if key == known else _SURE
    found = [-1] * len(corrected)
    for one, other in zip(*map(np.ndarray.tolist, linear_sum_assignment(costs)), strict=True):
        if costs[one, other] < _SURE / 2:
            found[one] = other
    return found


def copies(persons: Persons) -> dict[int, int]:
    """Who has just the joints of one before: place → place of that one.

    A tool may write a person twice, as a track and as a shape; labels do not count twice. Who
    kept our key is the first of them, wherever it stands.
    """
    order = sorted(range(len(persons)), key=lambda place: persons.keys[place] is None)
    known: dict[bytes, int] = {}
    found = {}
    for place in order:
        labelled = persons.visibility[place][:, None] > 0
        joints = np.where(labelled, persons.points[place], 0).round(3) + 0.0  # no minus zero
        first = known.setdefault(joints.tobytes() + labelled.tobytes(), place)
        if first != place:
            found[place] = first
    return found


def is_untouched(corrected: Persons, one: int, exported: Persons, other: int) -> bool:
    """Whether a corrected person has the joints that were exported, up to the tool's rounding.

    The boxes do not tell: tools draw them anew.
    """
    seen = corrected.visibility[one]
    if (seen != exported.visibility[other]).any():
        return False
    moved = np.abs(corrected.points[one] - exported.points[other])[seen > 0]
    return bool((moved <= corrected.tolerances[one]).all())


def restored(
    corrected: Persons,
    pairs: Sequence[int],
    exported: Persons,
    held: tuple[NDArray[np.float64], NDArray[np.int8]],
) -> Persons:
    """The corrected persons with what their file's format lost of joints that nobody touched.

    Args:
        corrected: as they came back.
        pairs: from ``match``.
        exported: as they went out.
        held: points and visibility of the same as the format has them.
    """
    points, visibility = corrected.points.copy(), corrected.visibility.copy()
    for one, other in enumerate(pairs):
        if other >= 0:
            moved = np.abs(points[one] - held[0][other]) > corrected.tolerances[one]
            same = (visibility[one] == held[1][other]) & ~moved.any(axis=-1)
            points[one][same] = exported.points[other][same]
            visibility[one][same] = exported.visibility[other][same]
    return replace(corrected, points=points, visibility=visibility)


def uncovered(persons: Persons, covered: Sequence[tuple[float, float, float, float]]) -> Persons:
    """The persons without labels in some boxes, each x, y, width and height in px."""
    visibility = persons.visibility.copy()
    for x, y, width, height in covered:
        inside = (persons.points >= [x, y]) & (persons.points <= [x + width, y + height])
        visibility[inside.all(axis=-1)] = 0
    return replace(persons, visibility=visibility)


def _distances(corrected: Persons, exported: Persons) -> NDArray[np.float64]:
    """(corrected, exported): how far the joints lie apart, and the middle from the region's.

    The region counts because a network that fails may well find the neighbour: then two persons
    have the same joints, and only the region tells whose they are.
    """
    joints = corrected.points[:, None] - exported.points
    both = (corrected.visibility[:, None] > 0) & (exported.visibility > 0)
    apart = np.where(both, np.hypot(joints[..., 0], joints[..., 1]), 0)
    mean = apart.sum(axis=-1) / np.maximum(both.sum(axis=-1), 1)
    centres = _centres(corrected)[:, None] - _centres(exported)
    distances: NDArray[np.float64] = mean + np.hypot(centres[..., 0], centres[..., 1])
    return distances


def _centres(persons: Persons) -> NDArray[np.float64]:
    extents = persons.extents
    centres: NDArray[np.float64] = extents[:, :2] + extents[:, 2:] / 2
    return centres
