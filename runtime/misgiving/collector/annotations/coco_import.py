"""Corrected COCO annotations as a new, immutable version of a label set."""

import hashlib
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from misgiving.collector.annotations.batch import Edited
from misgiving.collector.annotations.coco import ORIGINAL, FrameOrigin, Origin
from misgiving.collector.annotations.exported import Exported
from misgiving.collector.annotations.formats import AnnotationFormat, read_returned
from misgiving.collector.annotations.matching import (
    Persons,
    copies,
    is_untouched,
    match,
    restored,
    uncovered,
)
from misgiving.collector.annotations.records import false_alarms
from misgiving.collector.annotations.sides import NEAR, sides_of
from misgiving.collector.store import Store
from misgiving.runtime.cocofile import joints_far_outside
from misgiving.runtime.durable import new_folder
from misgiving.runtime.errors import DataError
from misgiving.runtime.images import read_bytes
from misgiving.runtime.keypoints import KeypointSet
from misgiving.runtime.labelset import IMAGES, LABELS, LabelledPerson, LabelSet, Split

log = logging.getLogger(__name__)

_DECIMALS = 3
"""Of a coordinate in px, as in an export."""


@dataclass(frozen=True)
class Corrected:
    """What annotators made of an export, as :func:`read_corrected` finds it."""

    labels: LabelSet
    added: int
    """Persons of ``labels`` whom annotators added: they were in the frame, but not exported."""
    deleted: int
    """Exported persons that no annotation stands for any more, or that have no joint left."""
    untouched: int
    """Exported persons that came back as they were, and are left out: nobody has looked at them."""
    agreed: int
    """Persons of ``labels`` that came back as they were, of whom somebody says that they are
    right."""
    frames: Mapping[str, Split]
    """Digests of the frames that have labels, and on which side they are."""
    said: tuple[str, ...]
    """What else was left out, and what was scaled."""


def import_coco(folder: Path, out: Path, *, trust_untouched: bool = False) -> LabelSet:
    """Read a corrected export and write it as a label set into a new folder.

    Raises:
        DataError: see :func:`read_corrected` and :func:`write_labels`.
    """
    corrected = read_corrected(folder, trust_untouched=trust_untouched)
    for line in corrected.said:
        log.warning("%s", line)
    write_labels(corrected.labels, folder, out)
    return corrected.labels


def read_corrected(
    folder: Path | str,
    *,
    format: str = "",
    trust_untouched: bool = False,
    store: Store | None = None,
    near: float = NEAR,
) -> Corrected:
    """Match corrected annotations with the exported persons.

    Images are told by the digest in their names, persons by our key where the tool kept it, else
    by their places in the image. A person who matches nobody was added by an annotator, and is a
    label too: the vehicle kept the frame with one probability for everybody in it.

    >>> corrected = read_corrected(Path("batch"))
    >>> len(corrected.labels.persons), corrected.deleted, corrected.untouched
    (2, 0, 0)

    Args:
        folder: of the export, with the corrected file.
        format: of that file, see :func:`export_annotations`; found by its name by default.
        trust_untouched: pre-labels that came back as they were are labels too.
        store: that the frames are of. Where somebody has marked one as a false alarm, the persons
            who were flagged in it are right. What it has labels of says on which side of training
            and validation near-duplicates are.
        near: cosine distance of embeddings, 0 to 2, up to which frames are near-duplicates; the
            default suits the bundle in the package.

    Raises:
        InvalidInput: no such format, or ``near`` is no distance.
        DataError: a file is missing or cannot be understood, the keypoints are not the exported
            ones, labels would be lost or wrong, or nobody is left.
    """
    folder = Path(folder)
    exported = Exported(folder / ORIGINAL)
    kind, came = read_returned(folder, exported, format)
    edited = Edited(came, exported)
    right = false_alarms(store, exported.digests()) if store else set()
    found = _Found(exported, edited, kind, trust_untouched, right)
    for image in sorted(edited.by_image):
        found.look_at(image)
    if not found.persons:
        raise DataError(f"{came.path} {_why_nobody(found.untouched)}")
    if found.covered:
        found.said.append(
            f"{found.covered} joints are labelled where the vehicle has covered heads: left out"
        )
    sides = sides_of({one.frame_digest: one for one in found.frames.values()}, store, near)
    if sides.between:
        found.said.append(
            f"{sides.between} frames are nearly the same as some for training and some for "
            "validation: they are in neither part"
        )
    persons = sorted(
        (
            one.model_copy(update={"split": sides.of[found.frames[one.image].frame_digest]})
            for one in found.persons
        ),
        key=lambda person: person.id,
    )
    matched = len(persons) - found.added + found.untouched
    return Corrected(
        _versioned(exported.keypoints, persons),
        found.added,
        len(exported) - matched,
        found.untouched,
        found.agreed,
        sides.of,
        (*edited.said, *found.said),
    )


def write_labels(labels: LabelSet, folder: Path | str, out: Path | str) -> None:
    """Write a label set and copies of its images; ``out`` appears whole or not at all.

    >>> labels = read_corrected(Path("batch")).labels
    >>> write_labels(labels, Path("batch"), Path("labels-1"))

    Args:
        labels: to be written.
        folder: of the export, with its ``images/``.
        out: must not exist.

    Raises:
        DataError: an image is missing; ``out`` exists or cannot be written.
    """
    folder, out = Path(folder), Path(out)
    names = sorted({person.image for person in labels.persons})
    if missing := [name for name in names if not (folder / IMAGES / name).is_file()]:
        raise DataError(f"{folder / IMAGES} lacks {missing[0]}; copy the export's images back")
    with new_folder(out) as new:
        (new / IMAGES).mkdir()
        for name in names:
            (new / IMAGES / name).write_bytes(read_bytes(folder / IMAGES / name))
        (new / LABELS).write_bytes(labels.model_dump_json(indent=1).encode() + b"\n")


class _Found:
    """The labels of an import, counted as they are found."""

    def __init__(
        self,
        exported: Exported,
        edited: Edited,
        kind: AnnotationFormat,
        trust_untouched: bool,
        right: Collection[str],
    ) -> None:
        self.persons: list[LabelledPerson] = []
        self.frames: dict[str, FrameOrigin] = {}
        self.added = self.untouched = self.agreed = self.covered = 0
        self.said: list[str] = []
        self._exported = exported
        self._edited = edited
        self._held = kind.held
        self._trust_untouched = trust_untouched
        self._right = right

    def look_at(self, image: int) -> None:
        """Take the persons of one image."""
        name, size = self._exported.images.names[image], self._exported.images.sizes[image]
        before, origins = self._exported.persons(image), self._exported.origins_of(image)
        after = self._edited.persons(image)
        twice = copies(after)
        self.said += [
            f"annotation {after.ids[one]} of {name} has the joints of {after.ids[first]}: left out"
            for one, first in twice.items()
        ]
        after = after.subset([place for place in range(len(after)) if place not in twice])
        after = self._seen(after, self._exported.origin_of(image).covered)
        pairs = match(after, before)
        if self._held:
            after = restored(
                after, pairs, before, self._held(before.points, before.visibility, size)
            )
        added = 0
        for one, other in enumerate(pairs):
            if other < 0:
                added += 1
                label = _added(self._exported.origin_of(image), name, after, one, size, added)
            elif is_untouched(after, one, before, other) and not self._looked_at(
                name, origins[other]
            ):
                self.untouched += 1
                continue
            else:
                label = _corrected(origins[other], name, after, one, before.boxes[other])
            _check_inside(after, one, name, size, self._exported.keypoints)
            self.persons.append(label)
            self.frames[name] = self._exported.origin_of(image)
        self.added += added

    def _seen(
        self, persons: Persons, covered: Sequence[tuple[float, float, float, float]]
    ) -> Persons:
        """The same without labels of what nobody can see, and without whom nothing is left of."""
        if not covered:
            return persons
        seen = uncovered(persons, covered)
        self.covered += int((seen.visibility != persons.visibility).sum())
        return seen.subset(np.flatnonzero(seen.visibility.any(axis=1)).tolist())

    def _looked_at(self, image: str, origin: Origin) -> bool:
        """Whether somebody says that a person is right who came back as exported."""
        right = origin.flagged and origin.frame_digest in self._right
        if right or self._edited.submitted(image):
            self.agreed += 1
            return True
        return self._trust_untouched


def _corrected(
    origin: Origin, image: str, persons: Persons, place: int, region: NDArray[np.float64]
) -> LabelledPerson:
    number = f"{origin.frame_digest[:16]}-{origin.person_index}"
    return _label(origin, number, image, persons, place, region, origin.predicted_loss)


def _added(
    origin: FrameOrigin,
    image: str,
    persons: Persons,
    place: int,
    size: NDArray[np.int64],
    number: int,
) -> LabelledPerson:
    """Somebody of the same frame, who was not asked about: the region is the person's own box."""
    x, y, width, height = persons.extents[place]
    low = np.clip((x, y), 0, size)
    high = np.clip((x + width, y + height), 0, size)
    region = np.concatenate([low, high - low])
    whole = np.array([0, 0, *size], np.float64)
    name = f"{origin.frame_digest[:16]}-added-{number}"
    box = region if min(region[2:]) >= 1 else whole
    return _label(origin, name, image, persons, place, box, None)


def _label(
    origin: FrameOrigin,
    number: str,
    image: str,
    persons: Persons,
    place: int,
    region: NDArray[np.float64],
    predicted_loss: float | None,
) -> LabelledPerson:
    x, y, width, height = region.round(_DECIMALS).tolist()
    points = persons.points[place].round(_DECIMALS).tolist()
    return LabelledPerson(
        id=number,
        image=image,
        region=(x, y, width, height),
        points=tuple((x, y) for x, y in points),
        visibility=tuple(persons.visibility[place].tolist()),
        sampling_probability=origin.sampling_probability,
        predicted_loss=predicted_loss,
        bundle_digest=origin.bundle_digest,
        device_id=origin.device_id,
        stream_id=origin.stream_id,
    )


def _check_inside(
    persons: Persons, place: int, image: str, size: NDArray[np.int64], keypoints: KeypointSet
) -> None:
    """Raise DataError where a labelled joint cannot be of this image."""
    far = joints_far_outside(persons.points[place], size) & (persons.visibility[place] > 0)
    for joint in np.flatnonzero(far)[:1]:
        x, y = persons.points[place][joint]
        raise DataError(
            f"annotation {persons.ids[place]} of {image} has {keypoints.names[joint]} at "
            f"({x:g}, {y:g}), far outside of the image of {size[0]} x {size[1]} px. "
            "Mend it in the tool, or make the joint not labelled there"
        )


def _why_nobody(untouched: int) -> str:
    if untouched:
        return (
            f"has all {untouched} persons as they were exported; expected corrected ones. Correct "
            "them in the tool, or add --trust-untouched if somebody has looked at each of them"
        )
    return (
        "has no person of the export; expected at least one. Copy the file that the tool exports "
        "over it"
    )


def _versioned(keypoints: KeypointSet, persons: Iterable[LabelledPerson]) -> LabelSet:
    labels = LabelSet(schema_version=4, version="", keypoints=keypoints, persons=tuple(persons))
    digest = hashlib.sha256(labels.model_dump_json().encode()).hexdigest()
    return labels.model_copy(update={"version": digest[:12]})
