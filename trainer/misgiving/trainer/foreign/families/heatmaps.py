"""Heatmaps, one for each keypoint: hourglass, CPM, HRNet, Simple Baselines, ViTPose.

Axes: B batch, K keypoints, h w cells, H W input.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter
from torch import Tensor

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer import heatmaps
from misgiving.trainer.foreign.families import checks, maps
from misgiving.trainer.foreign.families.base import Answer, Shapes


@dataclass(frozen=True, kw_only=True, slots=True)
class _Options:
    __pydantic_config__ = ConfigDict(extra="forbid")

    heatmaps: str
    """The output: (B, K, h, w), or (B, h, w, K)."""
    layout: maps.Layout = "NCHW"
    activation: maps.Activation = "none"
    """What its authors still do to it."""
    blur: Annotated[int, Field(ge=0, le=31)] = 0
    """Size in cells of the Gaussian kernel that they put over it; 0 is none."""
    subpixel: Literal["none", "quarter", "parabola"] = "none"
    """How they find the place in a cell: a quarter towards the higher neighbour (Simple Baselines,
    HRNet), or the top of the parabola through the logarithms."""
    centre: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Where a cell's point lies in it, in cells: the middle, or 0 where indices times the stride
    are the answer."""
    first: bool = False
    """Whether further maps may follow those of the keypoints, as a background's."""


_ADAPTER = TypeAdapter(_Options)


class Heatmaps:
    """The place and the height of each map's peak."""

    has_presence = False

    def __init__(self, options: Mapping[str, Any], shapes: Shapes) -> None:
        self._options = said = checks.parse("heatmaps", _ADAPTER, options)
        if said.blur and said.blur % 2 == 0:
            raise InvalidInput(f"blur = {said.blur}; expected 0 or an odd size in cells, such as 5")
        _check(said, shapes)
        self._shapes = shapes
        self.outputs: tuple[str, ...] = (said.heatmaps,)
        self.evidence = maps.SIGNS * shapes.keypoints

    def read(self, raw: Sequence[Tensor]) -> Answer:
        """The answer; the confidence is the peak's height, cut to [0, 1]."""
        said, (tensor,) = self._options, raw
        drawn = maps.opened(tensor, said.layout)[:, : self._shapes.keypoints]
        drawn = maps.activated(drawn, said.activation)
        if said.blur:
            drawn = maps.blurred(drawn, said.blur)
        height, width = drawn.shape[-2:]
        peaks, at = heatmaps.highest(drawn)
        scale = peaks.new_tensor([self._shapes.width / width, self._shapes.height / height])
        points = (self._within(drawn, at) + said.centre) * scale
        return Answer(points, peaks.clamp(0, 1), maps.signs(drawn, at), None)

    def _within(self, drawn: Tensor, at: Tensor) -> Tensor:
        """(B, K, 2): cells, to a fraction of one; the point of a peak without shift is whole."""
        if self._options.subpixel == "parabola":
            return heatmaps.decode(drawn)[0] - 0.5
        cell = maps.cells(at, drawn.shape[-1]).to(drawn.dtype)
        return cell + maps.quarter(drawn, at) if self._options.subpixel == "quarter" else cell

    @staticmethod
    def guess(shapes: Shapes) -> dict[str, Any] | None:
        """Of the outputs whose cells cover the input, that with the fewest maps that are enough,
        or the finest where it is not known how many are; the last of several, as the last stage is
        the best."""
        enough = max(2, shapes.keypoints)
        found = [
            (channels, name, layout, math.prod(cell or 0 for cell in maps.cells_of(shape, layout)))
            for name, shape in reversed(list(shapes.outputs.items()))
            for layout in maps.layouts_of(shape, shapes)
            if (channels := maps.channels_of(shape, layout) or 0) >= enough
        ]
        if not found:
            return None
        known = shapes.keypoints > 0
        channels, name, layout, _ = min(found, key=lambda one: one[0] if known else -one[3])
        more = {"first": True} if 0 < shapes.keypoints < channels else {}
        return {"heatmaps": name, "layout": layout, **more}


def _check(said: _Options, shapes: Shapes) -> None:
    """
    Raises:
        InvalidInput: the output has no map for each keypoint.
    """
    axes = "(B, K, h, w)" if said.layout == "NCHW" else "(B, h, w, K)"
    shape = checks.shape_of(shapes, said.heatmaps)
    channels = maps.channels_of(shape, said.layout) if len(shape) == 4 else 0
    enough = channels is None or channels >= shapes.keypoints
    if not enough or not (said.first or checks.fits(channels, shapes.keypoints)):
        raise checks.unfit(shapes, said.heatmaps, f"{axes}, or more with first = true,")
