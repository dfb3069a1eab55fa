"""Crops on the device: cut once by the runtime's own function, augmented there in batches.

Axes: B batch, N persons, K keypoints. A training crop shows more than the network's input
(``CONTEXT`` times as much, at the same scale), so that rotations and shifts find real pixels.
"""

import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from misgiving.runtime import geometry
from misgiving.runtime.errors import ResourceExhausted
from misgiving.runtime.geometry import CropRule, Window
from misgiving.trainer.config import AugmentConfig
from misgiving.trainer.data.base import PoseSet, Sample, check_labelled

CONTEXT = 1.5

IN_MEMORY_BYTES = 4 * 2**30
"""Training crops up to this lie in the device's memory, more in a file that the process maps."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a network is trained on or asked about."""

    images: Tensor
    """(B, 3, H, W), RGB, float in 0–255."""
    points: Tensor
    """(B, K, 2) in input px."""
    labelled: Tensor
    """(B, K) bool."""

    def to(self, device: torch.device) -> "Batch":
        """The same on another device."""
        return Batch(self.images.to(device), self.points.to(device), self.labelled.to(device))


@dataclass(frozen=True, slots=True)
class Crops:
    """A training set, on the device that trains; only its images may stay on the CPU's side."""

    images: Tensor
    """(N, 3, H, W) uint8, H = CONTEXT × the input's height; on the device, or of a mapped file."""
    points: Tensor
    """(N, K, 2) in px of these crops."""
    labelled: Tensor
    """(N, K) bool."""
    rule: CropRule
    mirror: Tensor
    """(K,): the joint that a joint becomes in a mirrored image."""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def device(self) -> torch.device:
        """That trains, and that batches are made on."""
        return self.points.device


def evaluation_crop(sample: Sample, rule: CropRule) -> tuple[NDArray[np.uint8], Window]:
    """The crop that the runtime would cut for this person: (H, W, 3), and its window."""
    window = asked_window(sample, rule)
    return geometry.cut(sample.image, window, rule.height, rule.width), window


def asked_window(sample: Sample, rule: CropRule) -> Window:
    """The part of the image that the runtime would cut for this person.

    Raises:
        RegionError: the person's box has no area or lies outside the image.
    """
    height, width = sample.image.shape[:2]
    return geometry.window_of(sample.asked_region, height, width, rule)


def load_crops(
    data: PoseSet,
    rule: CropRule,
    device: torch.device,
    progress: Iterable[int],
    limit: int = IN_MEMORY_BYTES,
) -> Crops:
    """Read every person of a set once.

    Args:
        data: the persons.
        rule: the network's crop rule.
        device: where the crops shall live.
        progress: the positions to read; wrap ``range(len(data))`` to show progress.
        limit: bytes of images up to which they live on the device, else in a temporary file.

    Raises:
        DataError: somebody is not labelled.
        ResourceExhausted: the temporary file does not fit.
    """
    check_labelled(data)
    count, (height, width) = len(data), _context_size(rule)
    images, in_memory = _room((count, 3, height, width), limit)
    points = torch.empty(count, len(data.keypoints), 2)
    labelled = torch.empty(count, len(data.keypoints), dtype=torch.bool)
    read = 0
    for read, index in enumerate(progress, 1):
        sample = data[index]
        crop, points_crop = _context_crop(sample, rule)
        images[read - 1] = torch.from_numpy(crop).permute(2, 0, 1)
        points[read - 1] = torch.from_numpy(points_crop)
        labelled[read - 1] = torch.from_numpy(sample.labelled)
    mirror = torch.from_numpy(data.keypoints.mirror).to(device)
    kept = images[:read].to(device) if in_memory else images[:read]
    return Crops(kept, points[:read].to(device), labelled[:read].to(device), rule, mirror)


def _room(shape: tuple[int, ...], limit: int) -> tuple[Tensor, bool]:
    """A uint8 tensor to fill, and whether it is in memory.

    Where it is not, it is of a temporary file without a name, which is gone with the process.
    """
    size = math.prod(shape)
    if size <= limit:
        return torch.empty(shape, dtype=torch.uint8), True
    with tempfile.TemporaryFile() as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)  # else a full disk is a SIGBUS later on
        except OSError as error:
            raise ResourceExhausted(
                f"training crops of {size / 2**30:.1f} GiB do not fit below "
                f"{tempfile.gettempdir()} ({error.strerror}). Free some, set TMPDIR to a larger "
                "disk, or train on fewer persons"
            ) from error
        return torch.from_numpy(np.memmap(file, np.uint8, "r+", shape=shape)), False


def _context_size(rule: CropRule) -> tuple[int, int]:
    return round(rule.height * CONTEXT), round(rule.width * CONTEXT)


def _context_crop(sample: Sample, rule: CropRule) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    height, width = sample.image.shape[:2]
    # Around the labels, also where a vehicle asked about another region: who is to be learnt.
    inner = geometry.window_of(sample.region, height, width, rule)
    width, height = round(inner.width * CONTEXT), round(inner.height * CONTEXT)
    left = inner.left - (width - inner.width) // 2
    top = inner.top - (height - inner.height) // 2
    window = Window(left, top, width, height)
    size = _context_size(rule)
    crop = geometry.cut(sample.image, window, *size)
    return crop, geometry.image_to_input(sample.points, window, *size)


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
    """One epoch of augmented batches.

    All of its chance is drawn before the first batch and goes to the device at once: no step waits
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
    changes = changes_of(part(drawn), crops).to(crops.device)
    for cut, change in zip(select(crops, part(order)), changes.rows(), strict=True):
        yield augment(cut, change, crops)


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


def augment(cut: Batch, change: Changes, crops: Crops) -> Batch:
    """Turn, scale, shift, mirror and tint some crops, all at once on their device.

    Args:
        cut: B of the crops, from :func:`select`.
        change: of each, (B, ...).
        crops: where they are from, for the input's size and the joints' mirror.
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
