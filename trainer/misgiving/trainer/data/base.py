"""What every data set gives: persons with an image, a box and labelled keypoints."""

import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.errors import DataError
from misgiving.runtime.geometry import Region
from misgiving.runtime.keypoints import KeypointSet


@dataclass(frozen=True, slots=True)
class Collected:
    """How the fleet came to keep a person's frame; see :class:`Sample`."""

    sampling_probability: float
    """Of the frame, in (0, 1]; weight by its inverse."""
    device_id: str
    stream_id: str
    region: Region | None
    """That the vehicle asked about; None for the whole frame."""


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
    head_box: Region | None = None
    """The head's box, whose diagonal is the scale of PCKh; None where the data set has none."""
    collected: Collected | None = None
    """None where it is no fleet's."""
    hidden: NDArray[np.bool_] | None = None
    """(K,), labelled though not visible (COCO's 1); None where the data set does not tell."""

    @property
    def region(self) -> Region | None:
        """The person's box: the data set's own, else the tight one of the labelled joints (what a
        person detector would give, roughly), else the vehicle's, else None: the whole frame. A
        lone joint has no extent, so that nothing could be seen in a box around it."""
        if self.box is not None:
            return self.box
        points = self.points[self.labelled]
        if len(points) and np.ptp(points, axis=0).max() > 1:
            return Region.around(points)
        return self.collected.region if self.collected else None

    @property
    def asked_region(self) -> Region | None:
        """What the runtime is asked about: the vehicle's own region of a collected person, so that
        its answer there is measured; else the person's box. None for the whole frame."""
        return self.collected.region if self.collected else self.region


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
    labelled: NDArray[np.bool_] | None = field(default=None, compare=False)
    """(N, K), what is labelled, told without reading an image; None where that is not known."""

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        return self.read(index)


def subset(
    data: PoseSet, indices: Sequence[int] | NDArray[np.int64], spec: str | None = None
) -> PoseSet:
    """The persons at some positions, in that order."""
    chosen = np.asarray(indices, np.int64)  # an eighth of a tuple, where a million are chosen
    ids = tuple(data.ids[index] for index in chosen)
    labelled = None if data.labelled is None else data.labelled[chosen]
    return PoseSet(
        spec or data.spec, data.keypoints, ids, lambda i: data.read(int(chosen[i])), labelled
    )


def only(data: PoseSet, ids: Collection[str]) -> PoseSet:
    """Those of a set who are among some ids."""
    wanted = set(ids)
    return subset(data, [index for index, name in enumerate(data.ids) if name in wanted])


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
    check_alike(parts)
    ends = list(accumulate(len(part) for part in parts))
    ids = tuple(name for part in parts for name in part.ids)

    def read(index: int) -> Sample:
        index = range(len(ids))[index]
        part = bisect_right(ends, index)
        return parts[part].read(index - (ends[part - 1] if part else 0))

    known = [part.labelled for part in parts if part.labelled is not None]
    labelled = np.concatenate(known) if len(known) == len(parts) else None
    return PoseSet(" + ".join(part.spec for part in parts), parts[0].keypoints, ids, read, labelled)


_UNWRITABLE = re.compile("[\ud800-\udfff\n\r]")


def written(name: str) -> str:
    """A name as files and terminals take it: bytes that are no UTF-8, and line ends, as %XX.

    >>> written("stra\\udcdfe.png")
    'stra%DFe.png'
    """
    return _UNWRITABLE.sub(lambda match: f"%{ord(match[0]) & 0xFF:02X}", name)


def with_written_names(data: PoseSet) -> PoseSet:
    """The same persons under names that can be stored, and listed one a line.

    Raises:
        DataError: two would have the same.
    """
    spec, ids = written(data.spec), tuple(written(name) for name in data.ids)
    if (spec, ids) == (data.spec, data.ids):
        return data
    changed = [name for name, old in zip(ids, data.ids, strict=True) if name != old]
    if twice := next((name for name in changed if ids.count(name) > 1), None):
        raise DataError(f"{spec} would have two persons with the id {twice}; rename a file")

    def read(index: int) -> Sample:
        return replace(data.read(index), id=ids[index])

    return replace(data, spec=spec, ids=ids, read=read)


def check_alike(parts: Sequence[PoseSet]) -> None:
    """Raise DataError where sets have different keypoints."""
    first = parts[0]
    for part in parts[1:]:
        if part.keypoints.names != first.keypoints.names:
            raise DataError(
                f"{first.spec} and {part.spec} have different keypoints ({first.keypoints.name} "
                f"and {part.keypoints.name}); expected one set. Map all to one with --keypoints"
            )


def check_labelled(data: PoseSet) -> None:
    """Raise DataError where somebody is known to have no label: nothing can be learnt there."""
    if data.labelled is None or (some := data.labelled.any(axis=1)).all():
        return
    raise DataError(
        f"{data.spec} has {int((~some).sum())} person(s) without a label, "
        f"{data.ids[int(np.argmin(some))]} for one; expected labelled joints. "
        "images:DIR is for selecting from, not for training or measuring"
    )


def check_apart(first: PoseSet, second: PoseSet) -> None:
    """Raise DataError where two sets share a person: what is measured must be unseen."""
    if shared := sorted(set(first.ids) & set(second.ids)):
        raise DataError(
            f"{first.spec} and {second.spec} share {len(shared)} person(s), {shared[0]} for one; "
            "expected none. Give ranges that do not overlap"
        )
