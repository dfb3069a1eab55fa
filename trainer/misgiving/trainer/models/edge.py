"""A pose net for small boards: at most 1.2 M parameters and 0.5 GMAC together with a loss head.

Only what ONNX Runtime on a CPU, TensorRT and their int8 forms do well: plain and depthwise
convolutions with normalisation, ReLU, nearest upsampling, sums. At the fine scales, where a
depthwise convolution waits for memory, plain 3 × 3 residual blocks; at the coarse ones, where
plain convolutions have most weights, inverted residuals (Sandler et al., CVPR 2018).

Axes: B batch, C channels, K keypoints, H W heatmap cells.
"""

from itertools import pairwise

from torch import Tensor, nn

from misgiving.trainer.models.blocks import Basic, conv_norm, conv_relu
from misgiving.trainer.models.decoder import Decoded
from misgiving.trainer.net_config import EdgeConfig
from misgiving.trainer.pose import PoseOutput

_GROWTH = (2, 4, 6, 8)
"""Channels of the scales from the finest on, in halves of the width."""
_EXPANSION = 3
_BLOCKS = (2, 3, 4, 3)


class Inverted(nn.Module):
    """An inverted residual: widened, one depthwise convolution, narrowed without a rectifier."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inside = channels * _EXPANSION
        self.body = nn.Sequential(
            conv_relu(channels, inside),
            conv_relu(inside, inside, 3, groups=inside),
            conv_norm(inside, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.body(x)
        return y


class EdgeNet(Decoded):
    """Image → heatmaps; the pyramid is the decoder's four scales, ``features`` the finest."""

    def __init__(self, config: EdgeConfig, keypoints: int, input_size: int) -> None:
        widths = [config.width * growth // 2 for growth in _GROWTH]
        super().__init__(widths, 2 * config.width, keypoints, input_size // config.stride)
        self.stem = nn.Sequential(
            conv_relu(3, config.width // 2, 3, stride=2),
            conv_relu(config.width // 2, widths[0], 3, stride=2),
        )
        downs = [nn.Identity(), *(conv_relu(a, b, 3, stride=2) for a, b in pairwise(widths))]
        self.scales = nn.ModuleList(
            nn.Sequential(down, *_blocks(scale, width))
            for scale, (down, width) in enumerate(zip(downs, widths, strict=True))
        )

    def forward(self, image: Tensor) -> PoseOutput:
        """(B, 3, H, W) normalised → PoseOutput."""
        x = self.stem(image)
        maps = []
        for scale in self.scales:
            x = scale(x)
            maps.append(x)
        return self.decode(maps)


def _blocks(scale: int, width: int) -> list[nn.Module]:
    return [Basic(width, width) if scale == 0 else Inverted(width) for _ in range(_BLOCKS[scale])]
