"""Direct regression of coordinates (Toshev & Szegedy, "DeepPose", CVPR 2014).

The paper's first stage alone, without the cascade that crops around each joint and refines it,
and on a ResNet instead of AlexNet.

Axes: B batch, C channels, K keypoints, H W heatmap cells.
"""

import torch
from torch import Tensor, nn

from misgiving.trainer import heatmaps
from misgiving.trainer.models.blocks import conv_relu
from misgiving.trainer.models.resnet import Resnet
from misgiving.trainer.net_config import DeepposeConfig
from misgiving.trainer.pose import Level, PoseNet, PoseOutput

_SQUEEZED = 128
_HIDDEN = 512


class Deeppose(PoseNet):
    """Image → one point a joint; its heatmaps are Gaussians drawn there.

    So that every net is decoded, measured and exported alike. A drawn heatmap peaks at 1
    wherever it is: this net's ``signals`` and confidences say nothing, its learned heads do.
    ``features`` is C5, from which the points are read, the pyramid C2 to C5.
    """

    def __init__(self, config: DeepposeConfig, keypoints: int, input_size: int) -> None:
        backbone = Resnet(config.layers, config.width)
        size = input_size // config.stride
        super().__init__(
            backbone.widths[-1],
            [Level(width, size >> stage) for stage, width in enumerate(backbone.widths)],
        )
        self.size, self.sigma = size, config.sigma
        self.backbone = backbone
        cells = self.levels[-1].size ** 2
        self.regressor = nn.Sequential(
            conv_relu(self.channels, _SQUEEZED),
            nn.Flatten(),
            nn.Linear(cells * _SQUEEZED, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, 2 * keypoints),
        )

    def forward(self, image: Tensor) -> PoseOutput:
        """(B, 3, H, W) normalised → PoseOutput."""
        pyramid = self.backbone(image)
        # From the input's centre, in its sides.
        offsets = self.regressor(pyramid[-1]).unflatten(1, (-1, 2)).float()
        points = (offsets + 0.5) * self.size
        everywhere = torch.ones_like(points[..., 0], dtype=torch.bool)
        # A point outside is drawn on the edge: an empty map would say (0, 0).
        drawn = heatmaps.encode(points.clamp(0, self.size), everywhere, self.size, self.sigma)
        return PoseOutput(drawn[:, None], pyramid[-1], pyramid, points)

    def training_loss(
        self, output: PoseOutput, observed: Tensor, points: Tensor, labelled: Tensor
    ) -> Tensor:
        """Mean squared distance of the labelled joints, in sides of the input, ()."""
        assert output.points is not None
        true = torch.where(labelled[..., None], points, output.points)
        squared = ((output.points - true) / self.size).square().sum(-1)
        return squared.sum() / labelled.sum().clamp(min=1)
