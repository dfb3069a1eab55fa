"""An export of two frames, and what annotators and their tools do to it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from misgiving.collector.annotations.coco import ORIGINAL, Document, Origin
from misgiving.collector.store import Store
from misgiving.runtime.keypoints import KeypointSet
from misgiving.runtime.labelset import IMAGES
from misgiving.v1.fleet_pb2 import CollectedFrame
from shared.collecting import collected, person, serialise

FRAMES = (
    collected("one", persons=[person(0, loss=3.0)]),
    collected("two", persons=[person(0, loss=0.25), person(1, loss=2.5)]),
)


def stored(folder: Path, *frames: CollectedFrame) -> Store:
    """A store with some frames."""
    store = Store(folder)
    for frame in frames:
        store.put(serialise(frame))
    return store


def edit(export: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change ``annotations.json`` of an export by a function of its document."""
    path = export / "annotations.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def drop_key(document: dict[str, Any]) -> None:
    """As all tools do that know nothing of ours."""
    for annotation in document["annotations"]:
        del annotation["misgiving"]


def touch(document: dict[str, Any]) -> None:
    """Every person is corrected a little."""
    for annotation in document["annotations"]:
        annotation["keypoints"][1] += 2


def points_of(frame: CollectedFrame, index: int) -> NDArray[np.float64]:
    """(K, 2), as the vehicle answered."""
    return np.array([(k.x_px, k.y_px) for k in frame.persons[index].keypoints])


def as_exported(document: dict[str, Any], folder: Path) -> Document:
    """Somebody's COCO file as an export of ours; writes its ``original.json`` into a new folder.

    Who has no labelled joint, and crowds, are left out.
    """
    frame = {"bundle_digest": "b" * 64, "device_id": "car-7", "stream_id": "front"}
    person = {"person_index": 0, "flagged": True, "kept": "predicted_loss", "predicted_loss": 2.0}
    keys = {"sampling_probability": 1.0} | frame | person
    whole = Document.model_validate(document)
    persons = [
        one.model_copy(
            update={"misgiving": Origin.model_validate(keys | {"frame_digest": f"{one.id:016x}"})}
        )
        for one in whole.annotations
        if any(one.keypoints[2::3]) and not one.iscrowd
    ]
    exported = whole.model_copy(update={"annotations": tuple(persons)})
    folder.mkdir()
    (folder / IMAGES).mkdir()
    (folder / ORIGINAL).write_bytes(exported.to_json())
    return exported


def people(seed: int, keypoints: KeypointSet, images: int = 4) -> dict[str, Any]:
    """A COCO file of random persons, some of whose joints are hidden, unlabelled or outside."""
    random = np.random.default_rng(seed)
    document: dict[str, Any] = {"images": [], "annotations": []}
    for image in range(1, images + 1):
        width, height = random.integers(50, 2000, 2).tolist()
        name = {"id": image, "file_name": f"{random.bytes(8).hex()}.png"}
        document["images"].append(name | {"width": width, "height": height})
        for _ in range(random.integers(0, 4)):
            joints = random.uniform(-0.1, 1.1, (len(keypoints), 2)) * [width, height]
            visibility = random.integers(0, 3, (len(keypoints), 1))
            joints = np.hstack([joints.round(3) * (visibility > 0), visibility])
            left, top, _ = joints.min(axis=0).tolist()
            right, bottom, _ = joints.max(axis=0).tolist()
            number = len(document["annotations"]) + 1
            row = {"id": number, "image_id": image, "category_id": 1}
            row |= {"keypoints": joints.ravel().tolist()}
            row |= {"bbox": [left, top, right - left, bottom - top]}
            document["annotations"].append(row)
    category = {"id": 1, "name": "person", "keypoints": keypoints.names}
    category["skeleton"] = [(a + 1, b + 1) for a, b in keypoints.skeleton]
    return document | {"categories": [category]}
