"""What came back of an export, in px of its images.

Axes: N persons, K keypoints.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from misgiving.collector.annotations import returned
from misgiving.collector.annotations.exported import EXPECTED, Exported, grouped, select
from misgiving.collector.annotations.formats.base import Returned
from misgiving.collector.annotations.matching import Persons
from misgiving.runtime.cocofile import CocoFile, People
from misgiving.runtime.errors import DataError
from misgiving.runtime.keypoints import places_of


class Edited:
    """What annotators handed back.

    Raises:
        DataError: the file cannot be understood, or labels would be lost or wrong.
    """

    def __init__(self, came: Returned, exported: Exported) -> None:
        path = came.path
        file = CocoFile(path, EXPECTED, came.content)
        order = _order(file, exported)
        categories = {category.id for category in file.categories}
        people, left_out = file.people(categories, len(order))
        people = replace(
            people, points=people.points[:, order], visibility=people.visibility[:, order]
        )
        places = returned.match_images(file.images.names, exported.images.names)
        _check_images(file, people, exported, places)
        factors, scaled = returned.scales(path, file.images, exported.images, places)
        _check_stretched(file, people, exported, places)
        factors = factors[people.image]
        sides = exported.images.sizes[[places[image] for image in people.image.tolist()]]
        self._tolerances = returned.tolerances(people, factors, sides if came.relative else None)
        self.by_image = grouped(places[image] for image in people.image.tolist())
        """Place of an exported image → places of its persons."""
        lost = len(file) - len(people.ids)
        self.said = (*came.said, *_left_out(path, left_out, lost), *filter(None, [scaled]))
        self._submitted = came.submitted
        self._people = replace(
            people,
            points=(people.points * factors[:, None]).astype(np.float32),
            boxes=people.boxes * np.tile(factors, 2),
        )

    def submitted(self, name: str) -> bool:
        """Whether the tool says that somebody has finished an exported image."""
        return name in self._submitted

    def persons(self, image: int) -> Persons:
        """Those of one exported image."""
        places = self.by_image.get(image, ())
        return select(self._people, places, self._tolerances[np.array(places, np.int64)])


def _order(file: CocoFile, exported: Exported) -> list[int]:
    """Places of the exported joints among those that came back, told by their names."""
    keypoints = exported.keypoints
    if not file.categories:
        raise DataError(
            f"{file.path} has no category with keypoints; expected the {len(keypoints)} of "
            f"{keypoints.name}. Export from the tool as COCO *keypoints*"
        )
    first = file.categories[0].names
    for category in file.categories:
        known = places_of(keypoints.names, category.names)
        strange = [name for name, at in zip(category.names, known, strict=True) if at < 0]
        if strange or len(category.names) != len(keypoints) or category.names != first:
            what = f"keypoint {strange[0]!r}" if strange else "keypoints in another order or number"
            raise DataError(
                f"{file.path}: category {category.name!r} has {what}; expected the "
                f"{len(keypoints)} of {keypoints.name}. Keep the exported labels"
            )
    return places_of(first, keypoints.names)


def _check_images(
    file: CocoFile, people: People, exported: Exported, places: Sequence[int]
) -> None:
    """Raise DataError where labels would be lost because nobody knows of which frame they are."""
    used = np.unique(people.image).tolist()
    names = [file.images.names[image] for image in used]
    strange = [image for image in used if places[image] < 0]
    if strange:
        count = int(np.isin(people.image, strange).sum())
        raise DataError(
            f"{file.path}: {count} of {len(people.ids)} persons are in images that were not "
            f"exported, {file.images.names[strange[0]]} for one; expected names such as "
            f"{exported.images.names[0]}. Give the images their names back, or take those of other "
            "batches out of the file: their labels would be lost"
        )
    returned.check_one_each(file.path, names, [places[image] for image in used])


def _check_stretched(
    file: CocoFile, people: People, exported: Exported, places: Sequence[int]
) -> None:
    """Raise DataError where images of another shape are likelier to have been fitted in or cut."""
    apart = []
    for person, image in enumerate(people.image.tolist()):
        claimed, real = file.images.sizes[image], exported.images.sizes[places[image]]
        if claimed.all() and np.ptp(real / claimed) > 0.01 * (real / claimed).max():
            seen = people.visibility[person] > 0
            before = exported.persons(places[image]).points[:, seen]
            apart.append(returned.distances(people.points[person][seen], claimed, real, before))
    if apart and 2 * np.median(apart, axis=0)[1] < np.median(apart, axis=0)[0]:
        raise DataError(
            f"{file.path}: images have another shape than exported, and labels as if a tool had "
            "added black edges or cut some off; expected the whole image, stretched or not. "
            "Export from the tool without resizing"
        )


def _left_out(path: Path, counts: dict[str, int], lost: int) -> Iterator[str]:
    others = lost - sum(counts.values())
    parts = counts | {"of categories without keypoints": others}
    words = " and ".join(f"{number} {what}" for what, number in parts.items() if number)
    if words:
        yield f"{path}: {words} left out"
