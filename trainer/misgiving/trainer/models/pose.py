"""What every pose net gives: heatmaps, and the feature pyramid that loss heads read.

Axes: B batch, C channels, K keypoints, H W heatmap cells.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn


class PoseOutput(NamedTuple):
    """What a pose net gives; everything but the heatmaps is of its last stack."""

    heatmaps: Tensor
    """(B, stacks, K, H, W), targets peak at 1."""
    features: Tensor
    """(B, C, H, W), the map from which the heatmaps are read, by ``PoseNet.read_out``."""
    pyramid: tuple[Tensor, ...]
    """From the finest to the coarsest, each as its ``Level`` says."""


class Level(NamedTuple):
    """One scale of the pyramid: maps (B, channels, size, size)."""

    channels: int
    size: int


class PoseNet(nn.Module):
    """Normalised images (B, 3, input_size, input_size) → PoseOutput."""

    def __init__(self, channels: int, levels: Sequence[Level]) -> None:
        """
        Args:
            channels: of ``features``.
            levels: of ``pyramid``, each smaller than the one before.
        """
        super().__init__()
        self.channels = channels
        self.levels = tuple(levels)

    @property
    def read_out(self) -> nn.Conv2d:
        """The 1 × 1 convolution that makes the last stack's heatmaps of ``features``."""
        raise NotImplementedError
