"""Heatmaps of any net: their peaks, and what in them tells a wrong answer.

Axes: B batch, K keypoints, h w cells. A cell is (column, row), counted from 0.
"""

from typing import Literal

import cv2
import torch
from torch import Tensor
from torch.nn import functional

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
    """OpenCV's GaussianBlur with a kernel of this size, its own sigma for it and its border."""
    weights = cv2.getGaussianKernel(size, 0).ravel().tolist()
    kernel = maps.new_tensor(weights).reshape(1, 1, 1, size)
    flat = functional.pad(maps.flatten(0, 1)[:, None], (size // 2,) * 4, mode="reflect")
    return functional.conv2d(functional.conv2d(flat, kernel), kernel.mT).reshape(maps.shape)


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
    share = maps.clamp(min=0.0) / value.clamp(min=_FLOOR)[..., None, None]
    mass = torch.log(share.sum((2, 3)).clamp(min=_FLOOR))
    elsewhere = torch.where(_near(maps, at), maps.new_tensor(torch.finfo().min), maps)
    second = torch.minimum(elsewhere.amax((2, 3)).clamp(min=0.0), value)
    return torch.cat([value, logit(value), value - second, mass], dim=1)


def _near(maps: Tensor, at: Tensor) -> Tensor:
    """(B, K, h, w) bool: the square around each place."""
    height, width = maps.shape[-2:]
    reach = max(1, round(_NEAR * max(height, width)))
    cell = cells(at, width)
    along_x = (torch.arange(width, device=at.device) - cell[..., :1]).abs() <= reach
    along_y = (torch.arange(height, device=at.device) - cell[..., 1:]).abs() <= reach
    return along_y[..., :, None] & along_x[..., None, :]


def logit(share: Tensor) -> Tensor:
    """The logit of what should lie in [0, 1], finite."""
    share = share.clamp(_FLOOR, 1 - _FLOOR)
    return torch.log(share) - torch.log1p(-share)


def layout_of(shape: Shape, shapes: Shapes) -> Layout | None:
    """The layout in which a shape's cells cover the input with one stride, else None."""
    if len(shape) != 4:
        return None
    tried: tuple[tuple[Layout, Shape], ...] = (("NCHW", shape[2:]), ("NHWC", shape[1:3]))
    for layout, (height, width) in tried:
        down, across = stride_of(shapes.height, height), stride_of(shapes.width, width)
        if down is not None and down == across:
            return layout
    return None


def stride_of(size: int, cells: int | None) -> int | None:
    """Input px for each cell of a net that halves again and again, with a cell for the rest: 16
    where 257 px or 272 px become 17 cells; None where no power of two fits."""
    return next((stride for stride in _STRIDES if -(-size // stride) == cells), None)
