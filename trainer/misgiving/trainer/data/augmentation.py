"""Random changes of training crops, in batches and on the device that trains.

Axes: S steps, B batch, K keypoints.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from misgiving.trainer.config import AugmentConfig
from misgiving.trainer.data.crops import CONTEXT, Batch, Crops
from misgiving.trainer.data.worsening import worsened

ASTRAY_SCALES = (0.2, 2.5)
"""Size of a window that goes astray, over that of one around the person."""


def shuffled(count: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Positions of one epoch in whole batches; a remainder waits for the next epoch's shuffle.

    A set smaller than a batch is repeated, so that even three new labels train.
    """
    order = torch.randperm(count, generator=generator)
    if count < batch_size:
        order = order.repeat(-(-batch_size // count))[:batch_size]
    for start in range(0, len(order) - batch_size + 1, batch_size):
        yield order[start : start + batch_size]


def batches(
    crops: Crops,
    batch_size: int,
    config: AugmentConfig,
    generator: torch.Generator,
    part: Callable[[Tensor], Tensor] = lambda rows: rows,
) -> Iterator[Batch]:
    """One epoch of augmented batches; those that go astray come after each batch's own.

    What moves pixels is drawn before the first batch and goes to the device at once: no step waits
    for a copy.

    Args:
        crops: the training set.
        batch_size: B.
        config: how much is changed.
        generator: of the CPU, so that a seed means the same on every device.
        part: takes from (S, B, ...), step by step, the persons of each batch that are wanted here.
    """
    order = torch.stack(list(shuffled(len(crops), batch_size, generator)))
    drawn = torch.stack([draw(batch_size, config, generator) for _ in order])
    order, drawn = part(order), part(drawn)
    astray = math.ceil(config.astray * order.shape[1])
    if astray:
        again = torch.stack([draw_astray(batch_size, config, generator) for _ in order])
        order = torch.cat([order, order[:, :astray]], 1)
        drawn = torch.cat([drawn, part(again)[:, :astray]], 1)
    changes = changes_of(drawn, crops).to(crops.device)
    for cut, change in zip(select(crops, order), changes.rows(), strict=True):
        batch = augment(cut, change, crops, astray)
        yield replace(batch, images=worsened(batch.images, config.worse)) if config.worse else batch


def select(crops: Crops, order: Tensor) -> Iterator[Batch]:
    """The crops of each row of positions (S, B), as they are: uint8, points in their own px."""
    on_device = order.to(crops.device)
    mapped = crops.images.device != crops.device
    for here, chosen in zip(order, on_device, strict=True):
        images = crops.images.index_select(0, here if mapped else chosen)
        if mapped:  # pinned, the copy does not wait for what the device is doing
            images = images.pin_memory().to(crops.device, non_blocking=True)
        yield Batch(images, crops.points[chosen], crops.labelled[chosen])


def draw(count: int, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """(B, 8): angle (rad), scale, shift x and y (shares), mirror sign, gains of R, G and B."""
    uniform = 2 * torch.rand(count, 8, generator=generator) - 1
    angle = uniform[:, :1] * np.deg2rad(config.rotation_deg)
    scale = 1 + uniform[:, 1:2] * config.scale
    shift = uniform[:, 2:4] * config.shift
    coin = torch.rand(count, 1, generator=generator)
    sign = torch.where(coin < config.flip, -1.0, 1.0)
    brightness = 1 + config.colour * (2 * torch.rand(count, 1, generator=generator) - 1)
    gains = brightness * (1 + config.colour * uniform[:, 5:8])
    return torch.cat([angle, scale, shift, sign, gains], 1)


def draw_astray(count: int, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """(B, 8), as :func:`draw`: a window of 0.2 to 2.5 times the size anywhere in the crop."""
    drawn = draw(count, config, generator)
    small, large = np.log(ASTRAY_SCALES)
    drawn[:, 1] = torch.exp(small + (large - small) * torch.rand(count, generator=generator))
    drawn[:, 2:4] = CONTEXT * (torch.rand(count, 2, generator=generator) - 0.5)
    return drawn


@dataclass(frozen=True, slots=True)
class Changes:
    """What augmentation does to each of some crops, for any leading axes."""

    to_crop: Tensor
    """(..., 2, 3): from the input to the crop, as grid_sample counts: −1 to 1 from edge to edge."""
    to_input: Tensor
    """(..., 2, 3): from crop px to input px."""
    gains: Tensor
    """(..., 3) of R, G and B."""
    mirrored: Tensor
    """(...,) bool."""

    def to(self, device: torch.device) -> "Changes":
        """The same on another device."""
        return Changes(*(getattr(self, name).to(device) for name in self.__slots__))

    def rows(self) -> Iterator["Changes"]:
        """Along the first axis."""
        columns = (getattr(self, name) for name in self.__slots__)
        return (Changes(*row) for row in zip(*columns, strict=True))


def changes_of(drawn: Tensor, crops: Crops) -> Changes:
    """What was drawn, (..., 8) of :func:`draw`, as maps between crops and the network's input."""
    input_size = torch.tensor([crops.rule.width, crops.rule.height])
    crop_size = torch.tensor([crops.images.shape[3], crops.images.shape[2]])
    cos, sin = drawn[..., 0].cos(), drawn[..., 0].sin()
    turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    mirror = torch.stack([drawn[..., 4], torch.ones_like(cos)], -1)
    scale = drawn[..., 1, None, None]
    centre = crop_size / 2 + drawn[..., 2:4] * input_size
    matrix = scale * turn * mirror[..., None, :]
    inverse = mirror[..., :, None] * turn.mT / scale
    return Changes(
        to_crop=_affine(matrix * input_size / crop_size[:, None], centre * 2 / crop_size - 1),
        to_input=_affine(inverse, input_size / 2 - (inverse @ centre[..., None])[..., 0]),
        gains=drawn[..., 5:],
        mirrored=drawn[..., 4] < 0,
    )


def _affine(matrix: Tensor, offset: Tensor) -> Tensor:
    return torch.cat([matrix, offset[..., None]], -1)


def augment(cut: Batch, change: Changes, crops: Crops, astray: int = 0) -> Batch:
    """Turn, scale, shift, mirror and tint some crops, all at once on their device.

    Args:
        cut: B of the crops, from :func:`select`.
        change: of each, (B, ...).
        crops: where they are from, for the input's size and the joints' mirror.
        astray: how many of the last ones miss their person.
    """
    height, width = crops.rule.height, crops.rule.width
    grid = _grid(change.to_crop, height, width)
    images = functional.grid_sample(cut.images.float(), grid, align_corners=False)
    points = cut.points @ change.to_input[..., :2].mT + change.to_input[:, None, :, 2]
    mirrored = change.mirrored[:, None]
    return Batch(
        images.mul_(change.gains[..., None, None]).clamp_(0, 255),
        torch.where(mirrored[..., None], points[:, crops.mirror], points),
        torch.where(mirrored, cut.labelled[:, crops.mirror], cut.labelled),
        astray,
    )


def _grid(to_crop: Tensor, height: int, width: int) -> Tensor:
    """Where each pixel of the input lies in the crop, (B, H, W, 2), from maps (B, 2, 3).

    What affine_grid gives, six times as fast: not one product of many small matrices, but a sum of
    rows and columns.
    """
    x, y = (
        (2 * torch.arange(size, device=to_crop.device) + 1) / size - 1 for size in (width, height)
    )
    along_x, along_y, offset = to_crop[..., None, None].unbind(2)
    planes = along_x * x + (along_y * y[:, None] + offset)
    return planes.permute(0, 2, 3, 1)
