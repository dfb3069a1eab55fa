"""HRNet (Sun, Xiao, Liu & Wang, CVPR 2019): parallel branches that exchange all along.

Axes: B batch, C channels, K keypoints, H W heatmap cells.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from misgiving.trainer.models.blocks import Basic, Bottleneck, answer, conv_norm, conv_relu
from misgiving.trainer.net_config import HrnetConfig
from misgiving.trainer.pose import Level, PoseNet, PoseOutput

_STEM = 64
_BLOCKS = 4
"""Residual blocks of a branch in one module."""
_BRANCHES = 4


class Module(nn.Module):
    """Residual blocks in every branch, then the sum of all branches at each output's scale."""

    def __init__(self, widths: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(Basic(width, width) for _ in range(_BLOCKS))) for width in widths
        )
        self.fusions = nn.ModuleList(
            nn.ModuleList(_path(widths, source, target) for source in range(len(widths)))
            for target in range(outputs)
        )

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Maps, finest first → the branches' own, and the fused ones, ``outputs`` of them."""
        own = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        fused = []
        for fusion in self.fusions:
            assert isinstance(fusion, nn.ModuleList)
            arrived = [path(x) for path, x in zip(fusion, own, strict=True)]
            total = arrived[0]
            for x in arrived[1:]:
                total = total + x
            fused.append(torch.relu(total))
        return own, fused


def _path(widths: Sequence[int], source: int, target: int) -> nn.Module:
    """From one branch's scale to another's."""
    if source == target:
        return nn.Identity()
    if source > target:
        enlarged = nn.Upsample(scale_factor=2.0 ** (source - target))
        return nn.Sequential(*conv_norm(widths[source], widths[target]), enlarged)
    width = widths[source]
    halved = [conv_relu(width, width, 3, stride=2) for _ in range(target - source - 1)]
    return nn.Sequential(*halved, conv_norm(width, widths[target], 3, stride=2))


class Hrnet(PoseNet):
    """Image → heatmaps, from the finest branch after the last fusion; ``features`` is that map.

    The pyramid is what the four branches of the last module say before that fusion, which leaves
    only the first of them: the deepest maps of each scale that the net has, and all that the
    heatmaps are made of. (The paper authors' code gives its heads the maps that leave stage 3,
    before there is a fourth branch.)
    """

    def __init__(self, config: HrnetConfig, keypoints: int, input_size: int) -> None:
        widths = [config.width << branch for branch in range(_BRANCHES)]
        size = input_size // config.stride
        super().__init__(
            config.width, [Level(width, size >> branch) for branch, width in enumerate(widths)]
        )
        inside = _STEM * Bottleneck.expansion
        self.stem = nn.Sequential(
            conv_relu(3, _STEM, 3, stride=2),
            conv_relu(_STEM, _STEM, 3, stride=2),
            Bottleneck(_STEM, _STEM),
            *(Bottleneck(inside, _STEM) for _ in range(_BLOCKS - 1)),
        )
        self.first = conv_relu(inside, widths[0], 3)
        sources = [inside, *widths[1:-1]]
        self.births = nn.ModuleList(
            conv_relu(source, width, 3, stride=2)
            for source, width in zip(sources, widths[1:], strict=True)
        )
        self.stages = nn.ModuleList(
            _stage(widths[:branches], count, last=branches == _BRANCHES)
            for branches, count in enumerate(config.modules, 2)
        )
        self.answer = answer(config.width, keypoints)

    @property
    def read_out(self) -> nn.Conv2d:
        return self.answer

    def forward(self, image: Tensor) -> PoseOutput:
        """(B, 3, H, W) normalised → PoseOutput."""
        x = self.stem(image)
        maps = [self.first(x)]
        coarsest = x
        for birth, stage in zip(self.births, self.stages, strict=True):
            assert isinstance(stage, nn.ModuleList)
            maps = [*maps, birth(coarsest)]
            for module in stage:
                own, maps = module(maps)
            coarsest = maps[-1]
        heatmaps = self.answer(maps[0])
        return PoseOutput(heatmaps[:, None], maps[0], tuple(own))


def _stage(widths: Sequence[int], count: int, last: bool) -> nn.ModuleList:
    outputs = [len(widths)] * count
    if last:
        outputs[-1] = 1
    return nn.ModuleList(Module(widths, number) for number in outputs)
