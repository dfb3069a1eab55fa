"""The page of suspects: each as answered and as labelled."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from misgiving.runtime.draw import SIDES, Drawn
from misgiving.runtime.durable import write_durably
from misgiving.runtime.errors import MisgivingError
from misgiving.trainer import page
from misgiving.trainer.answers.scoring import Scores
from misgiving.trainer.config import Recipe
from misgiving.trainer.data.base import PoseSet
from misgiving.trainer.data.spec import without_folders
from misgiving.trainer.suspects.judging import SUSPECT, Suspects, Suspicion
from misgiving.trainer.views import as_labelled, views

REPORT = "report.html"
_HEIGHT = 240
"""Of a picture, px."""
_QUALITY = 80


@dataclass(frozen=True, slots=True)
class Tile:
    """A person on the page."""

    id: str
    words: str
    score: float
    jpeg: str


def write_page(
    out: Path, recipe: Recipe, data: PoseSet, answers: Scores, found: Suspects, count: int
) -> None:
    """Write ``report.html`` with the first persons' pictures, and a ``.gitignore`` beside it."""
    shown = found.persons[:count]
    tiles = _tiles(recipe, data, answers, shown)
    text = page.render(
        __package__,
        REPORT + ".j2",
        found=found,
        threshold=SUSPECT,
        data=without_folders(data.spec),
        recipe=recipe.name,
        look=SIDES,
        tiles=tiles,
        unread=len(shown) - len(tiles),
    )
    (out / ".gitignore").write_text("*\n", encoding="utf-8")
    write_durably(out / REPORT, text.encode())


def _tiles(
    recipe: Recipe, data: PoseSet, answers: Scores, shown: Sequence[Suspicion]
) -> list[Tile]:
    """Of those whose image can still be read."""
    place, tiles = {name: at for at, name in enumerate(data.ids)}, []
    for one in shown:
        with suppress(MisgivingError, OSError):
            picture = _picture(recipe, data, answers, place[one.id])
            tiles.append(Tile(one.id, one.words, one.score, picture))
    return tiles


def _picture(recipe: Recipe, data: PoseSet, answers: Scores, at: int) -> str:
    sample, points = data[at], np.column_stack([answers.points[at], answers.confidence[at]])
    drawn = Drawn(points, answers.keypoint_loss[at]), as_labelled(sample)
    large = views(sample, recipe.model.crop, data.keypoints, drawn, 2 * _HEIGHT)
    small = cv2.resize(large, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return page.jpeg(small, _QUALITY)
