"""The heads: the sizes of METHOD's section 2, what they read, and what they leave alone."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from export.helpers import CONV_KL, GAP_MARGIN, JOINTS, TINY_MODEL
from misgiving.runtime.keypoints import LSP
from misgiving.trainer.config import HeadConfig, ModelConfig
from misgiving.trainer.loss_heads import ConvHead, GapHead, make_head
from misgiving.trainer.models import Network, PoseOutput
from misgiving.trainer.recipes import RECIPES

PAPER = RECIPES["paper"].model
KINDS = ["gap", "conv"]


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("gap", 43_905),  # 256 → 128-64-32-16-8 → 1
        ("conv", 2_142_337),  # four 2 × 2 reductions, one 4 × 4 convolution, and the same
    ],
)
def test_parameters_of_the_paper(kind: str, parameters: int) -> None:
    assert (PAPER.channels, PAPER.heatmap_size, PAPER.depth) == (256, 64, 4)
    with torch.device("meta"):
        head = make_head(HeadConfig(kind=kind, objective="kl"), PAPER)
    assert sum(p.numel() for p in head.parameters()) == parameters


def features(config: ModelConfig, batch: int, seed: int = 0) -> PoseOutput:
    """What a pose net of this configuration would give."""
    generator = torch.Generator().manual_seed(seed)
    size = config.heatmap_size

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return PoseOutput(
        draw(batch, config.stacks, JOINTS, size, size),
        draw(batch, config.channels, size, size),
        tuple(draw(batch, config.channels, size >> i, size >> i) for i in range(config.depth + 1)),
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize(
    "config",
    [
        TINY_MODEL,  # ends at 4 × 4 cells
        replace(TINY_MODEL, depth=4),  # ends at 1 × 1
        replace(TINY_MODEL, input_size=96, stride=4, depth=1),  # ends at 12 × 12
    ],
)
def test_one_number_an_image(kind: str, batch: int, config: ModelConfig) -> None:
    head = make_head(HeadConfig(kind=kind, objective="kl"), config)
    assert head(features(config, batch)).shape == (batch,)


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_a_batch_do_not_mix(kind: str) -> None:
    head = make_head(HeadConfig(kind=kind, objective="kl"), TINY_MODEL).eval()
    pose = features(TINY_MODEL, 3)
    alone = [
        head(PoseOutput(*(part[i : i + 1] for part in pose[:2]), _rows(pose, i))) for i in range(3)
    ]
    torch.testing.assert_close(head(pose), torch.cat(alone))


def _rows(pose: PoseOutput, index: int) -> tuple[Tensor, ...]:
    return tuple(scale[index : index + 1] for scale in pose.pyramid)


def sensitivity(kind: str) -> tuple[float, list[float]]:
    """Gradient of the answer with respect to the features, and to each scale of the pyramid."""
    torch.manual_seed(0)
    head = make_head(HeadConfig(kind=kind, objective="kl"), TINY_MODEL)
    for weights in head.parameters():
        torch.nn.init.uniform_(weights, 0.01, 0.1)  # no dead ReLU
    pose = features(TINY_MODEL, 2)
    leaves = [
        pose.features.abs().requires_grad_(),
        *(s.abs().requires_grad_() for s in pose.pyramid),
    ]
    head(PoseOutput(pose.heatmaps, leaves[0], tuple(leaves[1:]))).sum().backward()
    amounts = [0.0 if leaf.grad is None else float(leaf.grad.abs().sum()) for leaf in leaves]
    return amounts[0], amounts[1:]


def test_the_gap_head_reads_the_pooled_features_only() -> None:
    features_amount, scales = sensitivity("gap")
    assert features_amount > 0
    assert scales == [0.0, 0.0, 0.0]
    head = GapHead(TINY_MODEL)
    pose = features(TINY_MODEL, 2)
    shuffled = pose._replace(features=pose.features.flatten(2).flip(2).view_as(pose.features))
    torch.testing.assert_close(head(pose), head(shuffled))


def test_the_conv_head_reads_every_scale() -> None:
    features_amount, scales = sensitivity("conv")
    assert features_amount == 0.0
    assert all(amount > 0 for amount in scales)


def test_a_scale_is_added_after_the_rectifier() -> None:
    """x ← ReLU(conv(x)) + f: with convolutions of zeros, only the coarsest scale is left."""
    head = ConvHead(TINY_MODEL)
    for reduction in head.reductions:
        torch.nn.init.zeros_(reduction.weight)
        torch.nn.init.constant_(reduction.bias, -1.0)
    pose = features(TINY_MODEL, 2)
    expected = head.regressor(torch.relu(head.collapse(pose.pyramid[-1]))[:, :, 0, 0])[:, 0]
    torch.testing.assert_close(head(pose), expected)


def tiny_network(**changes: object) -> Network:
    torch.manual_seed(0)
    return Network(replace(TINY_MODEL, **changes), LSP)  # type: ignore[arg-type]


def test_no_gradient_of_a_head_reaches_the_pose_net() -> None:
    network = tiny_network()
    output = network(torch.rand(4, 3, 32, 32) * 255)
    for name, predicted in output.predicted_losses.items():
        network.zero_grad(set_to_none=True)
        predicted.sum().backward(retain_graph=True)
        assert all(p.grad is None for p in network.pose.parameters()), name
        own = [p.grad for p in network.heads[name].parameters()]
        assert all(gradient is not None for gradient in own), name
    assert output.pose.heatmaps.requires_grad


def test_each_head_answers_under_its_own_name() -> None:
    network = tiny_network(heads=(GAP_MARGIN, CONV_KL)).eval()
    output = network(torch.rand(2, 3, 32, 32) * 255)
    assert list(output.predicted_losses) == ["gap-margin", "conv-kl"]  # the first is exported
    for name, predicted in output.predicted_losses.items():
        torch.testing.assert_close(predicted, network.heads[name](output.pose))


def test_the_paper_s_recipe_in_miniature() -> None:
    """All four heads on two stacks at 256 px: every shape of the paper but the width."""
    config = replace(PAPER, channels=8)
    network = Network(config, LSP).eval()
    with torch.no_grad():
        output = network(torch.zeros(1, 3, 256, 256))
    assert output.pose.heatmaps.shape == (1, 2, 14, 64, 64)
    assert output.pose.features.shape == (1, 8, 64, 64)
    assert [tuple(f.shape[2:]) for f in output.pose.pyramid] == [
        (64, 64), (32, 32), (16, 16), (8, 8), (4, 4),
    ]  # fmt: skip
    assert list(output.predicted_losses) == ["conv-kl", "conv-margin", "gap-kl", "gap-margin"]
    assert all(p.shape == (1,) for p in output.predicted_losses.values())


def test_normalisation_is_the_network_s_own() -> None:
    network = tiny_network()
    mean = network.mean.expand(1, 3, 4, 4)
    assert float(network.normalise(mean).abs().max()) < 1e-6
    one_off = network.normalise(mean + network.std)
    torch.testing.assert_close(one_off, torch.ones(1, 3, 4, 4))
    # Red, green and blue in that order, in 0–255.
    assert network.mean.flatten().tolist() == pytest.approx([123.7, 116.3, 103.5], abs=0.1)


@pytest.mark.parametrize(
    ("channels", "size"),
    [
        (16, 16),  # the pooled features themselves
        (128, 128),  # the widest that goes as it is
        (160, 128),  # projected
    ],
)
def test_embedding(channels: int, size: int) -> None:
    with torch.device("meta"):
        pose_net = Network(replace(TINY_MODEL, channels=channels), LSP)
    network = tiny_network()
    network.config, network.projection = pose_net.config, _projected(channels)
    pose = features(pose_net.config, 3)
    embedding = network.embed(pose)
    assert embedding.shape == (3, size)
    pooled = pose.features.mean(dim=(2, 3))
    if channels <= 128:
        torch.testing.assert_close(embedding, pooled)
    else:  # distances survive, roughly
        ratio = torch.pdist(embedding) / torch.pdist(pooled)
        assert 0.75 < float(ratio.min()) <= float(ratio.max()) < 1.25


def _projected(channels: int) -> Tensor:
    from misgiving.trainer.models.network import _projection

    first, second = _projection(channels), _projection(channels)
    assert torch.equal(first, second)  # the same in every process, whatever was drawn before
    return first
