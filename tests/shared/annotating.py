"""An export of two frames, and what annotators and their tools do to it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from misgiving.collector.store import Store
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
