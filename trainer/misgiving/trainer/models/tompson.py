"""Part detector and spatial model (Tompson, Jain, LeCun & Bregler, "Joint Training of a
Convolutional Network and a Graphical Model for Human Pose Estimation", NIPS 2014).

Ours: batch normalisation for their local contrast normalisation, an image halved by its mean for
their Laplacian pyramid, both parts trained together from the start, priors that start flat
instead of from the training set's histograms.

Axes: B batch, C channels, K keypoints, H W heatmap cells.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from misgiving.trainer.models.blocks import answer, conv_relu
from misgiving.trainer.net_config import TompsonConfig
from misgiving.trainer.pose import Level, PoseNet, PoseOutput

_RESOLUTIONS = 3
_DILATION = 2
"""Cells between two weights of a prior: heatmaps are blurred wider than that."""
_FLOOR = 1e-3
"""Least evidence of a cell; the paper allows up to 0.01."""
_FLAT = 5e-3
"""What the weights of a prior between two joints start as."""


class SpatialModel(nn.Module):
    """Each joint's map from all joints' maps, one pass of a Markov random field.

    A joint v says where A may be: its own evidence convolved with the prior of A given v, plus a
    bias, the chance that v is not seen. The product of what all say, taken as a sum of
    logarithms, is A's map. SoftPlus keeps priors and biases positive. It starts near the
    identity: what a joint says of itself is its evidence, all others say little but 1.
    """

    def __init__(self, keypoints: int, reach: int) -> None:
        super().__init__()
        side = 2 * reach // _DILATION + 1
        priors = torch.full((keypoints, keypoints, side, side), _inverse(_FLAT))
        biases = torch.full((keypoints, keypoints), _inverse(1.0))
        own = range(keypoints)
        priors[own, own] = _inverse(_FLOOR)
        priors[own, own, side // 2, side // 2] = _inverse(1.0)
        biases[own, own] = _inverse(_FLOOR)
        self.keypoints = keypoints
        self.reach = reach
        self.priors = nn.Parameter(priors.flatten(0, 1)[:, None])
        """(v × A, 1, side, side)"""
        self.biases = nn.Parameter(biases.flatten())

    def forward(self, evidence: Tensor) -> Tensor:
        """(B, K, H, W) → the same."""
        said = functional.conv2d(
            evidence.clamp(min=_FLOOR),
            functional.softplus(self.priors),
            functional.softplus(self.biases),
            padding=self.reach,
            dilation=_DILATION,
            groups=self.keypoints,
        )
        messages = said.float().log().reshape(-1, self.keypoints, *evidence.shape[1:])
        return messages.sum(1).exp()


def _inverse(positive: float) -> float:
    """SoftPlus backwards."""
    return math.log(math.expm1(positive))


class Tompson(PoseNet):
    """Image → the part detector's heatmaps, and as a second stack those of the spatial model.

    ``features`` is what the detector's heatmaps are read from; the pyramid its resolutions, before
    they are brought to one size and summed.
    """

    def __init__(self, config: TompsonConfig, keypoints: int, input_size: int) -> None:
        width, size = config.width, input_size // config.stride
        levels = [Level(4 * width, size >> index) for index in range(_RESOLUTIONS)]
        super().__init__(2 * width, levels)
        self.banks = nn.ModuleList(_bank(width) for _ in range(_RESOLUTIONS))
        self.joined = conv_relu(4 * width, 2 * width)
        self.answer = answer(2 * width, keypoints)
        self.spatial = SpatialModel(keypoints, config.reach)

    def forward(self, image: Tensor) -> PoseOutput:
        """(B, 3, H, W) normalised → PoseOutput."""
        pyramid = []
        for index, bank in enumerate(self.banks):
            pyramid.append(bank(functional.avg_pool2d(image, 2**index)))
        total = pyramid[0]
        for index, features in enumerate(pyramid[1:], 1):
            total = total + functional.interpolate(features, scale_factor=2.0**index)
        features = self.joined(total)
        evidence = self.answer(features)
        heatmaps = torch.stack([evidence, self.spatial(evidence)], 1)
        return PoseOutput(heatmaps, features, tuple(pyramid))


def _bank(width: int) -> nn.Sequential:
    """The convolutions of one resolution."""
    return nn.Sequential(
        conv_relu(3, width, 5),
        nn.MaxPool2d(2),
        conv_relu(width, width, 5),
        nn.MaxPool2d(2),
        conv_relu(width, width, 5),
        conv_relu(width, 4 * width, 9),
    )
