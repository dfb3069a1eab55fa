"""The family SimCC: known peaks, the split ratio, scores in [0, 1]."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from misgiving.trainer.foreign.families import FAMILIES
from misgiving.trainer.foreign.families.base import Shapes
from trainer.foreign.reading import check_export, looks, made, read, refused

OPTIONS = {"x": "along_x", "y": "along_y"}


def vectors(height: float = 1.0, sigma: float = 3.0) -> dict[str, Tensor]:
    """Two keypoints, px 10 and 20.5 along x, 5.5 and 30 along y, at a split of 2 for 32 px."""
    places = torch.arange(64.0)
    x = torch.tensor([[20.0], [41.0]])
    y = torch.tensor([[11.0], [60.0]])
    hill = [height * torch.exp(-0.5 * ((places - mean) / sigma) ** 2)[None] for mean in (x, y)]
    return dict(zip(("along_x", "along_y"), hill, strict=True))


def test_places_and_scores() -> None:
    answer = read(made("simcc", OPTIONS, vectors(), 2, 32), vectors())
    assert answer.points[0].tolist() == [[10.5, 6.0], [21.0, 30.5]]  # a pixel's centre is at .5
    share = torch.softmax(10 * vectors()["along_x"], dim=-1).amax(-1)
    torch.testing.assert_close(answer.confidence, share, rtol=0.2, atol=0)


def test_the_smaller_of_two_peaks() -> None:
    raw = vectors()
    raw["along_y"] = raw["along_y"] * 0.1
    low = read(made("simcc", OPTIONS, raw, 2, 32), raw)
    shares = torch.softmax(10 * raw["along_y"], dim=-1).amax(-1)
    torch.testing.assert_close(low.confidence, shares)


@pytest.mark.parametrize("beta", [1.0, 10.0, 40.0])
def test_scores_above_one_stay_shares(beta: float) -> None:
    """RTMPose's raw scores may leave [0, 1]."""
    raw = vectors(height=3.0)
    read(made("simcc", {**OPTIONS, "beta": beta}, raw, 2, 32), raw)


def test_shares_as_they_are() -> None:
    raw = {name: torch.softmax(9 * vector, dim=-1) for name, vector in vectors().items()}
    answer = read(made("simcc", {**OPTIONS, "activation": "none"}, raw, 2, 32), raw)
    peaks = torch.minimum(raw["along_x"].amax(-1), raw["along_y"].amax(-1))
    torch.testing.assert_close(answer.confidence, peaks)


def test_evidence_tells_a_broad_vector() -> None:
    sharp = read(made("simcc", OPTIONS, vectors(), 2, 32), vectors()).evidence[0]
    broad_raw = vectors(sigma=9.0)
    broad = read(made("simcc", OPTIONS, broad_raw, 2, 32), broad_raw).evidence[0]
    assert bool((broad[4:6] > sharp[4:6] + 0.5).all())  # the entropy along x


def test_an_input_that_is_not_square() -> None:
    x, y = torch.zeros(1, 1, 48), torch.zeros(1, 1, 64)
    x[..., 6], y[..., 40] = 1, 1
    shapes = Shapes({"x": (1, 1, 48), "y": (1, 1, 64)}, 1, height=32, width=24)
    assert FAMILIES["simcc"]({"x": "x", "y": "y"}, shapes).read([x, y]).points.tolist() == [
        [[3.5, 20.5]]
    ]


@pytest.mark.parametrize("activation", ["softmax", "none"])
def test_exported(activation: str, tmp_path: Path) -> None:
    raw = vectors()
    family = made("simcc", {**OPTIONS, "activation": activation}, raw, 2, 32)
    check_export(family, raw, tmp_path)


@pytest.mark.parametrize(
    ("options", "size", "says"),
    [
        (OPTIONS, 30, "vectors of 64 and 64 for an input 30 px wide and 30 px high; expected the"),
        ({**OPTIONS, "y": "z"}, 32, "no output 'z'; the graph has along_x, along_y."),
        ({**OPTIONS, "beta": 0}, 32, "beta: Input should be greater than 0"),
        ({"x": "along_x"}, 32, "y: Field required; expected x, y, activation, beta."),
    ],
)
def test_refused(options: dict[str, Any], size: int, says: str) -> None:
    assert says in refused("simcc", options, vectors(), 2, size)


def test_other_keypoints_are_refused() -> None:
    says = "output 'along_x' is (free, 2, 64); expected (B, K, width × split) for 3 keypoints."
    assert says in refused("simcc", OPTIONS, vectors(), 3, 32)


def test_guessed() -> None:
    found = ("simcc", {"x": "simcc_x", "y": "simcc_y"})
    assert looks(17, 256, simcc_x=(None, 17, 512), simcc_y=(None, 17, 512)) == found
    assert looks(0, 256, simcc_x=(None, 17, 512), simcc_y=(None, 17, 512)) == found
    assert looks(17, 256, simcc_x=(None, 17, 512), simcc_y=(None, 17, 640)) is None
