"""An export of two frames, and what annotators and their tools do to it."""

import json

import numpy as np

from collector.helpers import collected, person, serialise
from misgiving.collector.store import Store

FRAMES = (
    collected("one", persons=[person(0, loss=3.0)]),
    collected("two", persons=[person(0, loss=0.25), person(1, loss=2.5)]),
)


def stored(folder, *frames):
    """A store with some frames."""
    store = Store(folder)
    for frame in frames:
        store.put(serialise(frame))
    return store


def edit(export, change):
    """Change ``annotations.json`` of an export by a function of its document."""
    path = export / "annotations.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def drop_key(document):
    """As all tools do that know nothing of ours."""
    for annotation in document["annotations"]:
        del annotation["misgiving"]


def touch(document):
    """Every person is corrected a little."""
    for annotation in document["annotations"]:
        annotation["keypoints"][1] += 2


def points_of(frame, index):
    """(K, 2), as the vehicle answered."""
    return np.array([(k.x_px, k.y_px) for k in frame.persons[index].keypoints])
