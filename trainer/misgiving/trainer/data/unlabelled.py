"""A folder of images without labels (``images:DIR``): each whole frame is a person to be scored."""

from collections import Counter
from pathlib import Path

import numpy as np

from misgiving.runtime import images
from misgiving.runtime.errors import DataError
from misgiving.runtime.keypoints import KeypointSet
from misgiving.trainer import progress
from misgiving.trainer.data.base import PoseSet, Sample, written
from misgiving.trainer.data.walking import Found, find_files

_OTHER_IMAGES = (".bmp", ".webp", ".tif", ".tiff", ".gif", ".heic", ".avif", ".jp2")


def open_images(folder: Path, keypoints: KeypointSet) -> PoseSet:
    """The images in a folder and below it, by their paths in order; nothing in them is labelled.

    Args:
        folder: of the images.
        keypoints: that they are asked for.

    Raises:
        DataError: there is no such folder, or no image in it.
    """
    found = find_files(folder)
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in found.files
        if path.name.lower().endswith(images.SUFFIXES)
    )
    said = _left_out(found) if folder.exists() else ""
    if not names:
        expected = f"expected a folder with files {', '.join(images.SUFFIXES)}"
        raise DataError(f"{folder} holds no image{f' ({said})' if said else ''}; {expected}")
    if said:
        progress.print_line(f"images:{written(str(folder))}: {said}")
    ids = tuple(f"images/{name}" for name in names)
    points = np.zeros((len(keypoints), 2), np.float32)
    labelled = np.broadcast_to(np.False_, (len(names), len(keypoints)))

    def read(index: int) -> Sample:
        path = folder / names[index]
        return Sample(ids[index], images.read(path), points, labelled[index], path)

    return PoseSet(f"images:{folder}", keypoints, ids, read, labelled)


def _left_out(found: Found) -> str:
    """What of a folder is not taken, in words; files that are no images go without saying."""
    suffixes = Counter(path.suffix.lower() for path in found.files)
    others = {name: suffixes[name] for name in _OTHER_IMAGES if suffixes[name]}
    hidden = [path for path in found.aside if path.name.lower().endswith(images.SUFFIXES)]
    parts = (
        f"{len(hidden)} hidden, in caches or in bins, {hidden[0].name} for one" if hidden else "",
        f"{sum(others.values())} of other formats ({', '.join(others)})" if others else "",
        f"{len(found.again)} links to folders that are there already" if found.again else "",
        f"{len(found.closed)} folders that cannot be read, {found.closed[0]} for one"
        if found.closed
        else "",
    )
    said = "; ".join(part for part in parts if part)
    return f"left out {said}" if said else ""
