"""Acquisition rules: which persons they choose, each once."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer.samplers import SAMPLERS, coreset, sampler_named
from misgiving.trainer.samplers.base import Candidates

NAN, INF = float("nan"), float("inf")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def candidates_of(
    predicted: Sequence[float] = (),
    embedding: object = None,
    labelled: object = None,
) -> Candidates:
    """Embeddings that are not given must not be asked for."""
    rows = np.asarray([] if embedding is None else embedding, np.float32)
    centres = np.asarray([] if labelled is None else labelled, np.float32)

    def embedded() -> np.ndarray:
        assert embedding is not None
        return rows

    def of_labelled() -> np.ndarray:
        assert embedding is not None
        return centres.reshape(-1, rows.shape[1])

    count = len(predicted) or len(rows)
    return Candidates(
        ids=[f"person/{i}" for i in range(count)],
        predicted_loss=np.array(predicted if len(predicted) else np.zeros(count), np.float32),
        signals={},
        embedding=embedded,
        labelled_embedding=of_labelled,
    )


@pytest.mark.parametrize(
    ("predicted", "budget", "expected"),
    [
        ([0.1, 0.9, 0.5, 0.7], 2, [1, 3]),  # the highest first
        ([-3.0, -1.0, -2.0], 2, [1, 2]),  # unitless: it may be negative
        ([0.5, 0.9, 0.5, 0.5], 3, [1, 0, 2]),  # among equals, in the pool's order
        ([0.3], 1, [0]),  # a pool of one
        ([0.3, 0.4], 2, [1, 0]),  # the whole pool
        ([0.3, 0.4], 0, []),  # nothing
        ([NAN, 0.3, INF, 0.4, -INF], 2, [3, 1]),  # never one without a score
    ],
)
def test_learned_loss(predicted: list[float], budget: int, expected: list[int]) -> None:
    assert sampler_named("learned_loss")(candidates_of(predicted), budget, rng()) == expected


def test_learned_loss_does_not_fill_up_with_persons_without_a_score() -> None:
    message = r"budget is 2; expected at most 1, the number of persons with a finite predicted loss"
    with pytest.raises(InvalidInput, match=message):
        sampler_named("learned_loss")(candidates_of([NAN, 0.3, INF]), 2, rng())


def test_random_is_the_generator_s() -> None:
    candidates, random = candidates_of([0.0] * 50), sampler_named("random")
    first, again = (random(candidates, 10, rng(1)) for _ in range(2))
    assert first == again
    assert first != random(candidates, 10, rng(2))
    assert first != list(range(40, 50))


def test_random_is_even() -> None:
    """Everybody is taken about equally often: 400 draws of 5 from 20, 100 each expected."""
    candidates, generator = candidates_of([0.0] * 20), rng()
    counts = np.zeros(20)
    for _ in range(400):
        counts[sampler_named("random")(candidates, 5, generator)] += 1
    assert 65 < counts.min() <= counts.max() < 135  # four standard deviations


def slow_coreset(embedding: np.ndarray, labelled: np.ndarray, budget: int) -> list[int]:
    """k-centre greedy as it is defined, one distance at a time."""

    def apart(one: np.ndarray, other: np.ndarray) -> float:
        return sum((float(a) - float(b)) ** 2 for a, b in zip(one, other, strict=True))

    picked: list[int] = []
    while len(picked) < budget:
        left = [i for i in range(len(embedding)) if i not in picked]
        centres = [*labelled, *embedding[picked]]
        if centres:
            near = {i: min(apart(embedding[i], centre) for centre in centres) for i in left}
        else:
            mean = embedding.astype(np.float64).mean(axis=0)
            near = {i: -apart(embedding[i], mean) for i in left}
        picked.append(max(left, key=lambda i: near[i]))  # the first among equals
    return picked


LINE = [[0.0], [1.0], [2.0], [3.0], [10.0]]


@pytest.mark.parametrize(
    ("embedding", "labelled", "budget", "expected"),
    [
        (LINE, [[0.0]], 3, [4, 3, 1]),  # then 2 is as far from 3 as from 1: the first one
        (LINE, [[9.0], [1.0]], 2, [3, 0]),  # the nearest of the labelled counts
        (LINE, [], 3, [3, 4, 0]),  # nobody labelled: nearest to the mean, 3.2
        ([[1.0], [3.0]], [], 1, [0]),  # as near to the mean: the first
        ([[5.0]] * 4, [], 4, [0, 1, 2, 3]),  # duplicates, each once
        ([[5.0]] * 3, [[5.0]], 2, [0, 1]),  # of a labelled one
        ([[0.0, 0.0], [3.0, 4.0], [4.0, 0.0]], [[0.0, 0.0]], 1, [1]),  # Euclidean: 5 and 4
        ([[7.0, 7.0]], [], 1, [0]),  # a pool of one
        (LINE, [[0.0]], 0, []),  # nothing
        ([[0.0], [NAN], [5.0], [INF]], [[0.0]], 2, [2, 0]),  # never one without an embedding
        ([[0.0], [NAN], [5.0], [4.0]], [], 2, [3, 0]),  # nor does it move the mean, 3
        (LINE, [[NAN], [0.0]], 1, [4]),  # a labelled one without is nobody's nearest
        (LINE, [[NAN]], 1, [3]),  # as if nobody were labelled
    ],
)
def test_coreset(embedding: object, labelled: object, budget: int, expected: list[int]) -> None:
    candidates = candidates_of(embedding=embedding, labelled=labelled)
    assert sampler_named("coreset")(candidates, budget, rng()) == expected


@pytest.mark.parametrize("labelled", [0, 1, 20])
@pytest.mark.parametrize("whole", [False, True])  # whole numbers: many ties and duplicates
@pytest.mark.parametrize(("rows", "centres"), [(4096, 256), (7, 3), (30, 20), (1, 1)])
def test_coreset_against_the_definition(
    labelled: int, whole: bool, rows: int, centres: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over the whole pool, with blocks that divide it and blocks that do not."""
    monkeypatch.setattr(coreset, "ROWS", rows)
    monkeypatch.setattr(coreset, "CENTRES", centres)
    drawn = rng(labelled).normal(size=(30 + labelled, 3)) * 2
    points = (drawn.round() if whole else drawn).astype(np.float32)
    candidates = candidates_of(embedding=points[:30], labelled=points[30:])
    picked = sampler_named("coreset")(candidates, 30, rng())
    assert picked == slow_coreset(points[:30], points[30:], 30)


def test_coreset_reads_a_mapped_file(tmp_path: Path) -> None:
    points = rng().normal(size=(50, 4)).astype(np.float32)
    np.save(tmp_path / "points.npy", points)
    mapped = np.load(tmp_path / "points.npy", mmap_mode="r")
    pool = candidates_of(embedding=points)
    of_file = Candidates(
        ids=pool.ids,
        predicted_loss=pool.predicted_loss,
        signals={},
        embedding=lambda: mapped,
        labelled_embedding=pool.labelled_embedding,
    )
    run = sampler_named("coreset")
    assert run(of_file, 9, rng()) == run(pool, 9, rng(1))  # the seed changes nothing


def test_coreset_without_enough_embeddings() -> None:
    message = r"budget is 3; expected at most 2, the number of persons with a finite embedding"
    with pytest.raises(InvalidInput, match=message):
        sampler_named("coreset")(candidates_of(embedding=[[0.0], [NAN], [1.0]]), 3, rng())


class View:
    """A network that finds everybody alike, in two parts."""

    def __init__(self, count: int) -> None:
        self.parts = (count // 3, count - count // 3)

    def thinned_points(self, networks: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
        return (np.zeros((networks, part, 14, 2)) for part in self.parts)

    def committee_points(self) -> Iterator[np.ndarray]:
        return (np.zeros((2, part, 14, 2)) for part in self.parts)

    def gradient_lengths(self, labelled: np.ndarray) -> Iterator[np.ndarray]:
        return (np.ones((part, labelled.shape[1])) for part in self.parts)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("budget", [1, 7, 20])
def test_each_person_once(name: str, budget: int) -> None:
    candidates = replace(
        candidates_of([0.5] * 20, np.ones((20, 4)), np.ones((3, 4))),
        predicted_losses={"gap-aleatoric": np.ones(20), "conv-links": np.ones(20)},
        network=View(20),
    )
    chosen = sampler_named(name)(candidates, budget, rng())
    assert len(set(chosen)) == len(chosen) == budget
    assert all(type(position) is int and 0 <= position < 20 for position in chosen)


def test_unknown_sampler() -> None:
    message = r"sampler is 'best'; expected one of random, learned_loss, coreset, "
    with pytest.raises(InvalidInput, match=message):
        sampler_named("best")
