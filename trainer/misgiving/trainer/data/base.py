"""What every data set gives: persons with an image, a box and labelled keypoints."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.errors import DataError
from misgiving.runtime.geometry import Region
from misgiving.runtime.keypoints import KeypointSet


@dataclass(frozen=True, slots=True)
class Sample:
    """One person in one image.

    >>> sample = open_data("synthetic:7,500")[0]
    >>> sample.id, sample.image.shape, sample.points.shape
    ('synthetic/7/00000', (192, 192, 3), (14, 2))
    """

    id: str
    image: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    points: NDArray[np.float32]
    """(K, 2), continuous image px; meaningless where not labelled."""
    labelled: NDArray[np.bool_]
    """(K,)"""
    path: Path | None = None
    """The image's file, None where it was rendered."""
    box: Region | None = None
    """The person's box as the data set gives it, None where it gives none."""
    area: float | None = None
    """Of the person's segment in px², the scale of OKS; None where the data set has none."""

    @property
    def region(self) -> Region | None:
        """The person's box: the data set's own, else the tight one of the labelled joints (what a
        person detector would give, roughly), else None: the whole frame."""
        if self.box is None and self.labelled.any():
            return Region.around(self.points[self.labelled])
        return self.box


@dataclass(frozen=True)
class PoseSet:
    """Persons by position; images are read (or rendered) when they are asked for.

    What :func:`misgiving.trainer.open_data` gives.
    """

    spec: str
    """As given on the command line; names the data in every record."""
    keypoints: KeypointSet
    ids: tuple[str, ...]
    read: Callable[[int], Sample]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        return self.read(index)


def subset(data: PoseSet, indices: Sequence[int], spec: str | None = None) -> PoseSet:
    """The persons at some positions, in that order."""
    chosen = tuple(indices)
    ids = tuple(data.ids[index] for index in chosen)
    return PoseSet(spec or data.spec, data.keypoints, ids, lambda i: data.read(chosen[i]))


def join(parts: Sequence[PoseSet]) -> PoseSet:
    """Several sets after one another.

    >>> both = join([open_data("synthetic:1,30,0-0.4"), open_data("synthetic:2,20#1-5")])
    >>> len(both), both.spec
    (35, 'synthetic:1,30,0-0.4 + synthetic:2,20,0-1#1-5')

    Raises:
        DataError: there is none, or their keypoints differ.
    """
    if not parts:
        raise DataError("no data was given; expected at least one data spec")
    names = {part.keypoints.names for part in parts}
    if len(names) > 1:
        raise DataError(
            f"{' and '.join(part.spec for part in parts)} have different keypoints; "
            "expected one keypoint set"
        )
    places = [(part, index) for part in parts for index in range(len(part))]
    spec = " + ".join(part.spec for part in parts)
    ids = tuple(part.ids[index] for part, index in places)
    return PoseSet(spec, parts[0].keypoints, ids, lambda i: places[i][0].read(places[i][1]))


def check_apart(first: PoseSet, second: PoseSet) -> None:
    """Raise DataError where two sets share a person: what is measured must be unseen."""
    if shared := sorted(set(first.ids) & set(second.ids)):
        raise DataError(
            f"{first.spec} and {second.spec} share {len(shared)} person(s), {shared[0]} for one; "
            "expected none. Give ranges that do not overlap"
        )
