"""Persons of a pool as a batch for annotators, with what a bundle says of them as pre-labels."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from misgiving.collector import ExportCounts, export_frames
from misgiving.runtime import Estimator
from misgiving.runtime.geometry import Region
from misgiving.runtime.images import encode_png, read_bytes
from misgiving.runtime.nouns import Decision, Frame
from misgiving.runtime.wire.collected import KeptFrame
from misgiving.trainer import PoseSet, progress
from misgiving.trainer.data.base import Sample
from misgiving.trainer.data.readable import Readable, asked_window

_CHOSEN = Decision(raised=False, kept=None, threshold=0.0, sampling_probability=1.0)
"""Somebody chose these persons; a vehicle did not."""

Picture = list[tuple[str, int, Region | None]]
"""Id, place in the set and region of everybody in it."""


def prelabel(
    estimator: Estimator, data: PoseSet, out: Path | str, *, format: str = "coco"
) -> ExportCounts:
    """Write a pool, or who was picked of it, as ``annotations export`` writes collected frames.

    >>> from misgiving.trainer import open_data
    >>> people = open_data("synthetic:3,4")
    >>> prelabel(Estimator.load(), people, Path("tasks"), format="cvat").persons
    4

    Args:
        estimator: whose answers become the pre-labels.
        data: the persons; who shares an image file shares a picture of the batch.
        out: folder, must not exist.
        format: see :func:`misgiving.collector.export_annotations`.

    Raises:
        InvalidInput: no such format.
        DataError: ``out`` exists or cannot be written, or more than half cannot be read.
    """
    out = Path(out)
    pictures = _pictures(estimator, data)
    frames = (_frame(estimator, data, picture) for picture in pictures)
    return export_frames(frames, out, format=format, none=f"{data.spec} has nobody to export")


def _pictures(estimator: Estimator, data: PoseSet) -> Sequence[Picture]:
    """Everybody who can be read, by image."""
    crop = estimator.bundle.manifest.crop
    reader = Readable(data, lambda sample: asked_window(sample, crop))
    pictures: defaultdict[Path | str, Picture] = defaultdict(list)
    places = {name: place for place, name in enumerate(data.ids)}
    for sample in reader.samples(progress.counted(len(data), "reading")):
        one = (sample.id, places[sample.id], sample.asked_region)
        pictures[sample.path or sample.id].append(one)
    reader.kept()
    return list(pictures.values())


def _frame(estimator: Estimator, data: PoseSet, picture: Picture) -> tuple[str, KeptFrame]:
    (name, place, _), *_ = picture
    image = _encoded(data[place])
    regions = [region for _, _, region in picture if region]
    manifest = estimator.bundle.manifest
    kept = KeptFrame(
        Frame(image=image, frame_id=name, stream_id="", regions=tuple(regions)),
        tuple(one.flagged_as(_CHOSEN) for one in estimator.infer(image, regions).persons),
        estimator.bundle.digest,
        keypoint_names=manifest.keypoints.names,
        skeleton=manifest.keypoints.skeleton,
    )
    return hashlib.sha256(image).hexdigest(), kept


def _encoded(sample: Sample) -> bytes:
    return read_bytes(sample.path) if sample.path else encode_png(sample.image)
