"""What every format of an annotation tool has: a writer, a reader, and what it cannot hold."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from misgiving.collector.annotations.coco import Document
from misgiving.collector.annotations.exported import Exported
from misgiving.runtime.errors import DataError
from misgiving.runtime.keypoints import places_of

Joint = tuple[float, float, int]
"""x and y in px, and COCO's visibility."""
UNLABELLED: Joint = (0.0, 0.0, 0)


@dataclass(frozen=True, kw_only=True)
class Returned:
    """What a tool handed back, as COCO."""

    path: Path
    """Of its file, for what is said."""
    content: bytes | None = None
    """COCO's JSON; the file's own by default."""
    relative: bool = False
    """The tool keeps coordinates as shares of the image's sides."""
    submitted: frozenset[str] = frozenset()
    """Exported images that somebody has finished, as the tool says."""
    said: tuple[str, ...] = ()


Held = Callable[
    [NDArray[np.float64], NDArray[np.int8], NDArray[np.int64]],
    tuple[NDArray[np.float64], NDArray[np.int8]],
]
"""Points (N, K, 2) and visibility (N, K) of an image of some width and height → the same as a
format has them."""


@dataclass(frozen=True, kw_only=True)
class AnnotationFormat:
    """How an annotation tool reads and writes persons."""

    name: str
    pattern: str
    """Of the file that annotators correct, below the folder of an export."""
    write: Callable[[Path, Document, str], None]
    """Into the folder of an export, beside its images; the text is the batch's name."""
    read: Callable[[Path, Exported], Returned]
    """The file as it came back. Raises DataError where it cannot be understood."""
    held: Held | None = None
    """What the format loses; None where it holds everything."""

    def file(self, folder: Path) -> Path | None:
        """That file, where there is one."""
        return next(iter(sorted(folder.glob(self.pattern))), None)


def lost(kind: AnnotationFormat, document: Document) -> int:
    """How many labelled joints a format holds only in part."""
    if kind.held is None:
        return 0
    count = 0
    for image, persons in document.by_image():
        joints = np.array([person.joints for person in persons], np.float64)
        joints = joints.reshape(len(persons), -1, 3)
        points, visibility = joints[..., :2], joints[..., 2].astype(np.int8)
        size = np.array([image.width, image.height], np.int64)
        held_points, held_visibility = kind.held(points, visibility, size)
        changed = (held_visibility != visibility) | (held_points != points).any(axis=-1)
        count += int((changed & (visibility > 0)).sum())
    return count


@dataclass
class Sheet:
    """COCO's lists, as the reader of another format fills them."""

    category: str
    names: Sequence[str]
    """Of the joints."""
    skeleton: Sequence[tuple[int, int]] = ()
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def image(self, name: str, size: Sequence[float]) -> int:
        """Add an image; returns its id. ``size``: width and height in px, 0 where not told."""
        number = len(self.images) + 1
        self.images.append({"id": number, "file_name": name, "width": size[0], "height": size[1]})
        return number

    def person(
        self,
        name: int | str,
        image: int,
        joints: Iterable[Sequence[float]],
        box: Sequence[float] = (),
    ) -> None:
        """Add a person of an image; ``joints`` as x, y, visibility, in the order of ``names``."""
        flat = [number for joint in joints for number in joint]
        self._add(name, image, 1, keypoints=flat, bbox=list(box))

    def other(self, name: int | str, image: int) -> None:
        """Add what is no person, so that it is counted."""
        self._add(name, image, 2)

    def _add(self, name: int | str, image: int, category: int, **values: Any) -> None:
        row = {"id": name, "image_id": image, "category_id": category}
        self.annotations.append(row | values)

    def content(self) -> bytes:
        """As a file of COCO."""
        category = {"id": 1, "name": self.category, "keypoints": list(self.names)}
        category["skeleton"] = [[a + 1, b + 1] for a, b in self.skeleton]
        lists = {"images": self.images, "annotations": self.annotations}
        return json.dumps(lists | {"categories": [category]}).encode()


class JointPlaces:
    """Where joints of some names belong in a person, however a tool spells them.

    Args:
        what: the file, for errors.
        names: of the exported joints, in order.
    """

    def __init__(self, what: object, names: Sequence[str]) -> None:
        self._what = what
        self._names = names
        self._known: dict[str, int] = {}

    def place(self, name: str) -> int:
        """DataError where no exported joint has that name."""
        if name not in self._known:
            (self._known[name],) = places_of(self._names, [name])
        if (place := self._known[name]) < 0:
            raise DataError(
                f"{self._what} has keypoint {name!r}; expected the {len(self._names)} that were "
                f"exported, {', '.join(self._names[:3])}… Keep the exported labels"
            )
        return place

    def person(self, whose: str, joints: Iterable[tuple[str, Joint]]) -> list[Joint]:
        """All joints of a person in order, those that are not named not labelled.

        Raises:
            DataError: a name is unknown, or there twice.
        """
        found: dict[int, Joint] = {}
        for name, joint in joints:
            place = self.place(name)
            if place in found:
                raise DataError(
                    f"{self._what}: {whose} has {name} twice; expected each joint once. Delete one"
                )
            found[place] = joint
        return [found.get(place, UNLABELLED) for place in range(len(self._names))]


def size_of(exported: Exported, place: int) -> tuple[int, int]:
    """Width and height of an exported image; 1 × 1 for one that is none (−1), which is refused."""
    if place < 0:
        return 1, 1
    width, height = exported.images.sizes[place].tolist()
    return width, height
