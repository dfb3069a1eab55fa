"""Heatmaps: the round trip, the loss in the paper's units, the free scores against slow code."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from misgiving.trainer import heatmaps

SIZE, SIGMA = 64, 1.75
ABSENT = 900 * math.pi * SIGMA**2 / SIZE**2
"""2.114: what a joint costs that the network leaves out."""


def encode(*points: tuple[float, float], size: int = SIZE, sigma: float = SIGMA) -> Tensor:
    """One image whose joints lie at these places: (1, K, size, size)."""
    labelled = torch.ones(1, len(points), dtype=torch.bool)
    return heatmaps.encode(torch.tensor([points]), labelled, size, sigma)


@pytest.mark.parametrize("sigma", [1.0, 1.25, 1.75])
def test_decode_undoes_encode(sigma: float) -> None:
    """Everywhere but in the outermost cells, to a thousandth of a cell."""
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.uniform(1.0, SIZE - 1.0, (5, 40, 2)).astype(np.float32))
    labelled = torch.ones(5, 40, dtype=torch.bool)
    decoded, peaks = heatmaps.decode(heatmaps.encode(points, labelled, SIZE, sigma))
    assert float((decoded - points).abs().max()) < 2e-3
    assert float(peaks.min()) > math.exp(-0.25 / sigma**2) - 1e-6  # at most half a cell off, twice


def test_one_cell_has_its_centre_at_a_half() -> None:
    maps = encode((2.5, 4.5), size=8)
    assert float(maps[0, 0, 4, 2]) == 1.0  # row 4, column 2
    assert int(maps.flatten().argmax()) == 4 * 8 + 2


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ((0.2, 5.3), (0.5, 5.3)),  # left edge: no neighbour, so the cell's centre
        ((7.9, 5.3), (7.5, 5.3)),  # right
        ((5.3, 0.1), (5.3, 0.5)),  # top
        ((5.3, 7.8), (5.3, 7.5)),  # bottom
        ((0.0, 0.0), (0.5, 0.5)),  # the first cell: its neighbour to the left is no cell of its own
        ((8.0, 8.0), (7.5, 7.5)),  # the last
        ((-0.4, 4.5), (0.5, 4.5)),  # a little outside
        ((1.1, 4.5), (1.1, 4.5)),  # the first cell that has both neighbours
    ],
)
def test_peaks_at_the_border(point: tuple[float, float], expected: tuple[float, float]) -> None:
    decoded, _ = heatmaps.decode(encode(point, size=8))
    assert decoded[0, 0].tolist() == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0])
def test_a_flat_map_decodes_to_a_cell(value: float) -> None:
    """Whichever cell: but a finite one, inside, and with the map's value as its peak."""
    points, peaks = heatmaps.decode(torch.full((1, 2, 8, 8), value))
    assert torch.isfinite(points).all()
    assert float(points.min()) >= 0
    assert float(points.max()) <= 8
    assert peaks.tolist() == [[value, value]]


def test_a_sharp_map_moves_at_most_half_a_cell() -> None:
    maps = torch.zeros(1, 1, 8, 8)
    maps[0, 0, 3, 3], maps[0, 0, 3, 4] = 1.0, 1.0 - 1e-7
    points, _ = heatmaps.decode(maps)
    assert points[0, 0].tolist() == pytest.approx([4.0, 3.5], abs=1e-3)


@pytest.mark.parametrize("place", [(3.0, 3.0), (-1e6, 4.0), (math.nan, math.nan), (math.inf, 0.0)])
def test_an_unlabelled_joint_has_a_map_of_zeros(place: tuple[float, float]) -> None:
    """Whatever stands where its place would."""
    points = torch.tensor([[place, (3.0, 3.0)]])
    maps = heatmaps.encode(points, torch.tensor([[False, True]]), 8, 1.0)
    assert maps[0, 0].tolist() == torch.zeros(8, 8).tolist()
    assert float(maps[0, 1].max()) > 0.7


def loss(predicted: Tensor, targets: Tensor, labelled: Tensor | None = None) -> list[float]:
    """Of one stack."""
    mask = torch.ones(targets.shape[:2], dtype=torch.bool) if labelled is None else labelled
    answer: list[float] = heatmaps.observed_loss(predicted[:, None], targets, mask).tolist()
    return answer


def shifted_cost(cells: float) -> float:
    return 2 * ABSENT * (1 - math.exp(-(cells**2) / (4 * SIGMA**2)))


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        # METHOD's unit: a joint that is left out
        (torch.zeros(1, 1, SIZE, SIZE), 2.114),
        # a confident answer at another place costs it twice
        (encode((50.0, 50.0)), 4.23),
        # two cells beside it
        (encode((34.0, 32.0)), 1.18),
        # right
        (encode((32.0, 32.0)), 0.0),
    ],
)
def test_units_of_the_observed_loss(predicted: Tensor, expected: float) -> None:
    assert loss(predicted, encode((32.0, 32.0))) == [pytest.approx(expected, abs=0.005)]
    assert pytest.approx(2.114, abs=5e-4) == ABSENT
    assert shifted_cost(2) == pytest.approx(1.18, abs=0.005)


def test_only_labelled_joints_cost() -> None:
    targets = encode((20.0, 20.0), (40.0, 40.0), (30.0, 10.0))
    predicted = torch.zeros_like(targets)
    predicted[0, 1] = targets[0, 1]
    # Joints 0 (left out), 1 (right); 2 is not labelled, and its absurd map is nobody's business.
    predicted[0, 2] = 1e3
    mask = torch.tensor([[True, True, False]])
    assert loss(predicted, targets, mask) == [pytest.approx(ABSENT / 2, rel=1e-3)]
    assert loss(predicted, targets, torch.tensor([[False, True, False]])) == [0.0]
    assert loss(predicted, targets, torch.zeros(1, 3, dtype=torch.bool)) == [0.0]


def test_the_loss_is_each_image_own_and_the_mean_of_stacks() -> None:
    targets = torch.cat([encode((32.0, 32.0)), encode((20.0, 20.0))])
    silent = torch.zeros_like(targets)
    stacks = torch.stack([silent, targets], 1)  # the first stack silent, the second right
    mask = torch.ones(2, 1, dtype=torch.bool)
    got = heatmaps.observed_loss(stacks, targets, mask)
    assert got.tolist() == pytest.approx([ABSENT / 2, ABSENT / 2], rel=1e-3)
    only_second = torch.stack([silent, torch.stack([silent[0], targets[1]])], 1)
    got = heatmaps.observed_loss(only_second, targets, mask)
    assert got.tolist() == pytest.approx([ABSENT, ABSENT / 2], rel=1e-3)


def test_the_loss_sends_gradients_to_the_heatmaps() -> None:
    maps = torch.zeros(1, 1, 1, 8, 8, requires_grad=True)
    heatmaps.observed_loss(
        maps, encode((4.5, 4.5), size=8), torch.tensor([[True]])
    ).sum().backward()
    assert maps.grad is not None
    assert int(maps.grad.flatten().argmin()) == 4 * 8 + 4


def test_signals_by_hand() -> None:
    maps = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    peaks = torch.tensor([[0.9, 0.2, 0.4], [0.5, 0.5, 0.8]])
    got = heatmaps.signals(maps, peaks)
    assert got.shape == (2, 4)
    named = dict(zip(heatmaps.SIGNALS, got.T, strict=True))
    assert named["mean_peak"].tolist() == pytest.approx([0.5, 0.6])
    assert named["min_peak"].tolist() == pytest.approx([0.2, 0.5])
    assert named["entropy"].tolist() == heatmaps.entropy(maps).tolist()
    assert named["multi_peak_entropy"].tolist() == heatmaps.multi_peak_entropy(maps).tolist()
    assert set(heatmaps.SIGNALS) & heatmaps.SAFER_SIGNALS == {"mean_peak", "min_peak"}


def delta(size: int) -> Tensor:
    maps = torch.zeros(1, 1, size, size)
    maps[0, 0, 2, 3] = 0.7
    return maps


@pytest.mark.parametrize(
    ("maps", "expected"),
    [
        (torch.full((1, 1, 8, 8), 0.3), 1.0),  # every cell alike: the most there is
        (delta(8), 0.0),  # one cell alone: none
        (torch.cat([torch.full((1, 1, 8, 8), 0.3), delta(8)], 1), 0.5),  # the mean of the joints
        (delta(8) - 0.1, 0.0),  # what is negative has no share
        # two cells alike: log 2 of log 64
        (delta(8) + delta(8).flip(3), math.log(2) / math.log(64)),
        # no answer at all is not certain
        (torch.zeros(1, 1, 8, 8), 1.0),
        (torch.full((1, 1, 8, 8), -0.1), 1.0),
    ],
)
def test_entropy(maps: Tensor, expected: float) -> None:
    assert heatmaps.entropy(maps).tolist() == [pytest.approx(expected, abs=1e-3)]


def slow_multi_peak_entropy(maps: NDArray[np.float32]) -> float:
    """One image (K, H, W), cell by cell."""
    total = 0.0
    for joint in maps:
        peaks = []
        for (row, column), value in np.ndenumerate(joint):
            near = joint[max(0, row - 5) : row + 6, max(0, column - 5) : column + 6]
            if value == near.max():
                peaks.append(30.0 * float(value))
        best = np.array(sorted(peaks, reverse=True)[:5])
        share = np.exp(best - best.max())
        share /= share.sum()
        total -= sum(s * math.log(s) for s in share if s > 0)
    return total


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("noise", 32),  # many peaks: only five count
        ("quiet noise", 32),  # peaks of nearly one height
        ("negative", 16),  # peaks below zero count like others
        ("two people", 32),  # two modes
        ("small", 7),  # a map smaller than the window
    ],
)
def test_multi_peak_entropy_against_slow_code(kind: str, size: int) -> None:
    rng = np.random.default_rng(3)
    noise = rng.random((2, 3, size, size)).astype(np.float32)
    pair = encode((8.0, 8.0), size=size) + 0.97 * encode((24.0, 20.0), size=size)
    maps = {
        "noise": noise,
        "quiet noise": 0.05 * noise,
        "negative": -noise,
        "two people": pair.numpy(),
        "small": noise,
    }[kind]
    expected = [slow_multi_peak_entropy(image) for image in maps]
    assert heatmaps.multi_peak_entropy(torch.from_numpy(maps)).tolist() == pytest.approx(
        expected, rel=1e-4, abs=1e-5
    )


def test_multi_peak_entropy_of_two_alike() -> None:
    maps = encode((8.5, 8.5), size=32) + encode((24.5, 20.5), size=32)
    assert float(heatmaps.multi_peak_entropy(maps)) == pytest.approx(math.log(2), abs=1e-4)
    assert float(heatmaps.multi_peak_entropy(encode((8.5, 8.5), size=32))) < 1e-6
