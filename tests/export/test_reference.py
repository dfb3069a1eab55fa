"""The histograms that drift is told by."""

import numpy as np
import pytest

from misgiving.export.reference import BINS, embedding_reference, histogram, reference


@pytest.mark.parametrize(
    ("values", "weights", "edges", "shares"),
    [
        # a single person
        ([3.0], [1.0], [3.0], [0.0, 1.0]),
        # everybody alike
        ([2.0] * 9, [1.0] * 9, [2.0], [0.0, 1.0]),
        # a quarter, at one value, by weight
        ([0.0, 1.0], [1.0, 3.0], [0.0, 1.0], [0.0, 0.25, 0.75]),
    ],
)
def test_few_and_equal_values(
    values: list[float], weights: list[float], edges: list[float], shares: list[float]
) -> None:
    got = histogram("x", np.array(values), np.array(weights))
    assert (list(got.edges), list(got.shares)) == (edges, shares)


def test_bins_are_equally_full() -> None:
    values = np.random.default_rng(0).normal(size=4000)
    got = histogram("x", values, np.ones(4000))
    assert len(got.shares) == BINS
    assert got.shares == pytest.approx([1 / BINS] * BINS, abs=0.001)
    np.testing.assert_allclose(got.edges[9], np.median(values), atol=0.01)


def test_a_weight_is_as_good_as_copies() -> None:
    rng = np.random.default_rng(0)
    embedding, weights = rng.normal(size=(30, 3)), rng.integers(1, 5, 30)
    copies = np.repeat(embedding, weights, axis=0)
    one = reference("d", {"x": embedding[:, 0]}, embedding, weights.astype(float))
    other = reference("d", {"x": copies[:, 0]}, copies, np.ones(len(copies)))
    assert one.histograms == other.histograms
    assert one.embedding == other.embedding
    assert [each.name for each in one.histograms] == ["x", "embedding_distance"]


def test_distances_are_in_deviations() -> None:
    """The second number never changes and does not count."""
    known = embedding_reference(np.array([[1.0, 7.0], [3.0, 7.0]]), np.ones(2))
    assert (known.mean, known.deviation) == ((2, 7), (1, 0))
    distance = known.distance(np.array([[2.0, 7.0], [5.0, 99.0]]))
    assert distance.tolist() == [0, 3]
    dead = embedding_reference(np.ones((3, 2)), np.ones(3))
    assert dead.distance(np.zeros((1, 2))).tolist() == [0]
