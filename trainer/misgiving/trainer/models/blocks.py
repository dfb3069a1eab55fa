"""What several pose nets are made of: convolutions with normalisation, and residual blocks."""

from torch import Tensor, nn


def conv_norm(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """A padded convolution and its normalisation."""
    conv = nn.Conv2d(
        inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False
    )
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


def conv_relu(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """A padded convolution, its normalisation and a rectifier."""
    return nn.Sequential(*conv_norm(inputs, outputs, kernel, stride, groups), nn.ReLU(inplace=True))


def answer(channels: int, keypoints: int) -> nn.Conv2d:
    """Heatmaps out of features."""
    # Heatmaps are nearly everywhere zero. Starting there saves the epochs in which a net would
    # only learn to be silent.
    conv = nn.Conv2d(channels, keypoints, 1)
    nn.init.normal_(conv.weight, std=1e-3)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


class Block(nn.Module):
    """A residual block of He et al. (CVPR 2016): ``width`` channels inside, ``width`` times the
    class's ``expansion`` behind it."""

    expansion: int

    def __init__(self, inputs: int, width: int, stride: int, *body: nn.Module) -> None:
        super().__init__()
        outputs = width * self.expansion
        same = inputs == outputs and stride == 1
        self.body = nn.Sequential(*body)
        self.skip = nn.Identity() if same else conv_norm(inputs, outputs, 1, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.skip(x) + self.body(x))
        return y


class Basic(Block):
    """Two 3 × 3 convolutions."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__(
            inputs, width, stride, conv_relu(inputs, width, 3, stride), conv_norm(width, width, 3)
        )


class Bottleneck(Block):
    """1 × 1, 3 × 3 and 1 × 1; the stride is the middle one's."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__(
            inputs,
            width,
            stride,
            conv_relu(inputs, width),
            conv_relu(width, width, 3, stride),
            conv_norm(width, width * self.expansion),
        )
