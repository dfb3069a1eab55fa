"""Sets of persons annotated in a file beside a folder of images: columns, not objects.

Axes: N persons, K keypoints. A file may hold a million persons, so nothing here is kept per
person but a row in each array and an id.

Coordinates are taken as the file has them, as continuous image px. COCO counts pixels from 0 and
MPII (like LSP) from 1, so a joint may be half a pixel off one way or the other; annotators
are off by more, files that our own tools write are exact, and a network is measured in the
convention that it learnt.
"""

import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime import images
from misgiving.runtime.errors import DataError
from misgiving.runtime.geometry import Region
from misgiving.runtime.keypoints import KeypointSet
from misgiving.trainer.data.base import PoseSet, Sample

CACHED_BYTES = 256 * 2**20
"""Decoded images that a set keeps, so that the persons of one image decode it once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Persons:
    """Annotated persons in columns."""

    ids: list[str]
    files: list[str]
    """Image files, relative to the folder."""
    file: NDArray[np.int64]
    """(N,), which of ``files``."""
    points: NDArray[np.float32]
    """(N, K, 2), image px."""
    labelled: NDArray[np.bool_]
    """(N, K)"""
    boxes: NDArray[np.float64]
    """(N, 4): x, y, width, height in image px; no box where width or height is not above 0."""
    areas: NDArray[np.float64]
    """(N,), px²; none where not above 0."""
    head_boxes: NDArray[np.float64] | None = None
    """(N, 4), as ``boxes``; None where nobody has one."""


def annotated_set(spec: str, keypoints: KeypointSet, folder: Path, persons: Persons) -> PoseSet:
    """Persons as a set, those of one image in a row.

    Raises:
        DataError: an image is not in the folder.
    """
    _check_files(folder, [persons.files[index] for index in np.unique(persons.file)])
    order = np.argsort(persons.file, kind="stable")
    file, points, labelled = persons.file[order], persons.points[order], persons.labelled[order]
    boxes, areas = persons.boxes[order], persons.areas[order]
    heads = None if persons.head_boxes is None else persons.head_boxes[order]
    ids, files = tuple(persons.ids[index] for index in order), persons.files
    cache = ImageCache()

    def read(index: int) -> Sample:
        path = folder / files[file[index]]
        image = cache.read(path)
        box = _inside(boxes[index], *image.shape[:2])
        area = float(areas[index]) if areas[index] > 0 else None
        head = None if heads is None else _box(heads[index])
        return Sample(ids[index], image, points[index], labelled[index], path, box, area, head)

    return PoseSet(spec, keypoints, ids, read, labelled)


def said(count: int, parts: dict[str, int]) -> str:
    """``35 persons; 3 crowds and 16 without keypoints left out``; empty where nobody is."""
    left_out = " and ".join(f"{number} {what}" for what, number in parts.items() if number)
    return f"{count} persons; {left_out} left out" if left_out else ""


def _check_files(folder: Path, files: list[str]) -> None:
    missing = [name for name in files if not os.path.isfile(folder / name)]
    if missing:
        raise DataError(
            f"{folder} lacks {missing[0]} ({len(missing)} of {len(files)} images are missing); "
            "expected every annotated image. Name the folder that their file names are relative to"
        )


def _inside(box: NDArray[np.float64], height: int, width: int) -> Region | None:
    """The part of a box inside its image; None where there is none."""
    corner = np.maximum(box[:2], 0)
    return _box(np.concatenate([corner, np.minimum(box[:2] + box[2:], (width, height)) - corner]))


def _box(box: NDArray[np.float64]) -> Region | None:
    x, y, width, height = box.tolist()
    return Region(x, y, width, height) if width > 0 and height > 0 else None


class ImageCache:
    """Decoded images, the least recently read of which give way; safe between threads.

    The arrays are shared by the persons of an image, and cannot be written.
    """

    def __init__(self, limit: int = CACHED_BYTES) -> None:
        self._limit = limit
        self._bytes = 0
        self._images: OrderedDict[Path, NDArray[np.uint8]] = OrderedDict()
        self._lock = Lock()

    def read(self, path: Path) -> NDArray[np.uint8]:
        """An image (H, W, 3), decoded unless it was lately; errors as ``images.read``."""
        with self._lock:
            if path in self._images:
                self._images.move_to_end(path)
                return self._images[path]
        image = images.read(path)  # two threads may both decode it: better than one at a time
        image.flags.writeable = False
        with self._lock:
            if path not in self._images:
                self._images[path] = image
                self._bytes += image.nbytes
            while self._bytes > self._limit:
                self._bytes -= self._images.popitem(last=False)[1].nbytes
        return image
