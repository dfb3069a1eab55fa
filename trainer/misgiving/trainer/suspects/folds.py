"""Folds for asking nets about persons whom they never saw.

Persons of one image stay together, and so do copies of an image under other names: else a net would
know by heart what it is asked about.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.geometry import CropRule
from misgiving.trainer import progress
from misgiving.trainer.data.base import PoseSet, Sample
from misgiving.trainer.data.readable import Readable, asked_window

_HASH = 8


def read_images(data: PoseSet, rule: CropRule) -> tuple[PoseSet, list[str]]:
    """The persons who can be read, and what tells the image of each: equal for copies of one.

    Raises:
        DataError: too many cannot be read.
    """
    reader = Readable(data, lambda sample: asked_window(sample, rule))
    seen: dict[object, str] = {}
    looks = [_look(s, seen) for s in reader.samples(progress.counted(len(data), "reading"))]
    return reader.kept(), looks


def fold_of(images: Sequence[str], count: int, seed: int) -> NDArray[np.int64]:
    """The fold of each person, (N,): by chance, about equally many in each.

    Args:
        images: equal where persons must stay together.
        count: of folds.
        seed: of chance.

    Raises:
        InvalidInput: fewer than two folds, or more than images.
    """
    names, image, persons = np.unique(np.array(images), return_inverse=True, return_counts=True)
    check_folds(count, len(names))
    folds, sizes = np.empty(len(names), np.int64), np.zeros(count, np.int64)
    for one in np.random.default_rng(seed).permutation(len(names)):
        folds[one] = sizes.argmin()
        sizes[folds[one]] += persons[one]
    return folds[image]


def check_folds(count: int, images: int) -> None:
    """Raise InvalidInput unless each fold has an image, and each net some to learn from."""
    if not 2 <= count <= images:
        raise InvalidInput(
            f"folds are {count}; expected 2 to {images}, the number of images: each net learns "
            "from all folds but one"
        )


def _look(sample: Sample, seen: dict[object, str]) -> str:
    """The difference hash of an image, as hex digits: whether each cell is lighter than the next.

    Copies of a picture mostly have the same, also where one was compressed again.
    """
    if sample.path is not None and sample.path in seen:
        return seen[sample.path]
    grey = cv2.cvtColor(sample.image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_HASH + 1, _HASH), interpolation=cv2.INTER_AREA).astype(np.int16)
    look = np.packbits(small[:, :-1] < small[:, 1:]).tobytes().hex()
    if sample.path is not None:
        seen[sample.path] = look
    return look
