"""The pose net: shapes for each number of stacks and stride, and what depends on what."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from misgiving.trainer.models import PoseOutput
from misgiving.trainer.models.hourglass import Hourglass, Residual, StackedHourglass
from misgiving.trainer.net_config import HourglassConfig
from shared.training import TINY_MODEL

JOINTS = 5
TINY_NET = TINY_MODEL.net


def answer(
    config: HourglassConfig, size: int = 32, batch: int = 2
) -> tuple[StackedHourglass, PoseOutput]:
    torch.manual_seed(0)
    net = StackedHourglass(config, JOINTS, size)
    return net, net(torch.randn(batch, 3, size, size))


@pytest.mark.parametrize("stacks", [1, 2])
@pytest.mark.parametrize(
    ("size", "stride", "depth", "cells"),
    [
        (32, 2, 2, [16, 8, 4]),  # the tests' own
        (32, 4, 2, [8, 4, 2]),  # the paper's stride
        (32, 2, 4, [16, 8, 4, 2, 1]),  # down to one cell
        (24, 4, 1, [6, 3]),  # no power of two
    ],
)
def test_shapes(stacks: int, size: int, stride: int, depth: int, cells: list[int]) -> None:
    config = HourglassConfig(stacks=stacks, channels=8, depth=depth, stride=stride)
    net, output = answer(config, size)
    assert output.heatmaps.shape == (2, stacks, JOINTS, cells[0], cells[0])
    assert output.features.shape == (2, 8, cells[0], cells[0])
    # From fine to coarse.
    assert [tuple(f.shape) for f in output.pyramid] == [(2, 8, n, n) for n in cells]
    assert net.levels == tuple((8, n) for n in cells)


def test_a_batch_of_one() -> None:
    net, output = answer(TINY_NET, batch=1)
    assert output.heatmaps.shape == (1, 1, JOINTS, 16, 16)
    assert net.eval()(torch.zeros(1, 3, 32, 32)).heatmaps.shape == (1, 1, JOINTS, 16, 16)


def test_a_new_net_is_nearly_silent() -> None:
    """It starts where heatmaps nearly everywhere are: at zero."""
    _, output = answer(TINY_NET)
    assert float(output.heatmaps.detach().abs().max()) < 0.05
    assert float(output.heatmaps.detach().abs().max()) > 0  # but not dead


def test_features_and_pyramid_are_the_last_stack_s() -> None:
    """The second stack's answer is read from the features that the heads are given."""
    net, output = answer(replace(TINY_NET, stacks=2))
    torch.testing.assert_close(net.answers[1](output.features), output.heatmaps[:, 1])
    net.eval()
    with torch.no_grad():
        image = torch.randn(1, 3, 32, 32)
        before = net(image)
        for weights in net.hourglasses[1].parameters():
            weights.add_(0.1)
        after = net(image)
    torch.testing.assert_close(after.heatmaps[:, 0], before.heatmaps[:, 0])
    assert not torch.allclose(after.heatmaps[:, 1], before.heatmaps[:, 1])
    assert all(not torch.allclose(a, b) for a, b in zip(after.pyramid, before.pyramid, strict=True))


def test_the_second_stack_sees_the_first_one_s_answer() -> None:
    net, _ = answer(replace(TINY_NET, stacks=2))
    net.eval()
    with torch.no_grad():
        image = torch.randn(1, 3, 32, 32)
        before = net(image).heatmaps
        net.answers[0].bias += 1.0
        after = net(image).heatmaps
    torch.testing.assert_close(after[:, 0], before[:, 0] + 1.0)
    assert not torch.allclose(after[:, 1], before[:, 1])


@pytest.mark.parametrize("stacks", [1, 2])
def test_every_weight_of_the_pose_net_is_trained(stacks: int) -> None:
    net, output = answer(replace(TINY_NET, stacks=stacks))
    output.heatmaps.square().sum().backward()
    without = [name for name, p in net.named_parameters() if p.grad is None]
    assert without == []


def test_the_pyramid_is_read_before_upsampling() -> None:
    """The finest scale is the sum of its skip and the next one, enlarged."""
    torch.manual_seed(0)
    hourglass = Hourglass(8, depth=2).eval()
    x = torch.randn(1, 8, 16, 16)
    fine, middle, coarse = hourglass(x)
    assert (fine.shape[-1], middle.shape[-1], coarse.shape[-1]) == (16, 8, 4)
    enlarged = middle.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(fine, hourglass.skips[0](x) + enlarged)


@pytest.mark.parametrize(
    ("inputs", "outputs", "skip"),
    [(8, 8, nn.Identity), (8, 12, nn.Conv2d)],  # a projection only where the width changes
)
def test_residual(inputs: int, outputs: int, skip: type) -> None:
    block = Residual(inputs, outputs)
    assert isinstance(block.skip, skip)
    x = torch.randn(1, inputs, 6, 6)
    kept = x.clone()
    assert block(x).shape == (1, outputs, 6, 6)
    torch.testing.assert_close(x, kept)  # the first in-place ReLU works on the norm's output
