"""Files of COCO person keypoints, as our own tools and other people's write them.

The one reader for ``coco:`` data and for what comes back from annotators. What is clear in spite
of the format is understood: a byte order mark, UTF-16, ids as texts, null for nothing, a path in
place of a file name, bones that are counted from 0. Axes: N persons, K keypoints.

A file may hold a million persons, so an annotation is a row in columns and not an object.
"""

import json
import math
from array import array
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from misgiving.runtime.errors import DataError, first_problem
from misgiving.runtime.keypoints import KeypointSet, of_category

_ROW = object()
"""Stands in the parsed file where an annotation was."""
_FIRST_TEXT = -(2**62)
"""Ids that are texts get numbers from here on."""


@dataclass(frozen=True, slots=True)
class Category:
    """A category that has keypoints."""

    id: int
    name: str
    names: tuple[str, ...]
    """Of the keypoints, in order."""
    skeleton: tuple[tuple[int, int], ...]
    """Bones as pairs of places in ``names``, counted from 1."""


@dataclass(frozen=True, slots=True)
class Images:
    """The images that a file lists."""

    names: list[str]
    sizes: NDArray[np.int64]
    """(images, 2): width and height in px as the file has them; 0 where it does not say."""
    origins: list[Any]
    """As those of People."""


@dataclass(frozen=True, slots=True)
class People:
    """The annotations with keypoints, in columns."""

    ids: list[int | str]
    image: NDArray[np.int64]
    """(N,), place among the images."""
    points: NDArray[np.float32]
    """(N, K, 2), px of the image as the file has its size."""
    visibility: NDArray[np.int8]
    """(N, K): 0 not labelled, 1 labelled and hidden, 2 labelled and visible."""
    boxes: NDArray[np.float64]
    """(N, 4): x, y, width, height; no box where width or height is not above 0."""
    areas: NDArray[np.float64]
    """(N,), px²; none where not above 0."""
    origins: list[Any]
    """What each has under ``misgiving``, our own key; None where it has none."""


class CocoFile:
    """What a file holds.

    >>> file = CocoFile(Path("batch/annotations.json"))
    >>> file.categories[0].names[:2], file.images.sizes.tolist()
    (('right_ankle', 'right_knee'), [[120, 60], [120, 60]])

    Args:
        path: of the file.
        expected: what is said of it where it cannot be read.
        content: the JSON, where another file was made COCO; errors name that one's ``path``.

    Raises:
        DataError: it cannot be read, or is not COCO's.
    """

    def __init__(
        self,
        path: Path,
        expected: str = "a JSON file of COCO person keypoints",
        content: bytes | None = None,
    ) -> None:
        self.path = path
        self._rows = _Rows()
        with _named(path):
            document = _parse(path, self._rows, expected, content)
            self.categories = tuple(_categories(document["categories"], self._rows.ids))
            """Those with keypoints, in order."""
            self._image_ids, self.images = _images(document["images"], self._rows.ids)

    def __len__(self) -> int:
        """Number of annotations, of whatever category."""
        return len(self._rows)

    def keypoints(self, category: Category) -> KeypointSet:
        """A category's joints; a known set where the names are its."""
        try:
            return of_category(category.name, category.names, category.skeleton)
        except ValidationError as error:
            raise DataError(f"{self.path}: categories: {first_problem(error)}") from error

    def people(self, categories: Collection[int], joints: int) -> tuple[People, dict[str, int]]:
        """The annotations of some categories that have a labelled joint, and who is left out.

        Args:
            categories: their ids.
            joints: that each of them must have.

        Returns:
            The persons, and how many annotations were left out for which reason.

        Raises:
            DataError: an annotation is not well formed.
        """
        with _named(self.path):
            return self._people(np.array(sorted(categories), np.int64), joints)

    def _people(self, categories: NDArray[np.int64], joints: int) -> tuple[People, dict[str, int]]:
        rows = self._rows
        lengths, crowds = np.array(rows.lengths), np.array(rows.crowds, np.bool_)
        wanted = np.isin(np.array(rows.categories), categories)
        right = ~wanted | np.isin(lengths, (0, 3 * joints))
        wrong = f"{lengths[np.argmin(right)]} numbers in keypoints" if len(rows) else ""
        self._check(right, f"has {wrong}; expected x, y, v of {joints} joints")
        full = wanted & (lengths == 3 * joints)
        places = np.flatnonzero(full)
        numbers = np.asarray(rows.numbers)[np.repeat(full, lengths)].reshape(-1, joints, 3)
        finite = np.isfinite(numbers).all(axis=(1, 2))
        self._check(finite, "has a keypoint that is not finite; expected numbers", places)
        known: NDArray[np.bool_] = np.all(np.isin(numbers[..., 2], (0, 1, 2)), axis=1)
        self._check(known, "has a strange visibility; expected 0, 1 or 2", places)
        kept = (numbers[..., 2] > 0).any(axis=1) & ~crowds[full]
        people = self._columns(places[kept], numbers[kept])
        alone = int((wanted & ~crowds).sum())
        crowded = int((wanted & crowds).sum())
        return people, {"crowds": crowded, "without keypoints": alone - len(people.ids)}

    def _columns(self, chosen: NDArray[np.int64], numbers: NDArray[np.float32]) -> People:
        rows = self._rows
        ids = np.array(rows.numbers_of)[chosen]
        self._check(_first_of_its_kind(ids), "occurs twice; expected each id once", chosen)
        wanted = np.array(rows.images)[chosen]
        listed = np.isin(wanted, self._image_ids)
        self._check(listed, "is of an image that the file does not list", chosen)
        order = np.argsort(self._image_ids)
        return People(
            ids=[rows.ids.said(number) for number in ids.tolist()],
            image=order[np.searchsorted(self._image_ids, wanted, sorter=order)],
            points=np.ascontiguousarray(numbers[..., :2]),
            visibility=numbers[..., 2].astype(np.int8),
            boxes=np.array(rows.boxes).reshape(-1, 4)[chosen],
            areas=np.array(rows.areas)[chosen],
            origins=[rows.origins.get(place) for place in chosen.tolist()],
        )

    def _check(
        self, good: NDArray[np.bool_], said: str, places: NDArray[np.int64] | None = None
    ) -> None:
        """Name the first annotation that is not good; ``places``: of which rows, all by default."""
        if not good.all():
            first = int(np.argmin(good))
            number = self._rows.numbers_of[first if places is None else int(places[first])]
            name = self._rows.ids.said(number)
            raise DataError(f"annotation {name} {said}. Mend or leave out that one")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors that begin with the file's name."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


class _Ids:
    """Ids as numbers: whole numbers as they are, also as texts; other texts are numbered."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._texts: list[str] = []

    def number(self, value: Any) -> int:
        if type(value) is int:
            return value
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if not isinstance(value, str) or not value:
            raise TypeError(f"an id is {value!r}")
        if value.isdecimal() and value.isascii():
            return int(value)
        if value not in self._numbers:
            self._numbers[value] = _FIRST_TEXT - len(self._texts)
            self._texts.append(value)
        return self._numbers[value]

    def said(self, number: int) -> int | str:
        """The id as the file has it."""
        place = _FIRST_TEXT - number
        return self._texts[place] if 0 <= place < len(self._texts) else number


class _Rows:
    """Annotations in columns, filled while the file is parsed; each is dropped once it is in."""

    def __init__(self) -> None:
        self.ids = _Ids()
        self.numbers_of, self.images, self.categories = array("q"), array("q"), array("q")
        self.crowds = array("b")
        self.lengths = array("q")
        """How many numbers each adds to ``numbers``."""
        self.numbers = array("f")
        """x, y, visibility of each joint, one annotation after the other."""
        self.boxes, self.areas = array("d"), array("d")
        self.origins: dict[int, Any] = {}

    def take(self, part: dict[str, Any]) -> object:
        """Called for every JSON object as it ends: keeps what is needed of it."""
        if "image_id" not in part:
            return _image(part)
        try:
            self._add(part)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(
                f"annotation {part.get('id', len(self))}: {what}; expected ids, and numbers in "
                "keypoints, bbox and area"
            ) from error
        return _ROW

    def _add(self, part: dict[str, Any]) -> None:
        numbers = part.get("keypoints") or []
        box = part.get("bbox") or (0.0, 0.0, 0.0, 0.0)
        area = part.get("area") or 0.0
        if len(box) != 4 or not all(map(math.isfinite, (*box, area))):
            raise ValueError(f"bbox is {box} and area {area}")
        row = [self.ids.number(part[key]) for key in ("id", "image_id", "category_id")]
        if part.get("misgiving") is not None:
            self.origins[len(self)] = part["misgiving"]
        self.numbers.extend(numbers)
        self.lengths.append(len(numbers))
        self.boxes.extend(box)
        self.areas.append(area)
        self.crowds.append(bool(part.get("iscrowd", 0)))
        for column, number in zip(
            (self.numbers_of, self.images, self.categories), row, strict=True
        ):
            column.append(number)

    def __len__(self) -> int:
        return len(self.numbers_of)


def _image(part: dict[str, Any]) -> object:
    """An image as a tuple, which takes less room; other objects as they are."""
    name = part.get("file_name") or part.get("path")
    if "id" not in part or not isinstance(name, str):
        return part
    return part["id"], name, part.get("width"), part.get("height"), part.get("misgiving")


def _parse(file: Path, rows: _Rows, expected: str, content: bytes | None) -> dict[str, list[Any]]:
    """The file's lists, without what ``rows`` took of them."""
    try:
        document: Any = json.loads(content or file.read_bytes(), object_hook=rows.take)
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{error.strerror}; expected {expected}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON ({error}); copy or export the file again") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(document, dict) or not isinstance(document.get(key), list):
            raise DataError(f"no list {key!r}; expected images, annotations and categories")
    for index, part in enumerate(document["annotations"]):
        if part is not _ROW:
            raise DataError(f"annotations[{index}] has no image_id; expected COCO annotations")
    if len(rows) > len(document["annotations"]):
        raise DataError("an image_id stands outside of annotations; expected it only there")
    lists: dict[str, list[Any]] = document
    return lists


def _categories(parts: list[Any], ids: _Ids) -> list[Category]:
    found = []
    for index, part in enumerate(parts):
        names = part.get("keypoints") if isinstance(part, dict) else part
        if not names and isinstance(part, dict):
            continue
        try:
            found.append(_category(part, ids))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(
                f"categories.{index}: {what}; expected id, name, keypoints as a list of names, "
                "and skeleton as pairs of their places"
            ) from error
    return found


def _category(part: dict[str, Any], ids: _Ids) -> Category:
    names = part["keypoints"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"keypoints are {str(names)[:80]}")
    bones = [(int(first), int(second)) for first, second in part.get("skeleton") or ()]
    if any(0 in bone for bone in bones):  # counted from 0, as some tools do
        bones = [(first + 1, second + 1) for first, second in bones]
    name = part.get("name") or "person"
    return Category(ids.number(part["id"]), str(name), tuple(names), tuple(bones))


def _images(parts: list[Any], ids: _Ids) -> tuple[NDArray[np.int64], Images]:
    """The images, and their ids."""
    numbers = array("q")
    for index, part in enumerate(parts):
        try:
            numbers.append(ids.number(part[0] if isinstance(part, tuple) else None))
        except (TypeError, OverflowError) as error:
            raise DataError(f"images[{index}] has no id and file_name; expected both") from error
    of_images = np.array(numbers, np.int64)
    if not (first := _first_of_its_kind(of_images)).all():
        number = ids.said(int(of_images[~first][0]))
        raise DataError(f"image {number} occurs twice; expected each id once")
    sizes = [(_pixels(width), _pixels(height)) for _, _, width, height, _ in parts]
    names, origins = [part[1] for part in parts], [part[4] for part in parts]
    return of_images, Images(names, np.array(sizes, np.int64).reshape(-1, 2), origins)


def _pixels(value: Any) -> int:
    """A width or height; 0 where there is none."""
    try:
        pixels = float(value)
    except (TypeError, ValueError):
        return 0
    return round(pixels) if 0 < pixels < 2**31 else 0


def _first_of_its_kind(ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    first = np.zeros(len(ids), np.bool_)
    first[np.unique(ids, return_index=True)[1]] = True
    return first


def far_outside(people: People, images: Images) -> NDArray[np.bool_]:
    """(N,): who has a labelled joint far outside of the image, where the file tells its size."""
    sizes = images.sizes[people.image]
    known = (sizes > 0).all(axis=1)
    joints = joints_far_outside(people.points, sizes[:, None])
    strange: NDArray[np.bool_] = np.any(joints & (people.visibility > 0), axis=1)
    return known & strange


def joints_far_outside(points: NDArray[np.floating], size: NDArray[np.number]) -> NDArray[np.bool_]:
    """(…, K): which joints lie further beyond an edge than half of the image.

    A person at the edge may be labelled as far as one can guess; what is further away is labelled
    in another image, or in another size of it.

    Args:
        points: (…, K, 2), image px.
        size: width and height, (2,) or what broadcasts to the points.
    """
    outside: NDArray[np.bool_] = np.any(np.abs(points - size / 2) > size, axis=-1)
    return outside
