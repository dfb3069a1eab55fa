"""Pose net, loss head, normalisation and sub-pixel decoding as one module.

Axes: B batch, K keypoints, S signals, D embedding.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer import heatmaps
from misgiving.trainer.models import Network


class FusedOutput(NamedTuple):
    """The outputs of the graph, in its order."""

    keypoints: Tensor
    """(B, K, 3): x and y in input px, confidence in [0, 1]."""
    predicted_loss: Tensor
    """(B,)"""
    signals: Tensor
    """(B, S)"""
    embedding: Tensor
    """(B, D)"""


class FusedGraph(nn.Module):
    """What the vehicle runs: uint8 RGB in, answers in input pixels out."""

    def __init__(self, network: Network, head: str | None = None) -> None:
        """Fuse a network with one of its heads.

        Args:
            network: trained; left in evaluation mode.
            head: a head's name, None for the first.

        Raises:
            InvalidInput: the network has no such head.
        """
        super().__init__()
        names = list(network.heads)
        self.head_name = head or names[0]
        if self.head_name not in names:
            raise InvalidInput(f"head is {head!r}; this checkpoint has {', '.join(names)}")
        self.network = network.eval()
        self.head = network.heads[self.head_name]

    def forward(self, image: Tensor) -> FusedOutput:
        """(B, H, W, 3) uint8 → FusedOutput."""
        network = self.network
        pose = network.pose(network.normalise(image.float().permute(0, 3, 1, 2)))
        last = pose.heatmaps[:, -1]
        cells, peaks = heatmaps.decode(last)
        points = cells * network.config.stride
        return FusedOutput(
            torch.cat([points, peaks.clamp(0, 1)[..., None]], dim=-1),
            network.risk(self.head_name, self.head(pose), pose),
            heatmaps.signals(last, peaks),
            network.embed(pose),
        )
