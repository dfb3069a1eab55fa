"""Heatmaps of any net: their peaks, and what in them tells a wrong answer.

Axes: B batch, K keypoints, h w cells. A cell is (column, row), counted from 0.
"""

from typing import Literal, cast, get_args

import cv2
import numpy as np
import torch
from torch import Tensor

from misgiving.trainer.foreign.families.base import Shapes
from misgiving.trainer.foreign.families.checks import Shape

Layout = Literal["NCHW", "NHWC"]
Activation = Literal["none", "sigmoid"]

SIGNS = 4
"""Numbers for each keypoint in :func:`signs`."""

_STRIDES = (1, 2, 4, 8, 16, 32, 64)
_FLOOR = 1e-6
_ALIKE = 1e-3
_NEAR = 0.1
"""Share of the map's longer side around a peak that is one place with it."""


def opened(raw: Tensor, layout: Layout) -> Tensor:
    """Maps in any layout as (B, channels, h, w)."""
    return raw if layout == "NCHW" else raw.permute(0, 3, 1, 2)


def activated(maps: Tensor, activation: Activation) -> Tensor:
    """Maps as the net's authors read them."""
    return torch.sigmoid(maps) if activation == "sigmoid" else maps


def blurred(maps: Tensor, size: int) -> Tensor:
    """OpenCV's GaussianBlur with a kernel of this size, its own sigma for it and its border.

    As two products with banded matrices: ONNX Runtime's convolution of single channels takes six
    times as long on a CPU.
    """
    down, across = (maps.new_tensor(_band(cells, size)) for cells in maps.shape[-2:])
    return down @ maps @ across.mT


def _band(cells: int, size: int) -> list[list[float]]:
    """The matrix that blurs a column of so many cells, with whatever lies beyond its ends."""
    eye = np.eye(cells, dtype=np.float32)
    return cast(list[list[float]], cv2.GaussianBlur(eye, (1, size), 0).tolist())


def cells(at: Tensor, width: int) -> Tensor:
    """Places in the flattened map (B, K) → cells (B, K, 2)."""
    row = at // width
    return torch.stack([at - row * width, row], dim=-1)


def taken(maps: Tensor, at: Tensor) -> Tensor:
    """One value of each map, at its place in the flattened map: (B, K, h, w), (B, K) → (B, K)."""
    return maps.flatten(2).gather(-1, at[..., None])[..., 0]


def quarter(maps: Tensor, at: Tensor) -> Tensor:
    """(B, K, 2): a quarter of a cell towards the higher neighbour, as Simple Baselines does it.

    Less of it where the two are nearly alike (_ALIKE of the peak): there rounding decides, and
    would move a point by half a cell from one runtime to another.
    """
    height, width = maps.shape[-2:]
    flat, cell = maps.flatten(2), cells(at, width)
    step, last = at.new_tensor([1, width]), at.new_tensor([width - 1, height - 1])
    beside = torch.cat([at[..., None] - step, at[..., None] + step], dim=-1)
    low, high = flat.gather(-1, beside.clamp(0, height * width - 1)).chunk(2, dim=-1)
    alike = _ALIKE * taken(maps, at).abs().clamp(min=_FLOOR)[..., None]
    side = ((high - low) / alike).clamp(-1, 1)
    return torch.where((cell > 0) & (cell < last), 0.25 * side, 0.0)


def signs(maps: Tensor, at: Tensor) -> Tensor:
    """Evidence of each map and its place (B, K): (B, 4 K).

    The value there, its logit, by how much it tops everything that is not near, and the logarithm
    of the positive mass over it: a sure map has one narrow peak.
    """
    value = taken(maps, at)
    mass = maps.clamp(min=0.0).sum((2, 3)) / value.clamp(min=_FLOOR)
    second = torch.minimum(_elsewhere(maps, at).clamp(min=0.0), value)
    return torch.cat([value, logit(value), value - second, torch.log(mass + _FLOOR)], dim=1)


def _elsewhere(maps: Tensor, at: Tensor) -> Tensor:
    """(B, K): the largest value outside the square around each place.

    Such a cell lies in another row or in another column, so that the largest value of each row
    and of each column tells it, without a mask of every cell.
    """
    height, width = maps.shape[-2:]
    reach = max(1, round(_NEAR * max(height, width)))
    column, row = cells(at, width)[..., None].unbind(-2)
    rows = (torch.arange(height, device=at.device) - row).abs() > reach
    columns = (torch.arange(width, device=at.device) - column).abs() > reach
    lowest = torch.finfo(torch.float32).min
    of_rows = torch.where(rows, maps.amax(3), lowest).amax(2)
    return torch.maximum(of_rows, torch.where(columns, maps.amax(2), lowest).amax(2))


def logit(share: Tensor) -> Tensor:
    """The logit of what should lie in [0, 1], finite."""
    share = share.clamp(_FLOOR, 1 - _FLOOR)
    return torch.log(share) - torch.log1p(-share)


def channels_of(shape: Shape, layout: Layout) -> int | None:
    """The channels of a shape of rank 4."""
    return shape[1 if layout == "NCHW" else 3]


def cells_of(shape: Shape, layout: Layout) -> Shape:
    """(h, w) of a shape of rank 4."""
    return shape[2:] if layout == "NCHW" else shape[1:3]


def layouts_of(shape: Shape, shapes: Shapes) -> list[Layout]:
    """The layouts in which a shape's cells cover the input with one stride; 17 maps of 17 × 17
    cells may be either. A single cell is a pooled feature."""
    if len(shape) != 4:
        return []
    both = get_args(Layout)
    several = [layout for layout in both if cells_of(shape, layout) != (1, 1)]
    return [each for each in several if stride_over(cells_of(shape, each), shapes) is not None]


def stride_over(cells: Shape, shapes: Shapes) -> int | None:
    """Input px for each of the cells (h, w), where the same fits both ways, else None."""
    down, across = stride_of(shapes.height, cells[0]), stride_of(shapes.width, cells[1])
    return down if down == across else None


def stride_of(size: int, cells: int | None) -> int | None:
    """Input px for each cell of a net that halves again and again, with a cell for the rest: 16
    where 257 px or 272 px become 17 cells; None where no power of two fits."""
    return next((stride for stride in _STRIDES if -(-size // stride) == cells), None)
