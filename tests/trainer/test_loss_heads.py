"""The heads: the sizes of METHOD's section 2, what they read, and what they leave alone."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from misgiving.runtime.keypoints import LSP
from misgiving.trainer.config import HeadConfig
from misgiving.trainer.heads.loss_heads import ConvHead, EvidenceHead, GapHead, make_head
from misgiving.trainer.models import Level, Network, PoseNet, PoseOutput
from misgiving.trainer.models.network import make_pose_net
from misgiving.trainer.recipes import RECIPES
from shared.training import CONV_KL, GAP_MARGIN, JOINTS, TINY_MODEL

PAPER = RECIPES["paper"].model
KINDS = ["gap", "conv", "levels", "evidence"]


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("gap", 43_905),  # 256 → 128-64-32-16-8 → 1
        ("conv", 2_142_337),  # four 2 × 2 reductions, one 4 × 4 convolution, and the same
        ("levels", 165_121),  # five times 256 → 128, and 640 → 1
    ],
)
def test_parameters_of_the_paper(kind: str, parameters: int) -> None:
    pyramid = [Level(256, size) for size in (64, 32, 16, 8, 4)]
    with torch.device("meta"):
        head = make_head(HeadConfig(kind=kind, objective="kl"), PoseNet(256, pyramid), JOINTS)
        assert list(make_pose_net(PAPER, 14).levels) == pyramid
    assert sum(p.numel() for p in head.parameters()) == parameters


def pyramid(channels: int, *sizes: int) -> PoseNet:
    """A pose net as far as heads know it."""
    return PoseNet(channels, [Level(channels, size) for size in sizes])


TINY_NET = pyramid(16, 16, 8, 4)


def features(net: PoseNet, batch: int, seed: int = 0) -> PoseOutput:
    """What such a pose net would give."""
    generator = torch.Generator().manual_seed(seed)
    size = net.levels[0].size

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return PoseOutput(
        draw(batch, 1, JOINTS, size, size),
        draw(batch, net.channels, size, size),
        tuple(draw(batch, level.channels, level.size, level.size) for level in net.levels),
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize(
    "net",
    [
        TINY_NET,  # ends at 4 × 4 cells
        pyramid(8, 16, 8, 4, 2, 1),  # ends at 1 × 1
        pyramid(8, 24, 12),  # ends at 12 × 12, which is halved before it is collapsed
        pyramid(8, 17, 8),  # the ratio is no whole number
        pyramid(8, 16, 10, 4),  # a ratio below 2, and a rest after it
        PoseNet(6, [Level(8, 16), Level(12, 8), Level(20, 4)]),  # widths that differ
        PoseNet(6, [Level(8, 4), Level(520, 2)]),  # wider than the head takes as it is
        pyramid(8, 8),  # a single scale
    ],
)
def test_one_number_an_image(kind: str, batch: int, net: PoseNet) -> None:
    head = make_head(HeadConfig(kind=kind, objective="kl"), net, JOINTS).eval()
    assert head(features(net, batch)).shape == (batch, 1)


@pytest.mark.parametrize(
    ("fine", "coarse", "kernels"),
    [
        (64, 32, [(2, 2)]),  # the ratio divides: stride = kernel = ratio
        (64, 16, [(4, 4)]),  # scales may be left out
        (24, 10, [(2, 2), (3, 1)]),  # 2.4: halved to 12, and 3 × 3 without stride takes off 2
        (9, 4, [(2, 2)]),  # 2.25: the stride leaves the last row and column out
        (10, 7, [(1, 1), (4, 1)]),  # 1.4
    ],
)
def test_the_paper_s_rule(fine: int, coarse: int, kernels: list[tuple[int, int]]) -> None:
    head = ConvHead(pyramid(8, fine, coarse))
    (reduction,) = head.reductions
    convolutions = [m for m in reduction.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.kernel_size[0], c.stride[0]) for c in convolutions] == kernels
    assert reduction(torch.zeros(1, 8, fine, fine)).shape == (1, 8, coarse, coarse)


def test_a_head_is_smaller_than_its_net() -> None:
    """Also where the last map has 2048 channels."""
    with torch.device("meta"):
        network = Network(RECIPES["resnet-50"].model, LSP)
    assert sum(p.numel() for p in network.heads["conv-kl"].parameters()) < 8_000_000


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("outputs", "narrowest"),
    [
        (1, 8),  # the paper's
        (14, 16),  # a joint each: as the authors', without the layer of 8
        (38, 64),  # two for each of COCO's links
        (200, None),  # more than any layer: linear
    ],
)
def test_several_numbers_an_image(kind: str, outputs: int, narrowest: int | None) -> None:
    head = make_head(HeadConfig(kind=kind, objective="links"), TINY_NET, JOINTS, outputs).eval()
    assert head(features(TINY_NET, 3)).shape == (3, outputs)
    if kind in ("gap", "conv"):
        widths = [m.out_features for m in head.regressor.modules() if isinstance(m, nn.Linear)]
        assert widths[-1] == outputs
        assert min(widths[:-1], default=None) == narrowest


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_a_batch_do_not_mix(kind: str) -> None:
    head = make_head(HeadConfig(kind=kind, objective="kl"), TINY_NET, JOINTS).eval()
    pose = features(TINY_NET, 3)
    alone = [
        head(PoseOutput(pose.heatmaps[i : i + 1], pose.features[i : i + 1], _rows(pose, i)))
        for i in range(3)
    ]
    torch.testing.assert_close(head(pose), torch.cat(alone))


def _rows(pose: PoseOutput, index: int) -> tuple[Tensor, ...]:
    return tuple(scale[index : index + 1] for scale in pose.pyramid)


def sensitivity(kind: str) -> tuple[float, list[float]]:
    """Gradient of the answer with respect to the features, and to each scale of the pyramid."""
    torch.manual_seed(0)
    head = make_head(HeadConfig(kind=kind, objective="kl"), TINY_NET, JOINTS).eval()
    for weights in head.parameters():
        torch.nn.init.uniform_(weights, 0.01, 0.1)  # no dead ReLU
    pose = features(TINY_NET, 2)
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
    head = GapHead(TINY_NET)
    pose = features(TINY_NET, 2)
    shuffled = pose._replace(features=pose.features.flatten(2).flip(2).view_as(pose.features))
    torch.testing.assert_close(head(pose), head(shuffled))


@pytest.mark.parametrize("kind", ["conv", "levels", "evidence"])
def test_these_heads_read_every_scale(kind: str) -> None:
    features_amount, scales = sensitivity(kind)
    assert features_amount == 0.0
    assert all(amount > 0 for amount in scales)


def test_evidence_sees_peaks_places_averages_and_maxima() -> None:
    """Each changes the answer alone; where all joints move together, nothing has happened."""
    torch.manual_seed(0)
    head = EvidenceHead(TINY_NET, 1, JOINTS).eval()
    pose = features(TINY_NET, 2)
    spots = torch.zeros(2, 1, JOINTS, 16, 16)
    for joint in range(JOINTS):
        spots[:, 0, joint, 4 + joint % 3, 3 + joint // 3] = 0.5
    here = pose._replace(heatmaps=spots)
    answer = head(here)
    torch.testing.assert_close(head(here._replace(heatmaps=spots.roll((2, 3), (3, 4)))), answer)
    one = spots.clone()
    one[:, 0, 0] = one[:, 0, 0].roll(1, 2)
    fine, *rest = pose.pyramid
    turned = fine.flatten(2).flip(2).view_as(fine)
    torch.testing.assert_close(head(here._replace(pyramid=(turned, *rest))), answer)
    spike = fine.clone()
    spike[:, 0, 0, 0] += 9
    spike[:, 0, 1:, :] -= 9 / (15 * 16)  # the same average
    for other in (
        here._replace(heatmaps=spots * 0.5),
        here._replace(heatmaps=one),
        here._replace(pyramid=(fine + 1, *rest)),
        here._replace(pyramid=(spike, *rest)),
    ):
        assert ((head(other) - answer).abs() > 1e-4).all()


def test_a_scale_is_added_after_the_rectifier() -> None:
    """x ← ReLU(conv(x)) + f: with convolutions of zeros, only the coarsest scale is left."""
    head = ConvHead(TINY_NET)
    for reduction in head.reductions:
        torch.nn.init.zeros_(reduction[0].weight)
        torch.nn.init.constant_(reduction[0].bias, -1.0)
    pose = features(TINY_NET, 2)
    expected = head.regressor(head.collapse(pose.pyramid[-1]).flatten(1))
    torch.testing.assert_close(head(pose), expected)


def tiny_network(**changes: object) -> Network:
    torch.manual_seed(0)
    return Network(replace(TINY_MODEL, **changes), LSP)


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
        torch.testing.assert_close(predicted, network.heads[name](output.pose)[:, 0])


def test_the_paper_s_recipe_in_miniature() -> None:
    """All four heads on two stacks at 256 px: every shape of the paper but the width."""
    config = replace(PAPER, net=replace(PAPER.net, channels=8))
    network = Network(config, LSP).eval()
    with torch.no_grad():
        output = network(torch.zeros(1, 3, 256, 256))
    assert output.pose.heatmaps.shape == (1, 2, 14, 64, 64)
    assert output.pose.features.shape == (1, 8, 64, 64)
    assert [tuple(f.shape[2:]) for f in output.pose.pyramid] == [
        (64, 64), (32, 32), (16, 16), (8, 8), (4, 4),
    ]  # fmt: skip
    assert list(output.predicted_losses) == [
        "evidence-miss",
        "conv-kl",
        "conv-margin",
        "gap-kl",
        "gap-margin",
    ]
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
    network = tiny_network()
    network.pose, network.projection = pyramid(channels, 16, 8), _projected(channels)
    pose = features(network.pose, 3)
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
