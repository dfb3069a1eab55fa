"""Heatmaps that choose a cell, and offsets that say where in it: PoseNet, BodyPix, MoveNet.

PoseNet and BodyPix (TensorFlow.js, ``posenet/src/single_pose/util.ts``): a keypoint lies at its
best cell's index × stride + offset, in px of the input, counted from the first pixel's centre.
MoveNet before its own decoding (as fire717/movenet.pytorch writes it out): the best cell of the
centres says where each keypoint is about; a keypoint's map, over the distance from there + 1.8
cells, chooses its cell; the offset is in cells.

Axes: B batch, K keypoints, h w cells, H W input.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import ConfigDict, Field, TypeAdapter
from torch import Tensor

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer import heatmaps
from misgiving.trainer.foreign.families import checks, maps
from misgiving.trainer.foreign.families.base import Answer, Shapes

_NEARNESS = 1.8
"""Cells that MoveNet adds to a distance before it divides by it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Options:
    __pydantic_config__ = ConfigDict(extra="forbid")

    heatmaps: str
    """The output: K channels."""
    offsets: str
    """The output: 2 K channels."""
    centres: str | None = None
    """MoveNet's output of one channel: where a person's middle is."""
    displacements: str | None = None
    """MoveNet's output of 2 K channels: cells from the middle to each keypoint."""
    layout: maps.Layout = "NCHW"
    activation: maps.Activation = "none"
    """What still has to be done to the heatmaps and the centres."""
    order: Literal["yx", "xy"] = "yx"
    pairs: Literal["split", "interleaved"] = "split"
    """Channels of a pair: K of the first and then K of the second, or one beside the other."""
    unit: Literal["px", "cells"] = "px"
    """Of the offsets; px are counted from the first pixel's centre."""
    stride: Annotated[int, Field(gt=0)] | None = None
    """Input px for each cell, where it is no power of two that fits the sizes."""


_ADAPTER = TypeAdapter(_Options)


class Offsets:
    """The best cell of each map, moved by its offset."""

    def __init__(self, options: Mapping[str, Any], shapes: Shapes) -> None:
        self._options = said = checks.parse("offsets", _ADAPTER, options)
        if (said.centres is None) != (said.displacements is None):
            raise InvalidInput("centres and displacements come together; name both or neither")
        names = (said.heatmaps, said.offsets, said.centres, said.displacements)
        self.outputs = tuple(name for name in names if name is not None)
        self._shapes, self._stride = shapes, _stride(said, shapes)
        count = shapes.keypoints
        for name, channels in zip(self.outputs, (count, 2 * count, 1, 2 * count), strict=False):
            _check(said, shapes, name, channels)
        self.has_presence = said.centres is not None
        self.evidence = maps.SIGNS * count + (count + 1) * self.has_presence

    def read(self, raw: Sequence[Tensor]) -> Answer:
        """The answer; the confidence is the map's value at the chosen cell, cut to [0, 1]."""
        drawn, offsets, *middle = (maps.opened(tensor, self._options.layout) for tensor in raw)
        drawn = maps.activated(drawn, self._options.activation)
        if not middle:
            at = heatmaps.highest(drawn)[1]
            points = self._points(drawn, offsets, at)
            return Answer(points, maps.taken(drawn, at).clamp(0, 1), maps.signs(drawn, at), None)
        centres, displacements = middle
        presence, about = self._about(centres, displacements)
        distance = _distance(drawn, about)
        at = heatmaps.highest(drawn / (distance + _NEARNESS))[1]
        astray = torch.log1p(maps.taken(distance, at))
        evidence = torch.cat([maps.signs(drawn, at), astray, maps.logit(presence)], dim=1)
        confidence = maps.taken(drawn, at).clamp(0, 1)
        return Answer(self._points(drawn, offsets, at), confidence, evidence, presence[:, 0])

    def _points(self, drawn: Tensor, offsets: Tensor, at: Tensor) -> Tensor:
        """(B, K, 2) in input px."""
        cell, offset = maps.cells(at, drawn.shape[-1]), self._pairs(offsets, at)
        if self._options.unit == "cells":
            return (cell + offset) * self._stride
        return cell * self._stride + offset + 0.5

    def _about(self, centres: Tensor, displacements: Tensor) -> tuple[Tensor, Tensor]:
        """The height (B, 1) of the centre that is high and near the middle of the input, and the
        cells (B, K, 2) where the keypoints are about."""
        centres = maps.activated(centres, self._options.activation)
        height, width = centres.shape[-2:]
        middle = centres.new_tensor([(width - 1) / 2, (height - 1) / 2])
        near = centres / (_distance(centres, middle.reshape(1, 1, 2)) + _NEARNESS)
        at = heatmaps.highest(near)[1]
        about = maps.cells(at, width) + self._pairs(
            displacements, at.expand(-1, self._shapes.keypoints)
        )
        return maps.taken(centres, at).clamp(0, 1), about

    def _pairs(self, tensor: Tensor, at: Tensor) -> Tensor:
        """What (B, 2 K, h, w) says at the cells (B, K), as x and y: (B, K, 2)."""
        count = self._shapes.keypoints
        split = self._options.pairs == "split"
        places = torch.cat([at, at], dim=1) if split else at.repeat_interleave(2, dim=1)
        values = maps.taken(tensor, places)
        pairs = values.reshape(-1, 2, count).mT if split else values.reshape(-1, count, 2)
        return pairs.flip(-1) if self._options.order == "yx" else pairs

    @staticmethod
    def guess(shapes: Shapes) -> dict[str, Any] | None:
        """A net with K and 2 K channels on the same cells; with one and another 2 K, MoveNet."""
        for name, shape in shapes.outputs.items():
            for layout in maps.layouts_of(shape, shapes):
                count = maps.channels_of(shape, layout)
                if count in (shapes.keypoints or count, None) and (count or 0) > 1:
                    found = _beside(shapes, shape, layout)
                    if found:
                        return {"heatmaps": name, **found, "layout": layout}
        return None


def _beside(shapes: Shapes, shape: checks.Shape, layout: maps.Layout) -> dict[str, Any]:
    """The options of the outputs beside the heatmaps' shape; empty where there are none."""
    count = maps.channels_of(shape, layout) or 0
    channels = {
        name: maps.channels_of(other, layout)
        for name, other in shapes.outputs.items()
        if len(other) == 4 and maps.cells_of(other, layout) == maps.cells_of(shape, layout)
    }
    doubles = [name for name, size in channels.items() if size == 2 * count]
    ones = [name for name, size in channels.items() if size == 1]
    if len(doubles) == 2 and ones:
        form = {"order": "xy", "pairs": "interleaved", "unit": "cells"}
        return {"offsets": doubles[1], "centres": ones[0], "displacements": doubles[0], **form}
    return {"offsets": doubles[0], "activation": "sigmoid"} if doubles else {}


def _check(said: _Options, shapes: Shapes, name: str, channels: int) -> None:
    """
    Raises:
        InvalidInput: the output has other channels, or other cells than the heatmaps.
    """
    axes = "(B, {}, h, w)" if said.layout == "NCHW" else "(B, h, w, {})"
    cells = maps.cells_of(checks.shape_of(shapes, said.heatmaps), said.layout)
    expected = (None, channels, *cells) if said.layout == "NCHW" else (None, *cells, channels)
    checks.check_shape(shapes, name, expected, axes.format(channels))


def _stride(said: _Options, shapes: Shapes) -> int:
    """
    Raises:
        InvalidInput: the heatmaps are no such tensor, or no power of two fits their sizes.
    """
    shape = checks.shape_of(shapes, said.heatmaps)
    if said.stride is not None:
        return said.stride
    stride = (
        maps.stride_over(maps.cells_of(shape, said.layout), shapes) if len(shape) == 4 else None
    )
    if stride is None:
        raise checks.unfit(
            shapes,
            said.heatmaps,
            f"{said.layout} and cells of a stride that is a power of two, or stride = ...,",
        )
    return stride


def _distance(drawn: Tensor, about: Tensor) -> Tensor:
    """Cells from each place (B, K, 2) to each cell: (B, K, h, w)."""
    height, width = drawn.shape[-2:]
    along_x = torch.arange(width, device=drawn.device) - about[..., :1]
    along_y = torch.arange(height, device=drawn.device) - about[..., 1:]
    return torch.sqrt(along_y[..., :, None] ** 2 + along_x[..., None, :] ** 2)
