"""The synthetic data set: person i of a seed is always the same person."""

import numpy as np
import pytest

from misgiving.runtime.keypoints import LSP
from misgiving.trainer.data import Sample, synthetic
from misgiving.trainer.data.rendering.person import Rendering, render_person
from misgiving.trainer.data.synthetic import open_synthetic


def same(first: Sample, second: Sample) -> bool:
    return np.array_equal(first.image, second.image) and np.array_equal(first.points, second.points)


def test_a_sample() -> None:
    data = open_synthetic(4, 3)
    sample = data[2]
    assert data.keypoints == LSP
    assert data.ids == ("synthetic/4/00000", "synthetic/4/00001", "synthetic/4/00002")
    assert sample.id == data.ids[2]
    assert sample.path is None
    assert sample.image.shape[2] == 3
    assert sample.image.dtype == np.uint8
    assert sample.points.shape == (14, 2)
    assert sample.points.dtype == np.float32
    assert sample.labelled.all()
    assert sample.labelled.dtype == np.bool_


def test_number_i_depends_on_seed_i_and_difficulty_alone() -> None:
    data = open_synthetic(4, 5)
    late, early = data[3], data[1]
    assert same(data[3], late)  # read twice, in any order
    assert same(open_synthetic(4, 400)[1], early)  # however many there are
    assert not same(early, late)
    assert not same(open_synthetic(5, 5)[1], early)
    assert not same(open_synthetic(5, 5)[0], early)  # seeds next to each other share nobody
    assert not same(open_synthetic(4, 5, (0.0, 0.4))[1], early)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.25, 0.5), (0.7, 0.7)])
def test_difficulty_is_between_its_ends(
    low: float, high: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def recorded(rng: np.random.Generator, difficulty: float) -> Rendering:
        asked.append(difficulty)
        return render_person(rng, difficulty)

    monkeypatch.setattr(synthetic, "render_person", recorded)
    data = open_synthetic(4, 20, (low, high))
    for index in range(20):
        data[index]
    assert low <= min(asked) <= max(asked) <= high
    if high > low:
        assert max(asked) - min(asked) > 0.6 * (high - low)
