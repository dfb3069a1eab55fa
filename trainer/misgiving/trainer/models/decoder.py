"""The light decoder of the small nets: from the coarsest of some maps up to the finest, by nearest
upsampling, sums and separable convolutions, as in feature pyramids (Lin et al., CVPR 2017).

Axes: B batch, C channels, H W heatmap cells.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from misgiving.trainer.models.blocks import answer, conv_norm, conv_relu
from misgiving.trainer.pose import Level, PoseNet, PoseOutput


class Decoded(PoseNet):
    """A pose net that ends in this decoder; the pyramid is its scales, ``features`` the finest."""

    def __init__(self, widths: Sequence[int], inside: int, keypoints: int, size: int) -> None:
        """
        Args:
            widths: channels of the maps that ``decode`` gets, from the finest on.
            inside: channels of the decoder.
            keypoints: K.
            size: of the finest map in cells; each other one is half as large as the one before.
        """
        super().__init__(inside, [Level(inside, size >> scale) for scale in range(len(widths))])
        self.sideways = nn.ModuleList(conv_norm(width, inside) for width in widths)
        self.refine = nn.ModuleList(_separable(inside) for _ in widths)
        self.answer = answer(inside, keypoints)

    @property
    def read_out(self) -> nn.Conv2d:
        return self.answer

    def decode(self, maps: Sequence[Tensor]) -> PoseOutput:
        """Maps (B, C, H, W) from the finest to the coarsest → PoseOutput."""
        seen = [sideways(x) for sideways, x in zip(self.sideways, maps, strict=True)]
        pyramid = [self.refine[-1](seen[-1])]
        for features, refine in zip(seen[-2::-1], self.refine[-2::-1], strict=True):
            pyramid.append(refine(features + functional.interpolate(pyramid[-1], scale_factor=2.0)))
        return PoseOutput(self.answer(pyramid[-1])[:, None], pyramid[-1], tuple(pyramid[::-1]))


def _separable(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ReLU(),
        *conv_norm(channels, channels, 3, groups=channels),
        *conv_relu(channels, channels),
    )
