"""EfficientNet-Lite0 with a light decoder: a pose net whose trunk has seen ImageNet.

Tan & Le, "EfficientNet" (ICML 2019), in the Lite form: no squeeze-and-excitation and ReLU6 for
swish, which eight bits and small boards do well. Its padding is TensorFlow's, so that weights from
there fit.

Axes: B batch, C channels, H W cells.
"""

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer.models.decoder import Decoded
from misgiving.trainer.net_config import LiteConfig
from misgiving.trainer.pose import PoseOutput


class _Stage(NamedTuple):
    """Blocks of one width."""

    blocks: int
    channels: int
    kernel: int
    stride: int
    expansion: int = 6


_STEM = 32
_STAGES = (
    _Stage(1, 16, 3, 1, expansion=1),
    _Stage(2, 24, 3, 2),
    _Stage(2, 40, 5, 2),
    _Stage(3, 80, 3, 2),
    _Stage(3, 112, 5, 1),
    _Stage(4, 192, 5, 2),
)
"""Up to 32 input px a cell. The last stage and the classifier's layers find no use here."""
_TAPPED = (2, 4, 10, 14)
"""The last blocks at 4, 8, 16 and 32 input px a cell."""


class LiteNet(Decoded):
    """Image → heatmaps; the pyramid is the decoder's three or four scales."""

    # The trunk's own normalisation, not ImageNet's mean and deviation.
    mean = (127.0, 127.0, 127.0)
    std = (128.0, 128.0, 128.0)

    def __init__(self, config: LiteConfig, keypoints: int, input_size: int) -> None:
        deepest = 4 if config.deepest == 32 else 3
        trunk = Trunk(_TAPPED[deepest - 1] + 1)
        widths = [trunk.widths[block] for block in _TAPPED[:deepest]]
        super().__init__(widths, config.width, keypoints, input_size // config.stride)
        self.trunk = trunk

    def first_blocks(self, count: int) -> nn.Module:
        trunk = self.trunk
        if count > len(trunk.blocks):
            raise InvalidInput(f"frozen_blocks is {count}; expected at most {len(trunk.blocks)}")
        return nn.Sequential(trunk.stem, *trunk.blocks[:count]) if count else nn.Sequential()

    def forward(self, image: Tensor) -> PoseOutput:
        """(B, 3, H, W) normalised → PoseOutput."""
        return self.decode(self.trunk(image))


class Trunk(nn.Module):
    """The first blocks of EfficientNet-Lite0, (B, 3, H, W) → maps at 4, 8, 16 … input px a cell."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_conv_norm(3, _STEM, 3, stride=2), nn.ReLU6(inplace=True))
        made: list[_Block] = []
        inputs = _STEM
        for stage in _STAGES:
            for number in range(stage.blocks):
                made.append(_Block(inputs, stage, 1 if number else stage.stride))
                inputs = stage.channels
        self.blocks = nn.ModuleList(made[:blocks])
        self.widths = [stage.channels for stage in _STAGES for _ in range(stage.blocks)]
        """Channels behind each block."""

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised → the tapped maps, from the finest on."""
        x = self.stem(image)
        maps = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in _TAPPED:
                maps.append(x)
        return maps


class _Block(nn.Module):
    """An inverted residual (Sandler et al., CVPR 2018)."""

    def __init__(self, inputs: int, stage: _Stage, stride: int) -> None:
        super().__init__()
        inside = inputs * stage.expansion
        self.expand = nn.Sequential() if stage.expansion == 1 else _conv_relu(inputs, inside)
        self.depthwise = _conv_relu(inside, inside, stage.kernel, stride, groups=inside)
        self.project = _conv_norm(inside, stage.channels)
        self.adds = stride == 1 and inputs == stage.channels

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.adds else y


class _Conv(nn.Conv2d):
    """Padded as TensorFlow does it: where a stride leaves one pixel over, it lies behind."""

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] == 1:
            return super().forward(x)
        before, after = (self.kernel_size[0] - 2) // 2, self.kernel_size[0] // 2
        return super().forward(functional.pad(x, (before, after, before, after)))


def _conv_norm(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    padding = kernel // 2 if stride == 1 else 0
    conv = _Conv(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01))


def _conv_relu(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        *_conv_norm(inputs, outputs, kernel, stride, groups), nn.ReLU6(inplace=True)
    )
