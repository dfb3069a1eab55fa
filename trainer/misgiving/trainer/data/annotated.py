"""Sets of persons annotated in a file beside a folder of images: columns, not objects.

Axes: N persons, K keypoints. A file may hold a million persons, so nothing here is kept per
person but a row in each array and an id.

Coordinates are taken as the file has them, as continuous image px. COCO counts pixels from 0 and
MPII (like LSP) from 1, so a joint may be half a pixel off one way or the other; annotators
are off by more, files that our own tools write are exact, and a network is measured in the
convention that it learnt.
"""

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime import images
from misgiving.runtime.cocofile import joints_far_outside
from misgiving.runtime.errors import DataError
from misgiving.runtime.geometry import Region
from misgiving.runtime.keypoints import KeypointSet
from misgiving.trainer import progress
from misgiving.trainer.data.base import PoseSet, Sample
from misgiving.trainer.data.finding import find_files

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
    hidden: NDArray[np.bool_] | None = None
    """(N, K), labelled though not visible; None where the file does not tell."""
    boxes: NDArray[np.float64]
    """(N, 4): x, y, width, height in image px; no box where width or height is not above 0."""
    areas: NDArray[np.float64]
    """(N,), px²; none where not above 0."""
    head_boxes: NDArray[np.float64] | None = None
    """(N, 4), as ``boxes``; None where nobody has one."""
    sizes: NDArray[np.int64] | None = None
    """(files, 2), width and height of each image as the file has them, 0 where it does not say;
    None where files of this form have none."""
    source: Path = Path()
    """The annotation file, for messages about sizes."""


def annotated_set(spec: str, keypoints: KeypointSet, folder: Path, persons: Persons) -> PoseSet:
    """Persons as a set, those of one image in a row.

    Where the file tells an image's size, it is compared when the image is read: labels of a
    resized copy are scaled, and labels that cannot be of this image are an error.

    Raises:
        DataError: an image is not in the folder.
    """
    used = np.unique(persons.file).tolist()
    paths = dict(zip(used, find_files(folder, [persons.files[at] for at in used]), strict=True))
    order = np.argsort(persons.file, kind="stable")
    file, labelled = persons.file[order], persons.labelled[order]
    ids = tuple(persons.ids[index] for index in order)
    cache, sizes = ImageCache(), SizeCheck(spec, persons)

    def read(index: int) -> Sample:
        place, path = int(order[index]), paths[int(file[index])]
        image = cache.read(path)
        scale = sizes.scale(place, path, image)
        heads, hidden, area = persons.head_boxes, persons.hidden, float(persons.areas[place])
        return Sample(
            ids[index],
            image,
            (persons.points[place] * scale).astype(np.float32, copy=False),
            labelled[index],
            path,
            box=_inside(persons.boxes[place] * np.tile(scale, 2), *image.shape[:2]),
            area=area * float(scale.prod()) if area > 0 else None,
            head_box=None if heads is None else _box(heads[place] * np.tile(scale, 2)),
            hidden=None if hidden is None else hidden[place],
        )

    return PoseSet(spec, keypoints, ids, read, labelled)


class SizeCheck:
    """Whether labels are of the images that lie there, and how they become so.

    Done as each image is read: opening a set of 100,000 images must not open the files.
    """

    def __init__(self, spec: str, persons: Persons) -> None:
        self._spec = spec
        self._persons = persons
        self._told = False

    def scale(self, place: int, path: Path, image: NDArray[np.uint8]) -> NDArray[np.float64]:
        """By what a person's coordinates are multiplied, (2,).

        Raises:
            DataError: the image has another shape than the file says, or it says none and the
                person has a joint far outside of the image.
        """
        persons, real = self._persons, np.array(image.shape[1::-1])
        if persons.sizes is None:
            return np.ones(2)
        claimed = persons.sizes[persons.file[place]]
        if not claimed.all():
            self._check_inside(place, path, real)
            return np.ones(2)
        scale: NDArray[np.float64] = real / claimed
        if (claimed != real).any():
            words = f"{path} is {_px(real)}; {persons.source} says {_px(claimed)}"
            if not _is_copy(claimed, real):
                raise DataError(
                    f"{words}. Expected labels of this image, or of a copy of its shape: label "
                    "the image as it is shown (its EXIF turns it), or mend the file"
                )
            self._tell(words)
        return scale

    def _check_inside(self, place: int, path: Path, real: NDArray[np.int64]) -> None:
        points = self._persons.points[place][self._persons.labelled[place]]
        if joints_far_outside(points, real).any():
            raise DataError(
                f"{path} is {_px(real)}; {self._persons.source} has a labelled joint of "
                f"{self._persons.ids[place]} far outside of it. Mend or leave out that one"
            )

    def _tell(self, words: str) -> None:
        if not self._told:
            self._told = True
            progress.print_line(f"{self._spec}: {words}: labels of resized copies are scaled")


def _is_copy(claimed: NDArray[np.int64], real: NDArray[np.int64]) -> bool:
    """Whether sizes are of one shape, up to whole pixels. A turned image never counts."""
    if (claimed == real[::-1]).all():
        return False
    small, large = sorted((claimed, real), key=lambda size: int(size.prod()))
    shrunk = large * (small / large)[::-1]  # each side as the other one shrank
    return bool((np.abs(shrunk - small) <= 1).any())


def _px(size: NDArray[np.int64]) -> str:
    return f"{size[0]} x {size[1]} px"


def said(count: int, parts: dict[str, int]) -> str:
    """``35 persons; 3 crowds and 16 without keypoints left out``; empty where nobody is."""
    left_out = " and ".join(f"{number} {what}" for what, number in parts.items() if number)
    return f"{count} persons; {left_out} left out" if left_out else ""


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
