"""Small pictures of selected persons.

Axes: K keypoints.
"""

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass

import cv2
import numpy as np

from misgiving.runtime.draw import Drawn
from misgiving.runtime.errors import MisgivingError
from misgiving.runtime.geometry import CropRule
from misgiving.trainer import page
from misgiving.trainer.answers.scoring import Scores
from misgiving.trainer.data.base import PoseSet
from misgiving.trainer.measures import metrics
from misgiving.trainer.views import as_labelled, views

HEIGHT = 128
"""Of a picture, px."""
_DRAWN_HEIGHT = 2 * HEIGHT  # drawn larger and shrunk, so that lines are thin
_QUALITY = 75


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a network said of a person."""

    drawn: Drawn
    """In px of the image, without a box: nobody is flagged here."""
    pck: float
    """Share of the person's joints found, NaN where undefined."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A person on the page."""

    id: str
    jpeg: str
    """The crop with the labels, and before it the same with what was predicted, if known."""
    found: str
    """The person's PCK in words, empty where nothing was predicted."""


def predictions(scores: Scores) -> dict[str, Prediction]:
    """Of a pool, by id."""
    joints = np.dstack([scores.points, scores.confidence])
    shares = metrics.person_pck(scores.found)
    rows = zip(scores.ids, joints, scores.keypoint_loss, shares, strict=True)
    return {
        name: Prediction(Drawn(points, loss), float(share)) for name, points, loss, share in rows
    }


def pictures(
    pool: PoseSet,
    ids: Collection[str],
    rule: CropRule,
    predicted: Mapping[str, Prediction],
) -> dict[str, Picture]:
    """Pictures of persons by id, of those whose image can still be read."""
    made: dict[str, Picture] = {}
    for index, name in enumerate(pool.ids):
        if name in ids:
            with suppress(MisgivingError, OSError):
                made[name] = _picture(pool, index, rule, predicted.get(name))
    return made


def _picture(pool: PoseSet, index: int, rule: CropRule, predicted: Prediction | None) -> Picture:
    sample = pool[index]
    drawn = [predicted.drawn] if predicted else []
    large = views(sample, rule, pool.keypoints, [*drawn, as_labelled(sample)], _DRAWN_HEIGHT)
    size = round(large.shape[1] * HEIGHT / len(large)), HEIGHT
    small = cv2.resize(large, size, interpolation=cv2.INTER_AREA)
    return Picture(pool.ids[index], page.jpeg(small, _QUALITY), _found(predicted))


def _found(predicted: Prediction | None) -> str:
    if predicted is None:
        return ""
    return "no torso label" if np.isnan(predicted.pck) else f"PCK {predicted.pck:.2f}"
