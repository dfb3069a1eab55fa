"""Label sets that came back from annotators (``labels:DIR``)."""

from pathlib import Path

import numpy as np

from misgiving.runtime import images
from misgiving.runtime.errors import DataError
from misgiving.runtime.geometry import Region
from misgiving.runtime.labelset import IMAGES, Split, read_labels
from misgiving.trainer.data.base import Collected, PoseSet, Sample


def splits(folder: Path) -> dict[str, Split | None]:
    """On which side of training and validation each person is, by id."""
    return {person.id: person.split for person in read_labels(folder).persons}


def open_labels(folder: Path, version: str = "") -> PoseSet:
    """A label set written by ``misgiving annotations import``.

    Persons without a labelled joint are left out: they have nothing to learn from.

    Args:
        folder: of the label set.
        version: that it must have, empty for any.

    Raises:
        DataError: the folder is no label set, has another version, or nobody in it has a
            labelled joint.
    """
    labels = read_labels(folder)
    if version not in ("", labels.version):
        raise DataError(f"{folder} has version {labels.version}; expected {version}")
    persons = [person for person in labels.persons if any(person.labelled)]
    if not persons:
        raise DataError(f"{folder} has no person with a labelled joint; label some, import again")

    def read(index: int) -> Sample:
        person = persons[index]
        path = folder / IMAGES / person.image
        points = np.array(person.points, np.float32)
        image = images.read(path)
        asked = Region(*person.region)
        collected = Collected(
            person.sampling_probability,
            person.device_id,
            person.stream_id,
            None if asked == Region(0, 0, image.shape[1], image.shape[0]) else asked,
        )
        return Sample(
            person.id,
            image,
            points,
            visibility[index] > 0,
            path,
            collected=collected,
            hidden=visibility[index] == 1,
        )

    visibility = np.array([person.visibility for person in persons], np.int8)
    ids = tuple(person.id for person in persons)
    return PoseSet(f"labels:{folder}@{labels.version}", labels.keypoints, ids, read, visibility > 0)
