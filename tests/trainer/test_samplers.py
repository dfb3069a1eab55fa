"""Acquisition rules: which persons they choose, each once."""

import numpy as np
import pytest

from export.helpers import scores_of
from misgiving.runtime.errors import InvalidInput
from misgiving.trainer.samplers import SAMPLERS, sampler_named


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("predicted", "budget", "expected"),
    [
        ([0.1, 0.9, 0.5, 0.7], 2, [1, 3]),  # the highest first
        ([-3.0, -1.0, -2.0], 2, [1, 2]),  # unitless: it may be negative
        ([0.5, 0.9, 0.5, 0.5], 3, [1, 0, 2]),  # among equals, in the pool's order
        ([0.3], 1, [0]),  # a pool of one
        ([0.3, 0.4], 2, [1, 0]),  # the whole pool
        ([0.3, 0.4], 0, []),  # nothing
    ],
)
def test_learned_loss(predicted: list[float], budget: int, expected: list[int]) -> None:
    assert sampler_named("learned_loss")(scores_of(predicted), budget, rng()) == expected


def test_learned_loss_reads_the_first_head() -> None:
    """The other head of these scores says zero for everybody, the true loss the reverse."""
    scores = scores_of([1.0, 3.0, 2.0], true_loss=[3.0, 1.0, 2.0])
    assert SAMPLERS["learned_loss"](scores, 1, rng()) == [1]


def test_random_is_the_generator_s() -> None:
    scores = scores_of(list(range(50)))
    first, again = (SAMPLERS["random"](scores, 10, rng(1)) for _ in range(2))
    assert first == again
    assert first != SAMPLERS["random"](scores, 10, rng(2))
    assert first != list(range(40, 50))


def test_random_is_even() -> None:
    """Everybody is taken about equally often: 400 draws of 5 from 20, 100 each expected."""
    scores, generator = scores_of(list(range(20))), rng()
    counts = np.zeros(20)
    for _ in range(400):
        counts[SAMPLERS["random"](scores, 5, generator)] += 1
    assert 65 < counts.min() <= counts.max() < 135  # four standard deviations


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("budget", [1, 7, 20])
def test_each_person_once(name: str, budget: int) -> None:
    chosen = sampler_named(name)(scores_of([0.5] * 20), budget, rng())
    assert len(set(chosen)) == len(chosen) == budget
    assert all(type(position) is int and 0 <= position < 20 for position in chosen)


def test_unknown_sampler() -> None:
    with pytest.raises(InvalidInput, match=r"sampler is 'best'; expected one of random, learned"):
        sampler_named("best")
