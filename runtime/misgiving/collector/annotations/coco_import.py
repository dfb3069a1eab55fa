"""Corrected COCO annotations as a new, immutable version of a label set."""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from misgiving.collector.annotations.coco import (
    ANNOTATIONS,
    ORIGINAL,
    Annotation,
    Document,
    Origin,
    read_document,
)
from misgiving.runtime.durable import new_folder
from misgiving.runtime.errors import DataError, first_problem
from misgiving.runtime.geometry import Region
from misgiving.runtime.images import read_bytes
from misgiving.runtime.keypoints import KeypointSet, of_category
from misgiving.runtime.labelset import IMAGES, LABELS, LabelledPerson, LabelSet

log = logging.getLogger(__name__)

_LEAST_OVERLAP = 0.1
"""Intersection over union from which on a corrected person can be an exported one."""


@dataclass(frozen=True)
class Corrected:
    """What annotators made of an export, as :func:`read_corrected` finds it."""

    labels: LabelSet
    deleted: int
    """Exported persons that no annotation stands for any more, or that have no joint left."""
    unmatched: tuple[str, ...]
    """Annotations that stand for no exported person, and why; they are left out."""


def import_coco(folder: Path, out: Path) -> LabelSet:
    """Read a corrected export and write it as a label set into a new folder.

    Raises:
        DataError: see :func:`read_corrected` and :func:`write_labels`.
    """
    corrected = read_corrected(folder)
    for why in corrected.unmatched:
        log.warning("%s", why)
    write_labels(corrected.labels, folder, out)
    return corrected.labels


def read_corrected(folder: Path) -> Corrected:
    """Match corrected annotations with the exported persons.

    An annotation that kept its ``misgiving`` key is that person. For the others the person is
    looked up among those of the image with the same file name: the one that overlaps most, and
    of equals the one with the same id (ids alone do not do: some tools count them anew).

    >>> corrected = read_corrected(Path("batch"))
    >>> len(corrected.labels.persons), corrected.deleted, corrected.unmatched
    (2, 0, ())

    Raises:
        DataError: a file is missing or no COCO, the keypoints are not the exported ones, a
            person has a wrong number of them, or nobody is left.
    """
    original, edited = read_document(folder / ORIGINAL), read_document(folder / ANNOTATIONS)
    keypoints = _keypoints(original, folder / ORIGINAL)
    category_ids = _check_categories(edited, keypoints, folder / ANNOTATIONS)
    exported = _by_image_name(original, _names(original))
    corrected = _by_image_name(edited, _match_names(edited, exported))
    unmatched = []
    persons = []
    for name, annotations in corrected.items():
        candidates = [one for one in annotations if one.category_id in category_ids]
        for one in candidates:
            _check_keypoints(one, keypoints, folder / ANNOTATIONS)
        matches = match(candidates, exported.get(name, []))
        unmatched += [_unmatched(one, name) for one in annotations if one.id not in matches]
        persons += [_person(one, matches[one.id], name) for one in candidates if one.id in matches]
    persons = [person for person in persons if any(person.labelled)]
    if not persons:
        raise DataError(
            f"{folder / ANNOTATIONS} has no person of the export; expected at least one. "
            "Copy the tool's COCO keypoints file over it"
        )
    labels = _versioned(keypoints, sorted(persons, key=lambda person: person.id))
    return Corrected(labels, len(original.annotations) - len(persons), tuple(unmatched))


def write_labels(labels: LabelSet, folder: Path, out: Path) -> None:
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
    names = sorted({person.image for person in labels.persons})
    if missing := [name for name in names if not (folder / IMAGES / name).is_file()]:
        raise DataError(f"{folder / IMAGES} lacks {missing[0]}; copy the export's images back")
    with new_folder(out) as new:
        (new / IMAGES).mkdir()
        for name in names:
            (new / IMAGES / name).write_bytes(read_bytes(folder / IMAGES / name))
        (new / LABELS).write_bytes(labels.model_dump_json(indent=1).encode() + b"\n")


def match(corrected: list[Annotation], exported: list[Annotation]) -> dict[int, Annotation]:
    """Which exported person each annotation of one image stands for; each at most once.

    Returns:
        id of a corrected annotation → the exported one. What is not in it matches none.
    """
    by_origin = {_key(one.misgiving): one for one in exported if one.misgiving is not None}
    matches: dict[int, Annotation] = {}
    taken: set[int] = set()
    for one in corrected:
        known = by_origin.get(_key(one.misgiving)) if one.misgiving is not None else None
        if known is not None and known.id not in taken:
            matches[one.id] = known
            taken.add(known.id)
    pairs = sorted(
        ((_likeness(one, other), one, other) for one in corrected for other in exported),
        key=lambda pair: pair[0],
        reverse=True,
    )
    for (overlap, same_id), one, other in pairs:
        alone = same_id and len(exported) == 1
        free = one.misgiving is None and one.id not in matches and other.id not in taken
        if free and (overlap >= _LEAST_OVERLAP or alone):
            matches[one.id] = other
            taken.add(other.id)
    return matches


def _likeness(one: Annotation, other: Annotation) -> tuple[float, bool]:
    return _overlap(_box(one), _box(other)), one.id == other.id


def _box(annotation: Annotation) -> Region:
    if annotation.bbox is not None and min(annotation.bbox[2:]) > 0:
        return Region(*annotation.bbox)
    flat = _triples(annotation)
    labelled = flat[flat[:, 2] > 0, :2]
    return Region.around(labelled) if len(labelled) else Region(0, 0, 0, 0)


def _overlap(a: Region, b: Region) -> float:
    """Intersection over union of two boxes."""
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    common = max(width, 0.0) * max(height, 0.0)
    union = a.width * a.height + b.width * b.height - common
    return common / union if union > 0 else 0.0


def _keypoints(original: Document, path: Path) -> KeypointSet:
    if not original.categories:
        raise DataError(f"{path} has no category; expected the one of the export. Export again")
    category = original.categories[0]
    try:
        return of_category(category.name, category.keypoints, category.skeleton)
    except ValidationError as error:
        raise DataError(f"{path}: {first_problem(error)}; export again") from error


def _check_categories(edited: Document, keypoints: KeypointSet, path: Path) -> set[int]:
    """Ids of the categories that are persons; others that tools add have no keypoints."""
    with_keypoints = [category for category in edited.categories if category.keypoints]
    for category in with_keypoints:
        if category.keypoints != keypoints.names:
            strange = sorted(set(category.keypoints) - set(keypoints.names))
            what = f"keypoint {strange[0]!r}" if strange else "keypoints in another order or number"
            raise DataError(
                f"{path}: category {category.name!r} has {what}; expected the "
                f"{len(keypoints)} of {keypoints.name} in order. Keep the exported labels"
            )
    if not with_keypoints:
        raise DataError(
            f"{path} has no category with keypoints; expected the {len(keypoints)} of "
            f"{keypoints.name}. Export from the tool as COCO *keypoints*"
        )
    return {category.id for category in with_keypoints}


def _check_keypoints(annotation: Annotation, keypoints: KeypointSet, path: Path) -> None:
    where = f"{path}: annotation {annotation.id}"
    if len(annotation.keypoints) != 3 * len(keypoints):
        raise DataError(
            f"{where} has {len(annotation.keypoints)} numbers in keypoints; expected "
            f"{3 * len(keypoints)}: x, y, v of {len(keypoints)} joints. Mend it in the tool"
        )
    strange = set(annotation.keypoints[2::3]) - {0.0, 1.0, 2.0}
    if strange:
        raise DataError(
            f"{where} has visibility {min(strange):g}; expected 0 (not labelled), 1 (hidden) or "
            "2 (visible). Mend it in the tool"
        )


def _names(document: Document) -> dict[int, str]:
    return {image.id: PurePosixPath(image.file_name).name for image in document.images}


def _match_names(edited: Document, exported: Iterable[str]) -> dict[int, str]:
    """Image id → exported file name; some tools put folders or a hash and a dash before it."""
    exported = set(exported)
    return {
        number: name if name in exported else name.rpartition("-")[2]
        for number, name in _names(edited).items()
    }


def _by_image_name(document: Document, names: dict[int, str]) -> dict[str, list[Annotation]]:
    grouped: defaultdict[str, list[Annotation]] = defaultdict(list)
    for annotation in document.annotations:
        grouped[names.get(annotation.image_id, f"image {annotation.image_id}")].append(annotation)
    return grouped


def _unmatched(annotation: Annotation, image: str) -> str:
    return (
        f"annotation {annotation.id} of {image} is left out: it stands for no exported person, "
        "so its sampling probability is unknown"
    )


def _person(annotation: Annotation, exported: Annotation, image: str) -> LabelledPerson:
    origin = exported.misgiving
    if origin is None:
        raise DataError(f"annotation {exported.id} of {ORIGINAL} lost its key; export again")
    triples = _triples(annotation)
    box = _box(exported)
    return LabelledPerson(
        id=f"{origin.frame_digest[:16]}-{origin.person_index}",
        image=image,
        region=(box.x, box.y, box.width, box.height),
        points=tuple((float(x), float(y)) for x, y in triples[:, :2]),
        labelled=tuple(bool(v > 0) for v in triples[:, 2]),
        sampling_probability=origin.sampling_probability,
        predicted_loss=origin.predicted_loss,
        bundle_digest=origin.bundle_digest,
        device_id=origin.device_id,
        stream_id=origin.stream_id,
    )


def _triples(annotation: Annotation) -> NDArray[np.float64]:
    return np.asarray(annotation.keypoints, np.float64).reshape(-1, 3)


def _key(origin: Origin) -> tuple[str, int]:
    return origin.frame_digest, origin.person_index


def _versioned(keypoints: KeypointSet, persons: Iterable[LabelledPerson]) -> LabelSet:
    labels = LabelSet(schema_version=2, version="", keypoints=keypoints, persons=tuple(persons))
    digest = hashlib.sha256(labels.model_dump_json().encode()).hexdigest()
    return labels.model_copy(update={"version": digest[:12]})
