"""Crops on the device: cut once by the runtime's own function, changed there by ``augmentation``.

Axes: B batch, N persons, K keypoints. A training crop shows more than the network's input
(``CONTEXT`` times as much, at the same scale), so that rotations and shifts find real pixels.
"""

import math
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from misgiving.runtime import geometry
from misgiving.runtime.errors import ResourceExhausted
from misgiving.runtime.geometry import CropRule, Window
from misgiving.trainer.data.base import PoseSet, Sample, check_labelled
from misgiving.trainer.data.readable import Readable, asked_window

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
    astray: int = 0
    """How many of the last ones show a person badly or not at all, for the heads alone."""

    def to(self, device: torch.device) -> "Batch":
        """The same on another device."""
        images, points, labelled = self.images, self.points, self.labelled
        return Batch(images.to(device), points.to(device), labelled.to(device), self.astray)


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
    data: PoseSet | None = None
    """Whose crops these are: the set without those who could not be read."""

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


def load_crops(
    data: PoseSet,
    rule: CropRule,
    device: torch.device,
    progress: Iterable[int],
    limit: int = IN_MEMORY_BYTES,
) -> Crops:
    """Read every person of a set once; who cannot be read is left out, named and counted.

    Args:
        data: the persons.
        rule: the network's crop rule.
        device: where the crops shall live.
        progress: the positions to read; wrap ``range(len(data))`` to show progress.
        limit: bytes of images up to which they live on the device, else in a temporary file.

    Raises:
        DataError: somebody is not labelled, or too many cannot be read.
        ResourceExhausted: the temporary file does not fit.
    """
    check_labelled(data)
    count, (height, width) = len(data), _context_size(rule)
    images, in_memory = _room((count, 3, height, width), limit)
    points = torch.empty(count, len(data.keypoints), 2)
    labelled = torch.empty(count, len(data.keypoints), dtype=torch.bool)
    read, reader = 0, Readable(data, lambda sample: _labelled_window(sample, rule))
    for read, sample in enumerate(reader.samples(progress), 1):
        crop, points_crop = _context_crop(sample, rule)
        images[read - 1] = torch.from_numpy(crop).permute(2, 0, 1)
        points[read - 1] = torch.from_numpy(points_crop)
        labelled[read - 1] = torch.from_numpy(sample.labelled)
    mirror = torch.from_numpy(data.keypoints.mirror).to(device)
    kept = images[:read].to(device) if in_memory else images[:read]
    return Crops(
        kept, points[:read].to(device), labelled[:read].to(device), rule, mirror, reader.kept()
    )


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


def _labelled_window(sample: Sample, rule: CropRule) -> Window:
    """Around the labels, also where a vehicle asked about another region: who is to be learnt."""
    height, width = sample.image.shape[:2]
    return geometry.window_of(sample.region, height, width, rule)


def _context_crop(sample: Sample, rule: CropRule) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    inner = _labelled_window(sample, rule)
    width, height = round(inner.width * CONTEXT), round(inner.height * CONTEXT)
    left = inner.left - (width - inner.width) // 2
    top = inner.top - (height - inner.height) // 2
    window = Window(left, top, width, height)
    size = _context_size(rule)
    crop = geometry.cut(sample.image, window, *size)
    return crop, geometry.image_to_input(sample.points, window, *size)
