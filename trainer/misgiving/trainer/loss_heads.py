"""Loss heads: small networks that predict the pose net's own loss for an image.

Shukla & Ahmed, "A Mathematical Analysis of Learning Loss for Active Learning in Regression"
(CVPR Workshops 2021). Both heads read the features of the last stack only.
"""

from torch import Tensor, nn
from torch.nn import functional

from misgiving.trainer.config import HeadConfig, ModelConfig
from misgiving.trainer.models.hourglass import PoseOutput

_HIDDEN = (128, 64, 32, 16, 8)


def _regressor(inputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for outputs in _HIDDEN:
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers, nn.Linear(inputs, 1))


class GapHead(nn.Module):
    """Global average pooling of the features, then fully connected layers (LL, LL++)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.regressor = _regressor(config.channels)

    def forward(self, pose: PoseOutput) -> Tensor:
        """PoseOutput → predicted loss (B,)."""
        predicted: Tensor = self.regressor(pose.features.mean(dim=(2, 3)))
        return predicted[:, 0]


class ConvHead(nn.Module):
    """Multi-scale convolutions (LL++conv): from the finest scale down, each scale is reduced
    by a strided convolution and the next one's decoder features are added."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = config.channels
        self.reductions = nn.ModuleList(
            nn.Conv2d(channels, channels, 2, stride=2) for _ in range(config.depth)
        )
        smallest = config.heatmap_size // 2**config.depth
        self.collapse = nn.Conv2d(channels, channels, smallest)
        self.regressor = _regressor(channels)

    def forward(self, pose: PoseOutput) -> Tensor:
        """PoseOutput → predicted loss (B,)."""
        x = pose.pyramid[0]
        for reduction, features in zip(self.reductions, pose.pyramid[1:], strict=True):
            x = functional.relu(reduction(x)) + features
        x = functional.relu(self.collapse(x))
        predicted: Tensor = self.regressor(x[:, :, 0, 0])
        return predicted[:, 0]


def make_head(head: HeadConfig, model: ModelConfig) -> nn.Module:
    """The head that a configuration asks for."""
    return {"gap": GapHead, "conv": ConvHead}[head.kind](model)
