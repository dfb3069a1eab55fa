"""ResNet (He et al., CVPR 2016) and three deconvolutions (Xiao, Wu & Wei, "Simple Baselines for
Human Pose Estimation and Tracking", ECCV 2018).

Axes: B batch, C channels, K keypoints, H W heatmap cells.
"""

from torch import Tensor, nn

from misgiving.trainer.models.blocks import Basic, Bottleneck, answer, conv_relu
from misgiving.trainer.net_config import ResnetConfig
from misgiving.trainer.pose import Level, PoseNet, PoseOutput

_DEEP = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
_DECONVOLUTIONS = 3


class Resnet(nn.Module):
    """The backbone: normalised images → C2 to C5, at 4 to 32 input px a cell."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        block = Basic if layers < 50 else Bottleneck
        self.widths = tuple((width << stage) * block.expansion for stage in range(4))
        """Channels of C2 to C5."""
        self.stem = nn.Sequential(conv_relu(3, width, 7, stride=2), nn.MaxPool2d(3, 2, padding=1))
        self.stages = nn.ModuleList()
        inputs = width
        for stage, (count, outputs) in enumerate(zip(_DEEP[layers], self.widths, strict=True)):
            inside = width << stage
            first = block(inputs, inside, stride=1 if stage == 0 else 2)
            rest = (block(outputs, inside) for _ in range(count - 1))
            self.stages.append(nn.Sequential(first, *rest))
            inputs = outputs

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) → C2 to C5."""
        x = self.stem(image)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return tuple(maps)


class ResnetPose(PoseNet):
    """Image → heatmaps, from the last deconvolution, which ``features`` is.

    The pyramid goes from there back to the backbone's last map: the three deconvolutions, which
    are the decoder, and C5.
    """

    def __init__(self, config: ResnetConfig, keypoints: int, input_size: int) -> None:
        width, size = 4 * config.width, input_size // config.stride
        backbone = Resnet(config.layers, config.width)
        deepest = backbone.widths[-1]
        levels = [Level(width, size >> i) for i in range(_DECONVOLUTIONS)]
        super().__init__(width, [*levels, Level(deepest, size >> _DECONVOLUTIONS)])
        self.backbone = backbone
        inputs = [deepest, *[width] * (_DECONVOLUTIONS - 1)]
        self.deconvolutions = nn.ModuleList(_doubling(i, width) for i in inputs)
        self.answer = answer(width, keypoints)

    @property
    def read_out(self) -> nn.Conv2d:
        return self.answer

    def forward(self, image: Tensor) -> PoseOutput:
        """(B, 3, H, W) normalised → PoseOutput."""
        x = self.backbone(image)[-1]
        pyramid = [x]
        for deconvolution in self.deconvolutions:
            x = deconvolution(x)
            pyramid.append(x)
        return PoseOutput(self.answer(x)[:, None], x, tuple(reversed(pyramid)))


def _doubling(inputs: int, outputs: int) -> nn.Sequential:
    conv = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
