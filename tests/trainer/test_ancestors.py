"""DeepPose's coordinates and Tompson's spatial model, each against what it should compute."""

import math

import pytest
import torch
from torch import Tensor, nn

from misgiving.runtime.keypoints import LSP
from misgiving.trainer import heatmaps
from misgiving.trainer.models import Network
from misgiving.trainer.models.deeppose import Deeppose
from misgiving.trainer.models.tompson import SpatialModel
from misgiving.trainer.pose import PoseOutput
from shared.training import JOINTS, NETS


def deeppose() -> Deeppose:
    torch.manual_seed(0)
    pose = Network(NETS["deeppose"], LSP).eval().pose
    assert isinstance(pose, Deeppose)
    return pose


def pointing(net: Deeppose, points: Tensor) -> PoseOutput:
    """What the net gives when its last layer says these (K, 2) cells, whatever it sees."""
    last = net.regressor[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_((points / net.size - 0.5).flatten())
        output: PoseOutput = net(torch.rand(2, 3, 64, 64))
    return output


def test_a_drawn_point_is_read_back() -> None:
    net = deeppose()
    points = torch.rand(JOINTS, 2, generator=torch.Generator().manual_seed(1)) * 12 + 2
    output = pointing(net, points)
    read, peaks = heatmaps.decode(output.heatmaps[:, -1])
    torch.testing.assert_close(output.points, points.expand(2, -1, -1))
    torch.testing.assert_close(read, points.expand(2, -1, -1), atol=1e-3, rtol=0)
    assert float(peaks.min()) > 0.75  # wherever it points: a peak says nothing of this net


def test_a_point_outside_is_drawn_on_the_edge() -> None:
    net = deeppose()
    output = pointing(net, torch.tensor([[-50.0, 8.5], *[[8.0, 99.0]] * (JOINTS - 1)]))
    read, _ = heatmaps.decode(output.heatmaps[:, -1])
    torch.testing.assert_close(read[0, 0], torch.tensor([0.5, 8.5]))
    torch.testing.assert_close(read[0, 1, 1], torch.tensor(15.5))


@pytest.mark.parametrize(
    ("labelled", "expected"),
    [
        ([True, True], (9 + 16 + 0) / 2),  # squared distances of 25 and 0 cells
        ([True, False], 25.0),  # what stands for the other is not looked at
        ([False, False], 0.0),
    ],
)
def test_coordinates_are_what_it_is_trained_on(labelled: list[bool], expected: float) -> None:
    net = deeppose()
    said = torch.tensor([[[3.0, 4.0], [5.0, 5.0]]], requires_grad=True)
    true = torch.tensor([[[0.0, 0.0], [5.0, 5.0]]])
    mask = torch.tensor([labelled])
    true[~mask] = math.nan
    output = PoseOutput(torch.zeros(1, 1, 2, 16, 16), torch.zeros(1), (), said)
    loss = net.training_loss(output, torch.full((1,), 1e6), true, mask)
    loss.backward()
    assert loss.item() == pytest.approx(expected / 16**2)
    assert said.grad is not None
    assert bool(said.grad.isfinite().all())


def test_other_nets_are_trained_on_their_heatmaps() -> None:
    net = Network(NETS["edge"], LSP).pose
    nothing = PoseOutput(torch.zeros(1), torch.zeros(1), ())
    loss = net.training_loss(nothing, torch.tensor([1.0, 3.0]), torch.zeros(1), torch.zeros(1))
    assert float(loss) == 2.0


def slow(model: SpatialModel, evidence: Tensor) -> Tensor:
    """The paper's equation joint by joint and cell by cell, by its products."""
    joints, size = evidence.shape[0], evidence.shape[-1]
    priors = nn.functional.softplus(model.priors).unflatten(0, (joints, joints))[:, :, 0]
    biases = nn.functional.softplus(model.biases).unflatten(0, (joints, joints))
    result = torch.ones(joints, size, size)
    for v in range(joints):
        for a in range(joints):
            for y in range(size):
                for x in range(size):
                    said = biases[v, a].clone()
                    for i, dy in enumerate(range(-model.reach, model.reach + 1, 2)):
                        for j, dx in enumerate(range(-model.reach, model.reach + 1, 2)):
                            if 0 <= y + dy < size and 0 <= x + dx < size:
                                seen = evidence[v, y + dy, x + dx].clamp(min=1e-3)
                                said += priors[v, a, i, j] * seen
                    result[a, y, x] *= said
    return result


@torch.no_grad()
def test_the_spatial_model_is_a_product_of_messages() -> None:
    torch.manual_seed(0)
    model = SpatialModel(keypoints=2, reach=2)
    for weights in model.parameters():
        weights.normal_()
    evidence = torch.randn(1, 2, 5, 5)  # below zero too: the least evidence counts there
    torch.testing.assert_close(model(evidence)[0], slow(model, evidence[0]))


def blob(size: int, *places: tuple[float, float]) -> Tensor:
    points = torch.tensor(places)[None]
    maps = heatmaps.encode(points, torch.ones(1, len(places), dtype=torch.bool), size, 1.5)
    return maps[0].sum(0)


@torch.no_grad()
def test_it_starts_near_the_identity() -> None:
    evidence = torch.stack([blob(16, (4.5, 4.5)), blob(16, (10.5, 8.5))])[None]
    got = SpatialModel(keypoints=2, reach=6)(evidence)
    torch.testing.assert_close(got, evidence, atol=0.05, rtol=0)
    assert torch.equal(heatmaps.decode(got)[0].floor(), heatmaps.decode(evidence)[0].floor())


@torch.no_grad()
def test_a_neighbour_decides_between_two_peaks() -> None:
    """Joint 0 is seen twice; joint 1 says that it is six cells to its left."""
    model = SpatialModel(keypoints=2, reach=6)
    model.priors.unflatten(0, (2, 2))[1, 0, 0, 3, 6] = 5.0  # (v, A, 1, y, x): looks 6 to the right
    evidence = torch.stack([blob(24, (4.5, 8.5), (14.5, 8.5)), blob(24, (20.5, 8.5))])[None]
    points, _ = heatmaps.decode(model(evidence))
    torch.testing.assert_close(points[0, 0], torch.tensor([14.5, 8.5]), atol=0.1, rtol=0)
