"""Intervals: by hand, against the normal approximation, and over images that hang together."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from misgiving.trainer.measures.bootstrap import RESAMPLES, Estimate, Key, draw_images, estimates

Floats = NDArray[np.floating]
NAN = math.nan


def means(values: Floats, images: list[str]) -> Estimate:
    """The mean of values (N,) with its resamples."""

    def measure(weights: Floats) -> dict[Key, Floats]:
        return {"mean": values @ weights / weights.sum(0)}

    return estimates(measure, images)["mean"]


@pytest.mark.parametrize(
    ("draws", "expected"),
    [
        (list(range(1001)), (25, 975)),
        ([3.0] * 7, (3, 3)),
        ([], (NAN, NAN)),  # a single image
        ([NAN] * 10, (NAN, NAN)),
        (list(range(995)) + [NAN] * 5, (24.85, 969.15)),  # few are undefined: left out
        (list(range(980)) + [NAN] * 20, (NAN, NAN)),  # many: no interval
    ],
)
def test_interval(draws: list[float], expected: tuple[float, float]) -> None:
    interval = Estimate(0.0, np.array(draws, float)).interval
    assert interval == pytest.approx(expected, nan_ok=True)


def test_the_mean_s_interval_is_the_normal_one() -> None:
    values = np.random.default_rng(1).normal(5, 2, 400)
    mean = means(values, [str(i) for i in range(400)])
    assert mean.value == pytest.approx(values.mean())
    assert len(mean.draws) == RESAMPLES
    half = 1.96 * values.std() / 20
    assert mean.interval == pytest.approx((mean.value - half, mean.value + half), abs=0.2 * half)


def test_persons_of_one_image_are_drawn_together() -> None:
    """Four copies of each person say no more than one."""
    values = np.random.default_rng(2).normal(0, 1, 50)
    names = [f"{i:02}" for i in range(50)]
    single = means(values, names)
    copies = means(np.tile(values, 4), names * 4)
    assert copies.interval == pytest.approx(single.interval)
    apart = means(np.tile(values, 4), [str(i) for i in range(200)])
    assert np.std(apart.draws) == pytest.approx(np.std(single.draws) / 2, rel=0.2)


def test_every_call_draws_the_same() -> None:
    names = [str(i) for i in range(9)]
    values = np.arange(9.0)
    assert means(values, names).draws.tolist() == means(values, names).draws.tolist()
    assert len(set(means(values, names).draws.tolist())) > 20


@pytest.mark.parametrize("images", [[], ["a"], ["a", "a"]])
def test_one_image_has_no_interval(images: list[str]) -> None:
    def measure(weights: Floats) -> dict[Key, Floats]:
        return {"count": weights.sum(0)}

    count = estimates(measure, images)["count"]
    assert count.value == len(images)
    assert str(count) == f"{len(images):.3f}"


def test_no_images_are_drawn_of_fewer_than_two() -> None:
    assert list(draw_images(1)) == []
    drawn = list(draw_images(3, 5))
    assert len(drawn) == 5
    assert all(len(one) == 3 and set(one) <= {0, 1, 2} for one in drawn)


def test_a_difference_is_paired() -> None:
    first, second = Estimate(2.0, np.array([1.0, 3.0])), Estimate(0.5, np.array([0.5, 2.5]))
    difference = first - second
    assert difference.value == 1.5
    assert difference.interval == (0.5, 0.5)


@pytest.mark.parametrize(
    ("estimate", "text", "record"),
    [
        (Estimate(0.5, np.full(9, 0.25)), "0.500 [0.250 0.250]", (0.5, 0.25, 0.25)),
        (Estimate(0.5, np.full(9, NAN)), "0.500", (0.5, None, None)),
        (Estimate(NAN, np.full(9, NAN)), "–", (None, None, None)),
    ],
)
def test_shown(estimate: Estimate, text: str, record: tuple[float | None, ...]) -> None:
    assert str(estimate) == text
    assert tuple(estimate.record().values()) == record
