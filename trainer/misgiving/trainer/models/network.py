"""The whole network: normalisation, pose net, loss heads on detached features."""

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.keypoints import KeypointSet
from misgiving.trainer import heatmaps
from misgiving.trainer.config import ModelConfig
from misgiving.trainer.foreign.pose import ForeignPose
from misgiving.trainer.foreign_config import ForeignConfig
from misgiving.trainer.heads.head_objectives import make_objective
from misgiving.trainer.heads.loss_heads import make_head
from misgiving.trainer.models.deeppose import Deeppose
from misgiving.trainer.models.edge import EdgeNet
from misgiving.trainer.models.hourglass import StackedHourglass
from misgiving.trainer.models.hrnet import Hrnet
from misgiving.trainer.models.lite import LiteNet
from misgiving.trainer.models.resnet import ResnetPose
from misgiving.trainer.models.tompson import Tompson
from misgiving.trainer.net_config import (
    DeepposeConfig,
    EdgeConfig,
    HourglassConfig,
    HrnetConfig,
    LiteConfig,
    ResnetConfig,
    TompsonConfig,
)
from misgiving.trainer.pose import PoseNet, PoseOutput

EMBEDDING_SIZE = 128
"""Largest embedding; wider features are projected."""


class NetworkOutput(NamedTuple):
    """One pass over a batch."""

    pose: PoseOutput
    predicted_losses: dict[str, Tensor]
    """Head name → (B,), the risk."""
    head_outputs: dict[str, Tensor]
    """Head name → (B, O), what its objective is trained on."""


class Network(nn.Module):
    """Pose net and loss heads. No gradient of a head reaches the pose net.

    Made by a training, and read by :func:`misgiving.trainer.load_checkpoint`.
    """

    mean: Tensor
    std: Tensor
    projection: Tensor

    def __init__(
        self, config: ModelConfig, keypoints: KeypointSet, foreign: bytes | None = None
    ) -> None:
        """
        Args:
            config: of pose net and heads.
            keypoints: that it answers with.
            foreign: the ONNX file of a foreign pose net, None of ours.

        Raises:
            InvalidInput: a head or the foreign file does not fit.
        """
        super().__init__()
        self.config = config
        self.keypoints = keypoints
        self.pose = make_pose_net(config, len(keypoints), foreign)
        taught = config.net.taught if isinstance(config.net, ForeignConfig) else keypoints.names
        self.objectives = {h.name: make_objective(h, keypoints, taught) for h in config.heads}
        self.heads = nn.ModuleDict(
            {
                h.name: make_head(h, self.pose, len(keypoints), self.objectives[h.name].outputs)
                for h in config.heads
            }
        )
        if config.dropout:
            self.pose.read_out.register_forward_pre_hook(partial(_dropped, config.dropout))
        self.register_buffer("mean", torch.tensor(self.pose.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(self.pose.std).view(3, 1, 1))
        self.register_buffer("projection", _projection(self.pose.channels))

    def forward(self, image: Tensor) -> NetworkOutput:
        """Images (B, 3, H, W), RGB, float in 0–255 → NetworkOutput."""
        pose = self.answer(image)
        seen = pose._replace(
            heatmaps=pose.heatmaps.detach(),
            features=pose.features.detach(),
            pyramid=tuple(f.detach() for f in pose.pyramid),
            points=None,
        )
        outputs = {name: head(seen) for name, head in self.heads.items()}
        risks = {name: self.risk(name, outputs[name], seen) for name in outputs}
        return NetworkOutput(pose, risks, outputs)

    def answer(self, image: Tensor) -> PoseOutput:
        """The pose net's part of ``forward``, decoded once for all who ask."""
        pose: PoseOutput = self.pose(self.normalise(image))
        return pose._replace(found=pose.decoded())

    def risk(self, head: str, outputs: Tensor, pose: PoseOutput) -> Tensor:
        """What one head's outputs (B, O) say of the images, (B,): its predicted loss."""
        return self.objectives[head].risk(outputs, pose.decoded()[0])

    def normalise(self, image: Tensor) -> Tensor:
        """RGB in 0–255, (B, 3, H, W) → what the pose net was trained on."""
        normalised: Tensor = (image - self.mean) / self.std
        return normalised

    def take_over(self, other: "Network") -> None:
        """Take the weights of a network with the same pose net, and of the heads both have."""
        foreign = tuple(f"heads.{name}." for name in other.heads if name not in self.heads)
        weights = {n: w for n, w in other.state_dict().items() if not n.startswith(foreign)}
        self.load_state_dict({**self.state_dict(), **weights})

    def signals(self, pose: PoseOutput) -> Tensor:
        """The free scores, (B, S) in the order of ``pose.signals``."""
        if pose.signals is not None:
            return pose.signals
        return heatmaps.signals(pose.heatmaps[:, -1].float(), pose.decoded()[1])

    def embed(self, pose: PoseOutput) -> Tensor:
        """Pooled features of the pose net, (B, D), D ≤ EMBEDDING_SIZE."""
        pooled: Tensor = pose.features.mean(dim=(2, 3))
        if self.pose.channels <= EMBEDDING_SIZE:
            return pooled
        projected: Tensor = pooled @ self.projection
        return projected


def _dropped(share: float, read_out: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """Before the read-out: whole channels, because neighbouring cells tell the same."""
    return functional.dropout2d(inputs[0], share, read_out.training)


def make_pose_net(config: ModelConfig, keypoints: int, foreign: bytes | None = None) -> PoseNet:
    """The pose net that a configuration asks for; ``foreign`` is the ONNX file of one of those."""
    if isinstance(config.net, ForeignConfig):
        if foreign is None:
            raise InvalidInput(f"{config.net.file} is a foreign network; expected its ONNX file")
        return ForeignPose(config.net, keypoints, config.crop, foreign)
    size = config.crop.height
    match config.net:
        case HourglassConfig() as net:
            return StackedHourglass(net, keypoints, size)
        case HrnetConfig() as net:
            return Hrnet(net, keypoints, size)
        case ResnetConfig() as net:
            return ResnetPose(net, keypoints, size)
        case EdgeConfig() as net:
            return EdgeNet(net, keypoints, size)
        case LiteConfig() as net:
            return LiteNet(net, keypoints, size)
        case DeepposeConfig() as net:
            return Deeppose(net, keypoints, size)
        case TompsonConfig() as net:
            return Tompson(net, keypoints, size)


def _projection(channels: int) -> Tensor:
    """A fixed Gaussian projection, which keeps distances (Johnson & Lindenstrauss, 1984)."""
    size = min(channels, EMBEDDING_SIZE)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(channels, size, generator=generator) / math.sqrt(size)
