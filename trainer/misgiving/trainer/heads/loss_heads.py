"""Loss heads: small networks that predict the pose net's own loss for an image, or whatever else
their objective asks for (see ``head_objectives``).

Shukla & Ahmed, "A Mathematical Analysis of Learning Loss for Active Learning in Regression"
(CVPR Workshops 2021), and Yoo & Kweon, "Learning Loss for Active Learning" (CVPR 2019). All read
the features of the last stack only.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from misgiving.trainer.config import HeadConfig
from misgiving.trainer.pose import Level, PoseNet, PoseOutput

_HIDDEN = (128, 64, 32, 16, 8)
_LEVEL_WIDTH = 128
_SMALLEST = 4
"""Cells a side from which one convolution collapses a map; from larger ones it would have most of
a head's weights (8 × 8 cells of 256 channels: 4.2 M)."""

_LEAST_PEAK = 1e-3
_EVIDENCE_DROPOUT = 0.3

_WIDEST = 512
"""Channels up to which the multi-scale head takes a map as it is; a deep ResNet's last one has
2048, and the head would be twice as large as the net that it judges."""


def _regressor(inputs: int, outputs: int) -> nn.Sequential:
    """Fully connected layers; like the authors', none is narrower than the answer."""
    layers: list[nn.Module] = []
    for width in _HIDDEN:
        if width >= outputs:
            layers += [nn.Linear(inputs, width), nn.ReLU()]
            inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


class GapHead(nn.Module):
    """Global average pooling of the features, then fully connected layers (LL, LL++)."""

    def __init__(self, pose: PoseNet, outputs: int = 1) -> None:
        super().__init__()
        self.regressor = _regressor(pose.channels, outputs)

    def forward(self, pose: PoseOutput) -> Tensor:
        """PoseOutput → (B, outputs)."""
        predicted: Tensor = self.regressor(pose.features.mean(dim=(2, 3)))
        return predicted


class ConvHead(nn.Module):
    """Multi-scale convolutions (LL++conv): from the finest scale down, each scale is reduced
    by convolutions and the next one's features are added."""

    def __init__(self, pose: PoseNet, outputs: int = 1) -> None:
        super().__init__()
        levels = [Level(min(level.channels, _WIDEST), level.size) for level in pose.levels]
        self.narrow = nn.ModuleList(_narrow(level.channels) for level in pose.levels)
        self.reductions = nn.ModuleList(_reduction(a, b) for a, b in pairwise(levels))
        self.collapse = _collapse(levels[-1])
        self.regressor = _regressor(levels[-1].channels, outputs)

    def forward(self, pose: PoseOutput) -> Tensor:
        """PoseOutput → (B, outputs)."""
        pyramid = [narrow(f) for narrow, f in zip(self.narrow, pose.pyramid, strict=True)]
        x = pyramid[0]
        for reduction, features in zip(self.reductions, pyramid[1:], strict=True):
            x = functional.relu(reduction(x)) + features
        predicted: Tensor = self.regressor(self.collapse(x).flatten(1))
        return predicted


def _narrow(channels: int) -> nn.Module:
    return nn.Identity() if channels <= _WIDEST else nn.Conv2d(channels, _WIDEST, 1)


def _reduction(fine: Level, coarse: Level) -> nn.Sequential:
    """The paper's rule: stride and kernel are the ratio of the sizes; where it does not divide,
    its floor, and then a convolution without stride whose kernel takes off the rest."""
    ratio = fine.size // coarse.size
    layers = [nn.Conv2d(fine.channels, coarse.channels, ratio, stride=ratio)]
    if rest := fine.size // ratio - coarse.size:
        layers.append(nn.Conv2d(coarse.channels, coarse.channels, rest + 1))
    return nn.Sequential(*layers)


def _collapse(level: Level) -> nn.Sequential:
    """Down to one cell. The authors' last convolution is as large as their smallest map, 4 × 4;
    larger maps are halved until they are as small."""
    channels, size = level
    layers: list[nn.Module] = []
    while size > _SMALLEST:
        layers += [nn.Conv2d(channels, channels, 2, stride=2), nn.ReLU()]
        size //= 2
    return nn.Sequential(*layers, nn.Conv2d(channels, channels, size), nn.ReLU())


class LevelsHead(nn.Module):
    """Yoo & Kweon's module: every scale pooled, a layer of its own each, one linear layer."""

    def __init__(self, pose: PoseNet, outputs: int = 1) -> None:
        super().__init__()
        widths: Sequence[int] = [level.channels for level in pose.levels]
        self.layers = nn.ModuleList(nn.Linear(width, _LEVEL_WIDTH) for width in widths)
        self.regressor = nn.Linear(_LEVEL_WIDTH * len(widths), outputs)

    def forward(self, pose: PoseOutput) -> Tensor:
        """PoseOutput → (B, outputs)."""
        pooled = (level.mean(dim=(2, 3)) for level in pose.pyramid)
        read = [functional.relu(layer(x)) for layer, x in zip(self.layers, pooled, strict=True)]
        predicted: Tensor = self.regressor(torch.cat(read, dim=1))
        return predicted


class Standardise(nn.Module):
    """Each input to zero mean and unit variance, by running estimates, in training too.

    Batch normalisation would take from a batch of 16 what its images have in common.
    """

    mean: Tensor
    variance: Tensor
    batches: Tensor

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("variance", torch.ones(inputs))
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) → the same."""
        if self.training:
            self._learn(x.detach())
        standard: Tensor = (x - self.mean) / torch.sqrt(self.variance + 1e-6)
        return standard

    def _learn(self, x: Tensor) -> None:
        """All batches count alike at first, later the last hundred or so: the net moves on."""
        self.batches += 1
        rate = torch.clamp(1 / self.batches, min=0.01)
        self.mean.lerp_(x.mean(0), rate)
        self.variance.lerp_((x - self.mean).square().mean(0), rate)


class EvidenceHead(nn.Module):
    """What tells a wrong answer: the heatmaps' peaks, or what a foreign net has instead; the pose
    that they make; and every scale's average and largest feature, which say what the image is like
    and what is seen somewhere in it.

    Each input is brought to zero mean and unit variance, as training saw it.
    """

    def __init__(self, pose: PoseNet, outputs: int, keypoints: int) -> None:
        super().__init__()
        seen = 2 * sum(level.channels for level in pose.levels)
        inputs = 2 * keypoints + pose.evidence_size(keypoints) + seen
        wide, narrow = _HIDDEN[:2]
        self.regressor = nn.Sequential(
            Standardise(inputs),
            nn.Linear(inputs, wide),
            nn.ReLU(),
            nn.Dropout(_EVIDENCE_DROPOUT),
            nn.Linear(wide, narrow),
            nn.ReLU(),
            nn.Linear(narrow, outputs),
        )

    def forward(self, pose: PoseOutput) -> Tensor:
        """PoseOutput → (B, outputs)."""
        cells, peaks = pose.decoded()
        told = _of_heatmaps(peaks) if pose.evidence is None else pose.evidence
        places = (cells - cells.mean(1, keepdim=True)) / pose.heatmaps.shape[-1]
        average = [_average(level.float()) for level in pose.pyramid]
        largest = [_largest(level.float()) for level in pose.pyramid]
        seen = [told, places.flatten(1), *average, *largest]
        predicted: Tensor = self.regressor(torch.cat(seen, dim=1))
        return predicted


def _average(level: Tensor) -> Tensor:
    """(B, C, h, w) → (B, C)."""
    if torch.compiler.is_exporting():  # see _largest
        return functional.avg_pool2d(level, level.shape[-2:]).flatten(1)
    return level.mean(dim=(2, 3))


def _largest(level: Tensor) -> Tensor:
    """(B, C, h, w) → (B, C).

    ONNX Runtime keeps a level in the convolutions' own layout for a pool, and turns it for any
    other reduction, which takes as long as the head itself; torch's pools are slow on a CPU.
    """
    if torch.compiler.is_exporting():
        return functional.max_pool2d(level, level.shape[-2:]).flatten(1)
    return level.amax(dim=(2, 3))


def _of_heatmaps(peaks: Tensor) -> Tensor:
    """(B, K) → (B, 2K): peaks and their logits."""
    peaks = peaks.clamp(_LEAST_PEAK, 1 - _LEAST_PEAK)
    return torch.cat([peaks, torch.logit(peaks)], dim=1)


def make_head(head: HeadConfig, pose: PoseNet, keypoints: int, outputs: int = 1) -> nn.Module:
    """The head that a configuration asks for, for a pose net of so many joints and so many numbers
    an image."""
    if head.kind == "evidence":
        return EvidenceHead(pose, outputs, keypoints)
    return {"gap": GapHead, "conv": ConvHead, "levels": LevelsHead}[head.kind](pose, outputs)
