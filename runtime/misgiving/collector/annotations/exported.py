"""Who went out with an export, in px of its images.

Axes: N persons, K keypoints.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from misgiving.collector.annotations.coco import FrameOrigin, Origin
from misgiving.collector.annotations.matching import Key, Persons
from misgiving.runtime.cocofile import CocoFile, People
from misgiving.runtime.errors import DataError, first_problem

EXPECTED = "a folder written by 'misgiving annotations export'"


class Exported:
    """Who was handed to the annotators.

    Raises:
        DataError: the file is no export.
    """

    def __init__(self, path: Path) -> None:
        file = CocoFile(path, EXPECTED)
        if not file.categories:
            raise DataError(f"{path} has no category with keypoints; export again")
        category = file.categories[0]
        self.category = category.name
        self.images = file.images
        self.keypoints = file.keypoints(category)
        self._people, _ = file.people([category.id], len(self.keypoints))
        keys = zip(self._people.ids, self._people.origins, strict=True)
        self.origins = [_valid(Origin, path, f"annotation {number}", key) for number, key in keys]
        self.by_image = grouped(self._people.image.tolist())
        """Place of an image → places of its persons."""
        self._path = path

    def __len__(self) -> int:
        return len(self.origins)

    def digests(self) -> set[str]:
        """Of all frames with persons."""
        return {origin.frame_digest for origin in self.origins}

    def persons(self, image: int) -> Persons:
        """Those of one image."""
        places = self.by_image.get(image, ())
        return select(self._people, places, np.zeros((len(places), 2)))

    def origins_of(self, image: int) -> list[Origin]:
        """Where the same are from."""
        return [self.origins[place] for place in self.by_image.get(image, ())]

    def origin_of(self, image: int) -> FrameOrigin:
        """Where an image is from, with persons or without."""
        if origins := self.origins_of(image):
            return origins[0]
        name, key = self.images.names[image], self.images.origins[image]
        return _valid(FrameOrigin, self._path, f"image {name}", key)


def select(people: People, places: Sequence[int], tolerances: NDArray[np.float64]) -> Persons:
    """Some of a file's persons."""
    chosen = np.array(places, np.int64)
    return Persons(
        ids=[people.ids[place] for place in places],
        keys=[_key(people.origins[place]) for place in places],
        points=people.points[chosen].astype(np.float64),
        visibility=people.visibility[chosen],
        boxes=people.boxes[chosen],
        tolerances=tolerances,
    )


def grouped(images: Iterable[int]) -> Mapping[int, Sequence[int]]:
    """Place of an image → places of those who are in it."""
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for place, image in enumerate(images):
        groups[image].append(place)
    return groups


_Origin = TypeVar("_Origin", bound=FrameOrigin)


def _valid(kind: type[_Origin], path: Path, what: str, key: Any) -> _Origin:
    try:
        return kind.model_validate(key)
    except ValidationError as error:
        raise DataError(
            f"{path}: {what} has lost its key ({first_problem(error)}); export again"
        ) from error


def _key(origin: Any) -> Key | None:
    """Our key as a tool hands it back; None where it makes no sense."""
    digest, index = (origin.get(n) for n in _KEY) if isinstance(origin, dict) else (None, None)
    return (digest, index) if isinstance(digest, str) and isinstance(index, int) else None


_KEY = ("frame_digest", "person_index")
