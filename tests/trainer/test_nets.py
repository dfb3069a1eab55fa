"""All pose nets: what each gives, that each trains, is saved, and has its papers' size."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.keypoints import LSP
from misgiving.trainer.checkpoint import Record, load_checkpoint, save_checkpoint
from misgiving.trainer.config import HeadConfig, Recipe
from misgiving.trainer.data.crops import load_crops
from misgiving.trainer.fit import EpochLog, fit
from misgiving.trainer.models import Network, PoseNet, PoseOutput
from misgiving.trainer.models.network import make_pose_net
from misgiving.trainer.models.resnet import Resnet
from misgiving.trainer.recipes import RECIPES
from shared.training import JOINTS, NETS, STILL, TINY, people

by_net = pytest.mark.parametrize("name", NETS)


def tiny(name: str) -> Network:
    torch.manual_seed(0)
    return Network(NETS[name], LSP)


def images(net: Network, batch: int = 2) -> Tensor:
    size = net.config.input_size
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(1)) * 255


def answer(net: Network, batch: int = 2) -> PoseOutput:
    with torch.no_grad():
        return net.eval()(images(net, batch)).pose


@by_net
@pytest.mark.parametrize("batch", [1, 2])
def test_shapes(name: str, batch: int) -> None:
    net = tiny(name)
    output = answer(net, batch)
    cells, stacks = net.config.heatmap_size, 2 if name == "tompson" else 1
    assert output.heatmaps.shape == (batch, stacks, JOINTS, cells, cells)
    assert output.features.shape[:2] == (batch, net.pose.channels)
    shapes = [tuple(features.shape) for features in output.pyramid]
    assert shapes == [(batch, c, size, size) for c, size in net.pose.levels]
    sizes = [size for _, size in net.pose.levels]
    assert sizes == sorted(set(sizes), reverse=True)  # finest first, strictly falling
    assert sizes[0] == cells


@by_net
def test_channels_last_is_only_a_layout(name: str) -> None:
    net = tiny(name)
    expected = answer(net)
    got = answer(net.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
    torch.testing.assert_close(got.heatmaps, expected.heatmaps, rtol=1e-3, atol=1e-4)


def trained(recipe: Recipe, epochs: int, count: int) -> tuple[Network, list[EpochLog]]:
    torch.manual_seed(0)
    network = Network(recipe.model, LSP)
    crops = load_crops(people(1, 48), recipe.model.crop, torch.device("cpu"), range(count))
    logs: list[EpochLog] = []
    fit(network, recipe, crops, epochs, logs.append)
    return network, logs


@by_net
def test_one_step_changes_every_weight(name: str) -> None:
    """By its gradient: without weight decay."""
    recipe = replace(TINY, model=NETS[name], fit=replace(TINY.fit, weight_decay=0.0))
    network, _ = trained(recipe, epochs=1, count=8)
    before, after = tiny(name).pose.state_dict(), network.pose.state_dict()
    assert [key for key in before if torch.equal(before[key], after[key])] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hrnet", "resnet", "edge", "deeppose", "tompson"])
def test_it_learns(name: str) -> None:
    """Eight people, on the way to knowing them by heart."""
    recipe = replace(TINY, model=NETS[name], fit=replace(TINY.fit, batch_size=4), augment=STILL)
    _, logs = trained(recipe, epochs=20, count=8)
    assert logs[-1].pose_loss < 0.85 * logs[0].pose_loss
    assert logs[-1].pck > logs[0].pck + 0.1


@by_net
def test_it_survives_its_checkpoint(name: str, tmp_path: Path) -> None:
    net = tiny(name)
    record = Record(
        keypoints=LSP, training_data=(), label_count=0, validation_data="", metrics={}, commit=""
    )
    save_checkpoint(tmp_path / "c", net, replace(TINY, model=NETS[name]), record)
    loaded, recipe, _ = load_checkpoint(tmp_path / "c")
    assert recipe.model == NETS[name]
    assert torch.equal(answer(loaded).heatmaps, answer(net).heatmaps)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("name", "count", "published"),
    [
        # Sun et al., table 1; Xiao et al. in the same table
        ("hrnet-w32", 28_536_113, 28.5),
        ("hrnet-w48", 63_595_745, 63.6),
        ("resnet-50", 33_999_697, 34.0),
    ],
)
def test_parameters_of_the_papers(name: str, count: int, published: float) -> None:
    """With COCO's 17 joints; the papers print millions to one decimal."""
    with torch.device("meta"):
        net = make_pose_net(RECIPES[name].model, 17)
    assert parameters(net) == count
    assert round(count / 1e6, 1) == published


@pytest.mark.parametrize(
    ("layers", "published"),
    [  # torchvision's, less the 1000 classes' layer
        (18, 11_689_512 - 513_000),
        (34, 21_797_672 - 513_000),
        (50, 25_557_032 - 2_049_000),
        (101, 44_549_160 - 2_049_000),
    ],
)
def test_parameters_of_the_backbones(layers: int, published: int) -> None:
    with torch.device("meta"):
        assert parameters(Resnet(layers, 64)) == published


def gmac(network: Network, size: int) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, size, size, device="meta"))
    return counter.get_total_flops() / 2e9


@pytest.mark.parametrize("kind", ["conv", "gap"])
def test_the_edge_net_is_small(kind: str) -> None:
    """With either head: at most 1.2 M parameters and 0.5 GMAC."""
    model = RECIPES["edge"].model
    head = HeadConfig(kind=kind, objective="kl")
    assert head in model.heads
    with torch.device("meta"):
        network = Network(replace(model, heads=(head,)), LSP).eval()
    assert parameters(network) <= 1_200_000
    assert 0.1 < gmac(network, model.input_size) <= 0.5


def leaves(net: PoseNet) -> Iterator[nn.Module]:
    return (module for module in net.modules() if not list(module.children()))


def test_the_edge_net_has_plain_parts() -> None:
    """That ONNX Runtime, TensorRT and their int8 forms know."""
    with torch.device("meta"):
        net = make_pose_net(RECIPES["edge"].model, 14)
    assert {type(module) for module in leaves(net)} == {
        nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Identity,
    }  # fmt: skip


def test_hrnet_reads_its_heatmaps_from_the_pyramid() -> None:
    """The last fusion of the four branches is what the answer is read from."""
    net = tiny("hrnet")
    output = answer(net)
    (paths,) = net.pose.stages[-1][-1].fusions
    with torch.no_grad():
        arrived = [path(x) for path, x in zip(paths, output.pyramid, strict=True)]
        torch.testing.assert_close(output.features, torch.relu(sum(arrived)))
        torch.testing.assert_close(output.heatmaps[:, 0], net.pose.answer(output.features))


@pytest.mark.parametrize("name", ["resnet", "edge"])
def test_heatmaps_are_read_from_the_finest_scale(name: str) -> None:
    net = tiny(name)
    output = answer(net)
    assert output.features is output.pyramid[0]
    with torch.no_grad():
        torch.testing.assert_close(output.heatmaps[:, 0], net.pose.answer(output.features))


@by_net
def test_the_read_out_makes_the_heatmaps(name: str) -> None:
    """Of the features; two nets make theirs otherwise, and say so."""
    network = Network(NETS[name], LSP).eval()
    with torch.no_grad():
        pose = network.pose(torch.randn(1, 3, NETS[name].input_size, NETS[name].input_size))
        if name in ("deeppose", "tompson"):
            with pytest.raises(InvalidInput, match="does not read its heatmaps from its features"):
                network.pose.read_out  # noqa: B018
            return
        maps = network.pose.read_out(pose.features)
    torch.testing.assert_close(maps, pose.heatmaps[:, -1])
