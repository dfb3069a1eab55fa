"""A torch module becomes a foreign net, and stays what it was."""

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from misgiving.export import net_of_module
from misgiving.runtime.errors import InvalidInput
from misgiving.trainer import NetFile, keypoints_named


def module() -> nn.Sequential:
    """In training mode, with a batch normalisation that any pass in that mode would change."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, 4, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 14, 1)
    return nn.Sequential(*layers)


class WithSpare(nn.Sequential):
    """Has a layer, 4, that it never runs, as one for training alone."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers, nn.Identity())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        for layer in list(self)[:-1]:
            image = layer(image)
        return image


def traced(network: nn.Module, *taps: str) -> NetFile:
    return net_of_module(
        network,
        name="mine",
        taps=taps,
        output={"family": "heatmaps", "heatmaps": "output0"},
        keypoints=keypoints_named("lsp14"),
        height=32,
        width=24,
        mean=(0, 0, 0),
        std=(255, 255, 255),
    )


def test_the_net_says_what_the_module_says() -> None:
    network = module()
    before = {name: value.clone() for name, value in network.state_dict().items()}

    net = traced(network, "2")

    image = torch.rand(2, 3, 32, 24)
    said = ort.InferenceSession(net.content).run(["output0", "2"], {"image": image.numpy()})
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    with torch.no_grad():
        tapped = network.eval()[:3](image)
        wanted = network[3](tapped)
    np.testing.assert_allclose(said[0], wanted.numpy(), atol=1e-5)
    np.testing.assert_allclose(said[1], tapped.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("taps", "message"),
    [
        (["nine"], "taps has 'nine'; expected names of submodules, for example 0, 1, 2, 3, 4"),
        (["4"], "tap '4' is never run; expected a submodule that is"),
        ([], "taps has ''; expected names of submodules"),
    ],
)
def test_taps_that_are_not_there(taps: list[str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        traced(WithSpare(*module()), *taps)


class Undecided(nn.Sequential):
    """Asks its pixels which way to go, which no graph can."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = super().forward(image)
        return found if bool(found.sum() > 0) else -found


def test_what_cannot_be_traced_is_said_in_one_line() -> None:
    with pytest.raises(InvalidInput, match=r"^mine cannot be traced: [^\n]*; expected a module"):
        traced(Undecided(*module()), "2")
