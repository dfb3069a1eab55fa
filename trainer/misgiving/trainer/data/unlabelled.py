"""A folder of images without labels (``images:DIR``): each whole frame is a person to be scored."""

import os
from pathlib import Path

import numpy as np

from misgiving.runtime import images
from misgiving.runtime.errors import DataError
from misgiving.runtime.keypoints import KeypointSet
from misgiving.trainer.data.base import PoseSet, Sample


def open_images(folder: Path, keypoints: KeypointSet) -> PoseSet:
    """The images in a folder and below it, by their paths in order; nothing in them is labelled.

    Args:
        folder: of the images.
        keypoints: that they are asked for.

    Raises:
        DataError: there is no such folder, or no image in it.
    """
    names = sorted(
        Path(root, name).relative_to(folder).as_posix()
        for root, _, files in os.walk(folder)
        for name in files
        if name.lower().endswith(images.SUFFIXES)
    )
    if not names:
        expected = f"expected a folder with files {', '.join(images.SUFFIXES)}"
        raise DataError(f"{folder} holds no image; {expected}")
    ids = tuple(f"images/{name}" for name in names)
    points = np.zeros((len(keypoints), 2), np.float32)
    labelled = np.broadcast_to(np.False_, (len(names), len(keypoints)))

    def read(index: int) -> Sample:
        path = folder / names[index]
        return Sample(ids[index], images.read(path), points, labelled[index], path)

    return PoseSet(f"images:{folder}", keypoints, ids, read, labelled)
