"""COCO person keypoints (``coco:JSON@IMAGES``), with the keypoints that its category names.

A joint is labelled where its visibility is 1 (hidden) or 2 (visible). Crowds, persons without a
labelled joint or with one far outside of their image, and those of whom nothing says how large
they are, are left out and counted. Axes: N persons, K keypoints.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.cocofile import Category, CocoFile, People, far_outside
from misgiving.runtime.errors import DataError
from misgiving.trainer import progress
from misgiving.trainer.data.annotated import Persons, annotated_set, said
from misgiving.trainer.data.base import PoseSet

_LEAST_PX = 1.0
"""A person that is no wider and no higher has no size: a lone joint, or the box around one."""


def open_coco(file: Path, folder: Path) -> PoseSet:
    """The persons of a COCO file, those of one image in a row.

    Args:
        file: the JSON file.
        folder: that its file names are relative to.

    Raises:
        DataError: the file cannot be read or is not COCO person keypoints, its categories have
            different keypoints, an annotation is not well formed, or an image is missing.
    """
    spec = f"coco:{file}@{folder}"
    document = CocoFile(file)
    category = _category(document)
    keypoints = document.keypoints(category)
    ids = {one.id for one in document.categories}
    people, left_out = document.people(ids, len(keypoints))
    strange = far_outside(people, document.images)
    people.boxes[people.boxes[:, 2:].max(axis=1) <= _LEAST_PX] = 0
    sized = _sized(people)
    left_out |= {
        "with a joint far outside of the image": int(strange.sum()),
        "with one joint and no box": int((~sized & ~strange).sum()),
    }
    persons = _persons(people, sized & ~strange, document)
    if line := said(len(persons.ids), left_out):
        progress.print_line(f"{spec}: {line}")
    return annotated_set(spec, keypoints, folder, persons)


def _category(document: CocoFile) -> Category:
    """The first of the categories, which must have the same keypoints."""
    found = document.categories
    if len({category.names for category in found}) != 1:
        raise DataError(
            f"{document.path}: {len(found)} categories have keypoints; expected one. Take the "
            "file of the person keypoints, or make a file for each category"
        )
    return found[0]


def _sized(people: People) -> NDArray[np.bool_]:
    """Of whom box or labelled joints tell how large they are."""
    labelled = (people.visibility > 0)[..., None]
    high = np.where(labelled, people.points, -np.inf).max(axis=1, initial=-np.inf)
    low = np.where(labelled, people.points, np.inf).min(axis=1, initial=np.inf)
    boxed: NDArray[np.bool_] = np.all(people.boxes[:, 2:] > 0, axis=1)
    spread: NDArray[np.bool_] = np.any(high - low > _LEAST_PX, axis=1)
    return boxed | spread


def _persons(people: People, kept: NDArray[np.bool_], document: CocoFile) -> Persons:
    file, files = people.image[kept], document.images.names
    chosen = zip(file.tolist(), np.flatnonzero(kept).tolist(), strict=True)
    visibility = people.visibility[kept]
    return Persons(
        ids=[f"coco/{files[place]}/{people.ids[person]}" for place, person in chosen],
        files=files,
        file=file,
        points=people.points[kept],
        labelled=visibility > 0,
        hidden=visibility == 1,
        boxes=people.boxes[kept],
        areas=people.areas[kept],
        sizes=document.images.sizes,
        source=document.path,
    )
