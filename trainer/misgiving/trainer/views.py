"""A person as a network saw them, with joints drawn in."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime import geometry
from misgiving.runtime.draw import Drawn, draw_figures
from misgiving.runtime.geometry import CropRule
from misgiving.runtime.keypoints import KeypointSet
from misgiving.trainer.data.base import Sample
from misgiving.trainer.data.readable import asked_window

_GAP = 4  # px between two views


def views(
    sample: Sample,
    rule: CropRule,
    keypoints: KeypointSet,
    drawn: Sequence[Drawn],
    height: int,
) -> NDArray[np.uint8]:
    """The person's crop, side by side once for each way to draw it.

    Args:
        sample: the person.
        rule: of the crop.
        keypoints: of the joints.
        drawn: in px of the image.
        height: of the picture in px.

    Raises:
        RegionError: the person's box has no area or lies outside the image.
    """
    window = asked_window(sample, rule)
    width = round(height * rule.width / rule.height)
    crop = geometry.cut(sample.image, window, height, width)
    gap = np.full((height, _GAP, 3), 255, np.uint8)
    parts: list[NDArray[np.uint8]] = []
    scale = width / window.width, height / window.height
    for one in drawn:
        view = crop.copy()
        draw_figures(view, [one.moved(scale, (window.left, window.top))], keypoints)
        parts += [gap, view] if parts else [view]
    return np.concatenate(parts, axis=1)


def as_labelled(sample: Sample) -> Drawn:
    """A person's labels, of which none is doubtful."""
    points = np.where(sample.labelled[:, None], sample.points, np.nan)
    return Drawn(np.column_stack([points, np.ones(len(points))]))
