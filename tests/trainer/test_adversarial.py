"""Adversarial sampling: what is searched for, and who is picked for it."""

import numpy as np
import pytest
import torch
from torch import nn

from misgiving.trainer.samplers import adversarial, sampler_named
from trainer.picking import pool_of, rng


def pool_with_a_hard_side(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Losses that rise along the first axis, in eight dimensions of two that vary freely."""
    free = rng(1).normal(size=(count, 2))
    mixed = free @ rng(2).normal(size=(2, 8)) + rng(3).normal(size=(count, 8)) * 0.05
    return np.asarray(free[:, 0], np.float32), np.asarray(mixed, np.float32)


def test_the_hard_side_is_found() -> None:
    risk, rows = pool_with_a_hard_side(400)
    picked = sampler_named("adversarial")(pool_of(risk, rows, rows[:50].copy()), 20, rng())
    standing = risk.argsort().argsort() / len(risk)
    assert standing[picked].mean() > 0.8  # of the pool: 0.5
    assert np.ptp(rows[picked], axis=0).max() > 1  # and not one place


def layers(size: int, out: int) -> nn.Module:
    return nn.Sequential(nn.Linear(size, 64), nn.SiLU(), nn.Linear(64, out))


def test_the_search_climbs() -> None:
    """What is made after it is harder than what is made of the codes at its start."""
    torch.manual_seed(0)
    decoder, hardness = layers(adversarial.CODE, 5), layers(5, 1)
    codes = torch.randn(30, adversarial.CODE)
    made = adversarial.searched(decoder, hardness, codes)
    with torch.no_grad():
        gain = hardness(made) - hardness(decoder(codes.clamp(-adversarial.EDGE, adversarial.EDGE)))
    assert (gain > 0).all()


def test_the_nearest_each_once_against_the_definition() -> None:
    """Whole numbers: many are as near."""
    rows = rng(5).integers(0, 4, (30, 3)).astype(np.float32)
    wanted = rng(6).uniform(0, 4, (30, 3))
    left, expected = list(range(30)), []
    for row in wanted:
        best = min(left, key=lambda i: (float(((rows[i] - row) ** 2).sum()), i))
        expected.append(best)
        left.remove(best)
    assert adversarial.nearest_each_once(rows, wanted) == expected


def test_the_generator_makes_the_like_of_the_pool() -> None:
    """Decoded codes vary as the pool does, along and across what varies there."""
    _, rows = pool_with_a_hard_side(400)
    standard = torch.from_numpy((rows - rows.mean(axis=0)) / rows.std(axis=0))
    torch.manual_seed(0)
    decoder = adversarial.generator(standard)
    with torch.no_grad():
        made = decoder(torch.randn(500, adversarial.CODE))
    assert torch.cdist(made, standard).amin(dim=1).mean() < 0.5
    assert made.std(dim=0).min() > 0.5


def test_the_seed_decides_and_torch_s_own_numbers_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adversarial, "STEPS", 20)
    pool, run = pool_of(*pool_with_a_hard_side(100), np.zeros((0, 8), np.float32)), sampler_named
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, again, other = (run("adversarial")(pool, 10, rng(seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert torch.equal(torch.rand(3), expected)
