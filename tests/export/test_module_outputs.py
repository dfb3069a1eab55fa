"""A torch module as a foreign net with heads on it: what it may give, and its taps."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from misgiving.export.module import net_of_module
from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.keypoints import LSP
from misgiving.trainer.checkpoint import load_checkpoint
from misgiving.trainer.foreign.net_file import NetFile
from shared.foreign import attached

MAPS = {"family": "heatmaps", "heatmaps": "output0"}


class Tiny(nn.Module):
    """Heatmaps at a quarter, after BatchNorm; ``how`` says in what they come."""

    def __init__(self, how: str = "tensor") -> None:
        super().__init__()
        self.how = how
        self.fine = nn.Sequential(nn.Conv2d(3, 4, 3, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.coarse = nn.Sequential(nn.Conv2d(4, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.maps = nn.Conv2d(4, len(LSP), 1)

    def forward(self, image: Tensor) -> object:
        fine = self.fine(image)
        coarse = self.coarse(fine)
        maps = self.maps(fine) + coarse.mean((1, 2, 3), keepdim=True)
        kinds: dict[str, object] = {
            "tensor": maps,
            "tuple": (coarse, maps),
            "dict": {"heat": maps, "aside": coarse},
            "text": "none",
        }
        return kinds[self.how]


def net_of(module: nn.Module, output: Mapping[str, Any], *taps: str) -> NetFile:
    return net_of_module(
        module,
        name="tiny",
        taps=taps or ("fine", "coarse"),
        output=output,
        keypoints=LSP,
        height=32,
        width=32,
        mean=(127.5, 127.5, 127.5),
        std=(64.0, 64.0, 64.0),
    )


def test_the_module_stays_as_it_is(tmp_path: Path) -> None:
    """Its statistics, flags and gradients; and what the heads read is what it says frozen."""
    torch.manual_seed(1)
    module = Tiny().train()
    module.fine[1].eval()
    before = copy.deepcopy(module.state_dict())
    net = net_of(module, MAPS)
    trained = attached(tmp_path / "run", net)
    assert [part.training for part in (module, module.fine[1], module.coarse[1])] == [1, 0, 1]
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert all(weight.grad is None and weight.requires_grad for weight in module.parameters())
    assert not module.fine._forward_hooks
    assert [tap.name for tap in trained.recipe.model.net.taps] == ["fine", "coarse"]
    session = ort.InferenceSession(net.content)
    image = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        frozen = copy.deepcopy(module).eval()
        expected = frozen(image), frozen.fine(image), frozen.coarse(frozen.fine(image))
    got = session.run(None, {"image": image.numpy()})
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=1e-5)
    again = load_checkpoint(tmp_path / "run")[0]
    assert list(again.heads) == ["evidence-miss"]


@pytest.mark.parametrize(
    ("how", "heatmaps"), [("tensor", "output0"), ("tuple", "output1"), ("dict", "heat")]
)
def test_outputs_by_place_or_name(tmp_path: Path, how: str, heatmaps: str) -> None:
    torch.manual_seed(1)
    trained = attached(tmp_path / "run", net_of(Tiny(how), {**MAPS, "heatmaps": heatmaps}))
    assert trained.validation.points.shape == (8, len(LSP), 2)


@pytest.mark.parametrize(
    ("how", "taps", "message"),
    [
        ("tensor", ("layer9",), r"taps has 'layer9'; expected names of submodules, for example fi"),
        ("text", ("fine",), "the module gives str; expected a tensor, or several as"),
    ],
)
def test_what_does_not_fit(how: str, taps: tuple[str, ...], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        net_of(Tiny(how), MAPS, *taps)


class Bent(Tiny):
    """With a part that gives no map."""

    def __init__(self, gives: str) -> None:
        super().__init__()
        self.part = Part(gives)

    def forward(self, image: Tensor) -> object:
        self.part(image)
        return super().forward(image)


class Part(nn.Module):
    def __init__(self, gives: str) -> None:
        super().__init__()
        self.gives = gives

    def forward(self, image: Tensor) -> object:
        return image.mean((2, 3)) if self.gives == "row" else (image, image)


@pytest.mark.parametrize("gives", ["row", "tuple"])
def test_a_tap_that_is_no_map(gives: str) -> None:
    with pytest.raises(InvalidInput, match=r"tap 'part' gives no \(B, C, h, w\); expected one"):
        net_of(Bent(gives), MAPS, "part")
