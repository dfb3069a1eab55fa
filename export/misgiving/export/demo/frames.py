"""The demo's recording: a folder of frames with the persons' boxes, and what is true of them."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from misgiving.runtime import images
from misgiving.trainer import progress
from misgiving.trainer.data import PoseSet, Sample


@dataclass(frozen=True, slots=True)
class Recording:
    """Frames on disk; persons by frame name."""

    folder: Path
    regions: Path
    """JSON: frame name → list of boxes, as ``misgiving stream --regions`` takes it."""
    position: dict[str, int]
    """Frame name → position in the streamed set."""


def write_recording(data: PoseSet, out: Path) -> Recording:
    """Write a set as a recording: files as they are, rendered images as PNG."""
    folder, regions_path = out / "frames", out / "regions.json"
    folder.mkdir(parents=True)
    regions: dict[str, list[list[float]]] = {}
    for index in progress.counted(len(data), "writing frames"):
        sample = data[index]
        name = f"{index:05d}{sample.path.suffix if sample.path else '.png'}"
        _write_frame(sample, folder / name)
        box = sample.region
        regions[name] = [[box.x, box.y, box.width, box.height]] if box else []
    regions_path.write_text(json.dumps(regions), encoding="utf-8")
    return Recording(folder, regions_path, {name: i for i, name in enumerate(regions)})


def _write_frame(sample: Sample, path: Path) -> None:
    if sample.path:
        shutil.copyfile(sample.path, path)
    else:
        path.write_bytes(images.encode_png(sample.image))


def correct_annotations(folder: Path, data: PoseSet, position: dict[str, int]) -> int:
    """Do the annotators' work with the data set's own labels; gives the number of persons.

    Rewrites ``annotations.json`` of an export as an annotation tool would: keypoints and their
    visibility change, everything else stays.

    Args:
        folder: from ``misgiving annotations export``.
        data: the streamed set.
        position: digest of a collected frame → position in that set.
    """
    path = folder / "annotations.json"
    document: dict[str, Any] = json.loads(path.read_bytes())
    for annotation in document["annotations"]:
        sample = data[position[annotation["misgiving"]["frame_digest"]]]
        annotation["keypoints"] = _triples(sample)
        annotation["num_keypoints"] = int(sample.labelled.sum())
    path.write_text(json.dumps(document), encoding="utf-8")
    return len(document["annotations"])


def _triples(sample: Sample) -> list[float]:
    """COCO's x, y, v of each joint; zeros where a joint is not labelled."""
    hidden = np.zeros(len(sample.labelled), bool) if sample.hidden is None else sample.hidden
    mask = sample.labelled[:, None]
    triples = np.where(mask, np.column_stack([sample.points, 2 - hidden]), 0)
    return [round(float(value), 3) for value in triples.ravel()]
