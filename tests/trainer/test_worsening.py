"""Worse pictures: a share of them, each by one change, of a known strength at most."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer.config import AugmentConfig
from misgiving.trainer.data import augmentation, worsening
from misgiving.trainer.data.crops import Batch, load_crops
from misgiving.trainer.data.worsening import worsened
from shared.training import STILL, TINY, people


def grey(count: int, value: float = 100.0) -> Tensor:
    return torch.full((count, 3, 24, 24), value)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_them(share: float) -> None:
    torch.manual_seed(0)
    edges = grey(600)
    edges[..., 12:] = 200
    changed = (worsened(edges.clone(), share) != edges).flatten(1).any(1)
    assert changed.float().mean() == pytest.approx(share, abs=0.06)


def test_each_by_one_change_and_no_more_than_it_says() -> None:
    torch.manual_seed(0)
    after = worsened(grey(900), 1.0)
    flat = after.flatten(1).std(1) < 0.01
    dark, noisy = after[flat & (after[:, 0, 0, 0] < 99)], after[~flat]
    assert len(dark) == pytest.approx(225, abs=60)  # blur and JPEG leave a plain picture as it is
    assert len(noisy) == pytest.approx(225, abs=60)
    assert 100 / worsening.DARK - 1 <= dark.min() < 20
    assert (dark == dark.floor()).all()
    spread = noisy.flatten(1).std(1)
    assert 40 < spread.max() < worsening.NOISE * 1.05
    assert noisy.mean() == pytest.approx(100, abs=1)


def test_a_point_becomes_a_gaussian() -> None:
    point = torch.zeros(2, 3, 25, 25)
    point[..., 12, 12] = 255
    blurred = worsening._blurred(point, torch.tensor([0.0, 0.5]))
    torch.testing.assert_close(blurred[0], point[0])
    torch.testing.assert_close(blurred.sum((2, 3)), torch.full((2, 3), 255.0))
    x = torch.arange(25) - 12.0
    spread = (blurred[1, 0].sum(0) * x**2).sum() / 255
    assert spread.sqrt() == pytest.approx(worsening.BLUR_PX / 2, rel=0.02)


def test_the_worse_the_quality_the_farther_from_the_picture() -> None:
    torch.manual_seed(0)
    picture = torch.rand(1, 3, 8, 8).mul(255).repeat_interleave(4, 2).repeat_interleave(4, 3)
    changed = worsening._compressed(picture.repeat(3, 1, 1, 1), torch.tensor([0.0, 0.7, 1.0]))
    best, middle, worst = (changed - picture).abs().mean((1, 2, 3)).tolist()
    assert 0 < best < middle < worst < 60
    assert (changed == changed.round()).all()


def test_a_batch_is_worsened_and_its_labels_are_not() -> None:
    crops = load_crops(people(1, 48), TINY.model.crop, torch.device("cpu"), range(8))

    def batch(config: AugmentConfig) -> Batch:
        torch.manual_seed(3)
        return next(augmentation.batches(crops, 8, config, torch.Generator().manual_seed(1)))

    plain, worse = batch(STILL), batch(replace(STILL, worse=1.0))
    assert torch.equal(plain.points, worse.points)
    assert (plain.images != worse.images).flatten(1).any(1).all()
    assert torch.equal(worse.images, batch(replace(STILL, worse=1.0)).images)


def test_a_share_out_of_range() -> None:
    with pytest.raises(InvalidInput, match="worse is 1.5; expected from 0 to 1"):
        AugmentConfig(worse=1.5)
