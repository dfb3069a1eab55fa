"""Pose net, loss head, normalisation and sub-pixel decoding as one module.

Axes: B batch, H W input.
"""

import torch
from torch import Tensor, nn

from misgiving.runtime.engines.base import OUTPUTS, REQUIRED
from misgiving.runtime.errors import InvalidInput
from misgiving.trainer.models import Network
from misgiving.trainer.pose import PoseOutput


class FusedGraph(nn.Module):
    """What the vehicle runs: uint8 RGB in, answers in input pixels out."""

    outputs: tuple[str, ...]
    """What it gives, by the names and with the meaning of the runtime's ``Prediction``."""

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
        self.objective = network.objectives[self.head_name]
        apart = self.objective.keypoint_risk(torch.zeros(1, self.objective.outputs)) is not None
        self.outputs = OUTPUTS if apart else REQUIRED

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """(B, H, W, 3) uint8 → ``outputs`` by name, in that order."""
        return self.said(self.network.answer(image.float().permute(0, 3, 1, 2)))

    def said(self, pose: PoseOutput) -> dict[str, Tensor]:
        """What the pose net gave, decoded → ``outputs`` by name."""
        network = self.network
        cells, peaks = pose.decoded()
        points = cells * network.config.stride
        outputs = self.head(pose)
        answers = (
            torch.cat([points, peaks.clamp(0, 1)[..., None]], dim=-1),
            network.risk(self.head_name, outputs, pose),
            network.signals(pose),
            network.embed(pose),
            self.objective.keypoint_risk(outputs),
        )
        known = (answer for answer in answers if answer is not None)
        return dict(zip(self.outputs, known, strict=True))
