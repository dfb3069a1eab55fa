"""Stacked hourglass (Newell, Yang & Deng, ECCV 2016): heatmaps and the pyramid that heads read.

Axes: B batch, C channels, K keypoints, H W heatmap cells.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from misgiving.trainer.models.blocks import answer
from misgiving.trainer.net_config import HourglassConfig
from misgiving.trainer.pose import Level, PoseNet, PoseOutput


class Residual(nn.Module):
    """Pre-activation bottleneck."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        middle = outputs // 2
        self.body = nn.Sequential(
            *_activated(inputs, middle, 1),
            *_activated(middle, middle, 3),
            *_activated(middle, outputs, 1),
        )
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.skip(x) + self.body(x)
        return y


def _activated(inputs: int, outputs: int, kernel: int) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    return nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), conv


class Hourglass(nn.Module):
    """One hourglass of a given depth."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.skips = nn.ModuleList(Residual(channels, channels) for _ in range(depth))
        self.down = nn.ModuleList(Residual(channels, channels) for _ in range(depth))
        self.bottom = Residual(channels, channels)
        self.up = nn.ModuleList(Residual(channels, channels) for _ in range(depth))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W) → decoder features from the finest to the coarsest."""
        skipped = []
        for skip, down in zip(self.skips, self.down, strict=True):
            skipped.append(skip(x))
            x = down(functional.max_pool2d(x, 2))
        # As in the paper: a scale's feature is read after its last residual, before upsampling.
        coarse = self.bottom(x)
        pyramid = []
        for up, skip_features in zip(self.up, reversed(skipped), strict=True):
            coarse = up(coarse)
            pyramid.append(coarse)
            coarse = skip_features + functional.interpolate(coarse, scale_factor=2.0)
        return (coarse, *reversed(pyramid))


class StackedHourglass(PoseNet):
    """Image → heatmaps, stack after stack; the pyramid is the last stack's decoder."""

    def __init__(self, config: HourglassConfig, keypoints: int, input_size: int) -> None:
        size, channels, stacks = input_size // config.stride, config.channels, config.stacks
        super().__init__(channels, [Level(channels, size >> i) for i in range(config.depth + 1)])
        self.stem = _stem(channels, config.stride)
        self.hourglasses = nn.ModuleList(Hourglass(channels, config.depth) for _ in range(stacks))
        self.reads = nn.ModuleList(_read(channels) for _ in range(stacks))
        self.answers = nn.ModuleList(answer(channels, keypoints) for _ in range(stacks))
        self.merge_reads = nn.ModuleList(
            nn.Conv2d(channels, channels, 1) for _ in range(stacks - 1)
        )
        self.merge_answers = nn.ModuleList(
            nn.Conv2d(keypoints, channels, 1) for _ in range(stacks - 1)
        )

    @property
    def read_out(self) -> nn.Conv2d:
        answer = self.answers[-1]
        assert isinstance(answer, nn.Conv2d)
        return answer

    def forward(self, image: Tensor) -> PoseOutput:
        """(B, 3, H, W) normalised → PoseOutput."""
        x = self.stem(image)
        heatmaps = []
        last = len(self.hourglasses) - 1
        for index, hourglass in enumerate(self.hourglasses):
            pyramid = hourglass(x)
            features = self.reads[index](pyramid[0])
            heatmaps.append(self.answers[index](features))
            if index < last:
                merged = self.merge_reads[index](features) + self.merge_answers[index](heatmaps[-1])
                x = x + merged
        return PoseOutput(torch.stack(heatmaps, 1), features, pyramid)


def _stem(channels: int, stride: int) -> nn.Sequential:
    half = channels // 2
    layers: list[nn.Module] = [
        nn.Conv2d(3, half, 7, stride=2, padding=3),
        nn.BatchNorm2d(half),
        nn.ReLU(inplace=True),
    ]
    if stride == 4:
        layers += [Residual(half, half), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, Residual(half, channels))


def _read(channels: int) -> nn.Sequential:
    conv = nn.Conv2d(channels, channels, 1)
    norm = nn.BatchNorm2d(channels)
    return nn.Sequential(Residual(channels, channels), conv, norm, nn.ReLU(inplace=True))
