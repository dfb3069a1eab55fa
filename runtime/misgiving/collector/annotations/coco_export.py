"""Stored frames as a folder that annotation tools read: images, and persons in a tool's format."""

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from misgiving.collector.annotations.coco import (
    ORIGINAL,
    Annotation,
    Category,
    Document,
    FrameOrigin,
    Image,
    Origin,
)
from misgiving.collector.annotations.formats import format_named, lost
from misgiving.collector.annotations.records import record_batch
from misgiving.collector.frames.ordering import ordered_frames
from misgiving.collector.frames.selection import FrameSelection, every_frame
from misgiving.collector.frames.words import Order
from misgiving.collector.store import Store
from misgiving.runtime.durable import new_folder
from misgiving.runtime.errors import DataError, MisgivingError
from misgiving.runtime.images import decode
from misgiving.runtime.labelset import IMAGES
from misgiving.runtime.nouns import Decision, Person, Reason
from misgiving.runtime.wire.collected import KeptFrame

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportCounts:
    """What :func:`export_annotations` wrote."""

    images: int
    persons: int
    flagged: int
    """Persons that the score flags."""
    audited: int
    """Persons that were kept at random."""
    unusable: int
    """Frames left out because they cannot be annotated; logged by frame id."""
    corrected: Path
    """The file by which the annotation tool finds the persons."""
    lost: int
    """Joints that the format holds only in part; where nobody touches them, the import restores
    them from ``original.json``."""
    codings: Mapping[str, int]
    """How many pictures are coded how: ``as sent``, ``png``, ``jpeg QUALITY``, or empty where the
    vehicle did not say."""
    hidden: int
    """Joints that went out without a label, because the vehicle has covered them."""
    repeats: int
    """Frames left out because an earlier one has the same picture, byte for byte."""


def export_annotations(
    store: Store,
    out: Path | str,
    selection: FrameSelection = FrameSelection(),
    *,
    format: str = "coco",
    order: Order | None = None,
    limit: int = 0,
) -> ExportCounts:
    """Write stored frames, with all their persons, into a new folder, each picture once.

    The folder holds ``images/``, the file that annotators correct, and ``original.json``. The
    store notes who went out, as the batch of the folder's name.

    >>> with Store(Path("collected"), create=False) as store:
    ...     unseen = FrameSelection(reviewed=False)
    ...     counts = export_annotations(store, Path("batch-2"), unseen, format="cvat")
    >>> counts.images
    2

    Args:
        store: of the collector.
        out: must not exist.
        selection: which frames.
        format: ``coco``, ``cvat``, ``label-studio``, ``yolo`` or ``deeplabcut``.
        order: what comes first, and is taken of frames with the same picture; as they arrived,
            where it is not said.
        limit: of images; 0 for all.

    Raises:
        InvalidInput: no such format.
        DataError: ``out`` exists or cannot be written, nothing can be exported, an object of the
            store is damaged, or the frames have different keypoints.
    """
    out = Path(out)
    hint = f"{store.database.name} has no frame to export; collect some first, or ask for others"
    rows = _digests(store, selection, order, limit)
    frames = ((digest, store.read(digest)) for digest in rows)
    counts, digests = _export(frames, out, format, hint, limit)
    record_batch(store, out.name, format, digests)
    return counts


def _digests(
    store: Store, selection: FrameSelection, order: Order | None, limit: int
) -> Iterator[str]:
    if order is not None:
        return (row.digest for row in ordered_frames(store.database, selection, order, limit))
    rows = every_frame(store.database, selection)
    arrived = sorted((row.received_time_unix_nano, row.digest) for row in rows)
    return (digest for _, digest in arrived)


def export_frames(
    frames: Iterable[tuple[str, KeptFrame]],
    out: Path | str,
    *,
    format: str = "coco",
    none: str = "no frame to export; expected at least one",
) -> ExportCounts:
    """As :func:`export_annotations`, of frames that are in no store.

    >>> with Store(Path("collected"), create=False) as store:
    ...     frames = [(row.digest, frame) for row, frame in store.frames()]
    >>> export_frames(frames, Path("batch-3"), format="yolo").persons
    2

    Args:
        frames: each with a digest that names it, 64 hex digits.
        out: must not exist.
        format: see there.
        none: what is said where nothing can be exported.
    """
    out = Path(out)
    counts, _ = _export(frames, out, format, none)
    return counts


def _export(
    frames: Iterable[tuple[str, KeptFrame]], out: Path, format: str, none: str, limit: int = 0
) -> tuple[ExportCounts, list[str]]:
    """Also gives the digests of the frames whose pictures went out."""
    images: list[Image] = []
    annotations: list[Annotation] = []
    category: Category | None = None
    unusable = repeats = 0
    digests: dict[str, str] = {}
    kind, codings = format_named(format), Counter[str]()
    with new_folder(out) as folder:
        (folder / IMAGES).mkdir()
        for digest, frame in frames:
            picture = hashlib.sha256(_encoded(frame)).hexdigest()
            if picture in digests:
                repeats += 1
                continue
            try:
                image = _image(len(images) + 1, digest, frame)
            except MisgivingError as error:
                log.warning("frame %s is not exported: %s", frame.frame.name, error)
                unusable += 1
                continue
            category = _same_category(category, frame)
            digests[picture] = digest
            (folder / IMAGES / image.file_name).write_bytes(_encoded(frame))
            images.append(image)
            codings[_coding(frame)] += 1
            annotations += _annotations(len(annotations) + 1, image, digest, frame)
            if len(images) == limit:
                break
        if category is None:
            raise DataError(f"{none} ({unusable} are unusable)")
        document = _document(category, images, annotations)
        (folder / ORIGINAL).write_bytes(document.to_json())
        kind.write(folder, document, out.name)
    origins = [one.misgiving for one in annotations if one.misgiving is not None]
    flagged = sum(origin.flagged for origin in origins)
    audited = sum(origin.kept == Reason.AUDIT.value for origin in origins)
    counts = (len(images), len(annotations), flagged, audited, unusable)
    hidden = sum(len(one.joints) - one.num_keypoints for one in annotations)
    said = (kind.file(out) or out, lost(kind, document), codings, hidden, repeats)
    return ExportCounts(*counts, *said), list(digests.values())


def frame_probability(decisions: Sequence[Decision]) -> float:
    """Probability with which the vehicle kept a frame: that it kept at least one of its persons,
    or nobody.

    It is every person's probability of being here, since a frame travels with all of them.
    """
    return 1 - math.prod(1 - decision.sampling_probability for decision in decisions)


def _image(number: int, digest: str, frame: KeptFrame) -> Image:
    """The frame's image; MisgivingError where the frame cannot be annotated."""
    if reason := _unusable(frame):
        raise DataError(reason)
    encoded = _encoded(frame)
    height, width = decode(encoded).shape[:2]
    suffix = "png" if encoded.startswith(b"\x89PNG") else "jpg"
    nobody = None if frame.persons else FrameOrigin(**_origin(digest, frame))
    name = f"{digest[:16]}.{suffix}"
    return Image(id=number, file_name=name, width=width, height=height, misgiving=nobody)


def _origin(digest: str, frame: KeptFrame) -> dict[str, Any]:
    """What all that comes of a frame has in common."""
    return {
        "frame_digest": digest,
        "sampling_probability": frame_probability(frame.decisions),
        "bundle_digest": frame.bundle_digest,
        "device_id": frame.device_id,
        "stream_id": frame.frame.stream_id,
        "capture_time_unix_nano": frame.frame.capture_time_unix_nano,
        "coding": _coding(frame),
        "covered": [
            (box.x, box.y, box.width, box.height)
            for box in (frame.redaction.covered if frame.redaction else ())
        ],
    }


def _coding(frame: KeptFrame) -> str:
    name = frame.coding.value if frame.coding else ""
    return f"{name} {frame.jpeg_quality}" if frame.jpeg_quality else name


def _encoded(frame: KeptFrame) -> bytes:
    image = frame.frame.image
    assert isinstance(image, bytes)  # the store takes no other
    return image


def _unusable(frame: KeptFrame) -> str:
    joints = len(frame.keypoint_names)
    if not frame.decisions or not joints:
        return "it has no persons, or no names of keypoints"
    if any(len(person.keypoints) != joints for person in frame.persons):
        return f"a person has another number of keypoints than the {joints} names"
    if not all(math.isfinite(number) for person in frame.persons for number in _numbers(person)):
        return "a keypoint, region or predicted loss is not finite"
    if not 0 < frame_probability(frame.decisions) <= 1:
        return "its sampling probability is not in (0, 1]"
    return ""


def _numbers(person: Person) -> Iterator[float]:
    yield person.predicted_loss
    region = person.region
    yield from (region.x, region.y, region.width, region.height)
    yield from person.keypoints[:, :2].flat


def _same_category(known: Category | None, frame: KeptFrame) -> Category:
    category = Category(
        id=1,
        name="person",
        supercategory="person",
        keypoints=tuple(frame.keypoint_names),
        skeleton=tuple((a + 1, b + 1) for a, b in frame.skeleton),
    )
    if known is not None and known.keypoints != category.keypoints:
        raise DataError(
            f"frame {frame.frame.name} has {len(category.keypoints)} keypoints "
            f"({', '.join(category.keypoints[:3])}…), the first one has others; expected one set. "
            f"Export each bundle alone, this one's with --bundle {frame.bundle_digest[:12]}"
        )
    return known or category


def _annotations(number: int, image: Image, digest: str, frame: KeptFrame) -> Iterator[Annotation]:
    origin = _origin(digest, frame)
    hidden = frame.redaction.hidden if frame.redaction else ()
    for index, person in enumerate(frame.persons):
        region, decision = person.region, person.flag
        unseen = set(hidden[index]) if index < len(hidden) else set()
        joints = tuple(_flat(person, unseen))
        yield Annotation(
            id=number + index,
            image_id=image.id,
            category_id=1,
            keypoints=joints,
            num_keypoints=sum(visibility > 0 for visibility in joints[2::3]),
            bbox=(
                round(region.x, 3),
                round(region.y, 3),
                round(region.width, 3),
                round(region.height, 3),
            ),
            area=round(region.width * region.height, 3),
            score=-person.predicted_loss,
            misgiving=Origin(
                **origin,
                person_index=index,
                flagged=decision.raised,
                kept=decision.kept.value if decision.kept else "",
                predicted_loss=person.predicted_loss,
            ),
        )


def _flat(person: Person, unseen: set[int]) -> Iterator[float]:
    """x, y, v of each joint; of one that the vehicle has covered there is no label."""
    for joint, (x, y, _) in enumerate(person.keypoints.tolist()):
        yield from (0, 0, 0) if joint in unseen else (round(x, 3), round(y, 3), 2)


def _document(category: Category, images: list[Image], annotations: list[Annotation]) -> Document:
    description = f"misgiving: {len(images)} frames, {len(annotations)} persons to be corrected"
    return Document(
        info={"description": description, "version": "1"},
        licenses=({"id": 0, "name": "", "url": ""},),
        categories=(category,),
        images=tuple(images),
        annotations=tuple(annotations),
    )
