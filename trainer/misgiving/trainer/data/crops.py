"""Crops on the device: cut once by the runtime's own function, augmented there in batches.

Axes: B batch, N persons, K keypoints. A training crop shows more than the network's input
(``CONTEXT`` times as much, at the same scale), so that rotations and shifts find real pixels.
"""

import math
import os
import tempfile
from collections.abc import Iterable, Iterator
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
    window = _person_window(sample, rule)
    return geometry.cut(sample.image, window, rule.height, rule.width), window


def _person_window(sample: Sample, rule: CropRule) -> Window:
    height, width = sample.image.shape[:2]
    return geometry.window_of(sample.region, height, width, rule)


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
    inner = _person_window(sample, rule)
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


def augment(
    crops: Crops, chosen: Tensor, config: AugmentConfig, generator: torch.Generator
) -> Batch:
    """Turn, scale, shift, mirror and tint some crops, all at once on their device.

    Args:
        crops: the training set.
        chosen: (B,) positions.
        config: how much.
        generator: of the CPU, so that a seed means the same on every device.
    """
    device = crops.device
    cut = crops.images[chosen.to(crops.images.device)].to(device)
    chosen = chosen.to(device)
    height, width = crops.rule.height, crops.rule.width
    draw = _draw(len(chosen), config, generator).to(device)
    matrix, offset = _input_to_crop(draw, crops.images.shape[-2:], (height, width))
    theta = _normalised(matrix, offset, crops.images.shape[-2:], (height, width))
    grid = functional.affine_grid(theta, [len(chosen), 3, height, width], align_corners=False)
    images = functional.grid_sample(cut.float(), grid, align_corners=False)
    points = torch.linalg.solve(matrix, (crops.points[chosen] - offset[:, None]).mT).mT
    flipped = draw[:, 4] < 0
    labelled = crops.labelled[chosen]
    points = torch.where(flipped[:, None, None], points[:, crops.mirror], points)
    labelled = torch.where(flipped[:, None], labelled[:, crops.mirror], labelled)
    tinted = (images * draw[:, 5:, None, None]).clamp(0, 255)
    return Batch(tinted, points, labelled)


def _draw(count: int, config: AugmentConfig, generator: torch.Generator) -> Tensor:
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


def _input_to_crop(
    draw: Tensor, crop_size: torch.Size, input_size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """The affine map from input px to crop px: (B, 2, 2) and (B, 2)."""
    cos, sin, scale = draw[:, 0].cos(), draw[:, 0].sin(), draw[:, 1]
    rows = [torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)]
    matrix = torch.stack(rows, 1) * scale[:, None, None]
    mirrored = torch.stack([draw[:, 4], torch.ones_like(scale)], 1)
    matrix = matrix * mirrored[:, None, :]
    size = torch.tensor([input_size[1], input_size[0]], device=draw.device)
    centre = torch.tensor([crop_size[1], crop_size[0]], device=draw.device) / 2
    centre = centre + draw[:, 2:4] * size
    return matrix, centre - (matrix @ (size / 2)[:, None].expand(len(draw), 2, 1))[..., 0]


def _normalised(
    matrix: Tensor, offset: Tensor, crop_size: torch.Size, input_size: tuple[int, int]
) -> Tensor:
    """The same map for grid_sample, whose images span −1 to 1 from edge to edge: (B, 2, 3)."""
    from_size = torch.tensor([input_size[1], input_size[0]], device=matrix.device)
    to_size = torch.tensor([crop_size[1], crop_size[0]], device=matrix.device)
    half = (from_size / 2).expand(len(matrix), 2)
    linear = matrix * half[:, None, :] * (2 / to_size)[:, None]
    centre = (matrix @ half[..., None])[..., 0] + offset
    return torch.cat([linear, (centre * 2 / to_size - 1)[..., None]], 2)
