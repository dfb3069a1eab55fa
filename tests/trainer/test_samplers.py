"""Acquisition rules: which persons they choose, each once."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer.heatmaps import SIGNALS
from misgiving.trainer.samplers import (
    SAMPLERS,
    adversarial,
    convex,
    coreset,
    hybrid,
    sampler_named,
    usdm,
)
from misgiving.trainer.samplers.base import Candidates, riskiest
from trainer.picking import INF, NAN, candidates_of, pool_of, rng, slow_coreset


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
@pytest.mark.parametrize("name", ["learned_loss", "oracle", *SIGNALS])
def test_highest_first(name: str, predicted: list[float], budget: int, expected: list[int]) -> None:
    """By its own score, while all others say the reverse."""
    score = np.array(predicted, np.float32)
    others = candidates_of(-score)
    candidates = replace(
        others,
        predicted_loss=score if name == "learned_loss" else -score,
        signals={signal: score if name == signal else -score for signal in SIGNALS},
        true_loss=lambda: score if name == "oracle" else -score,
    )
    assert sampler_named(name)(candidates, budget, rng()) == expected


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


def test_a_free_score_that_the_bundle_does_not_give() -> None:
    candidates = replace(candidates_of([0.0]), signals={"entropy": np.zeros(1)})
    message = (
        r"sampler is 'min_peak', a free score that is not there; there are entropy. Choose one"
    )
    with pytest.raises(InvalidInput, match=message):
        sampler_named("min_peak")(candidates, 1, rng())


def test_oracle_without_labels() -> None:
    message = r"sampler oracle goes by the labels, and a score file has none; expected a pool with "
    with pytest.raises(InvalidInput, match=message):
        sampler_named("oracle")(candidates_of([0.1, 0.2]), 1, rng())


@pytest.mark.parametrize(
    ("losses", "most", "positions", "standing"),
    [
        ([3.0, 1.0, 9.0], 3, [2, 0, 1], [1.0, 0.5, 0.0]),  # ranks, whatever the distances
        ([3.0, 1.0, 9.0], 1, [2], [1.0]),  # among all, not among those who are kept
        ([4.0, 4.0, 9.0], 3, [2, 0, 1], [1.0, 0.25, 0.25]),  # ties share a rank
        ([7.0, 7.0, 7.0], 3, [0, 1, 2], [0.5, 0.5, 0.5]),  # all of them
        ([NAN, 1.0, 2.0], 3, [2, 1], [1.0, 0.0]),  # nobody without a loss
        ([5.0], 1, [0], [0.0]),  # one
        ([NAN], 1, [], []),  # none
    ],
)
def test_riskiest(
    losses: list[float], most: int, positions: list[int], standing: list[float]
) -> None:
    rows = points(len(losses))
    found, standings, embedding = riskiest(candidates_of(losses, rows), 0, most)
    assert list(found) == positions
    assert list(standings) == standing
    np.testing.assert_array_equal(embedding, rows[positions])


@pytest.mark.parametrize("budget", [1, 3, 5, 20])
@pytest.mark.parametrize("labelled", [0, 4])
def test_hybrid_against_the_definition(labelled: int, budget: int) -> None:
    """Whole numbers: many ties and duplicates, in the losses too."""
    points = (rng(budget).normal(size=(20 + labelled, 3)) * 2).round().astype(np.float32)
    losses = rng(1).integers(0, 5, 20).astype(np.float32)
    riskiest = sorted(range(20), key=lambda i: (-losses[i], i))[: hybrid.KEPT * budget]
    expected = slow_coreset(points[riskiest], points[20:], budget)
    candidates = pool_of(losses, points[:20], points[20:])
    picked = sampler_named("hybrid")(candidates, budget, rng())
    assert picked == [riskiest[i] for i in expected]


def points(count: int, seed: int = 0) -> np.ndarray:
    return np.asarray(rng(seed).normal(size=(count, 4)), np.float32)


def rising(count: int) -> np.ndarray:
    return np.linspace(-1, 1, count).astype(np.float32)


SOME = np.where(np.arange(12) % 3 == 0, NAN, rising(12)).astype(np.float32)
SOME_ROWS = np.where(np.arange(12)[:, None] % 4 == 1, INF, points(12)).astype(np.float32)
NOBODY = np.empty((0, 4), np.float32)
POOLS = {
    "an empty pool": (rising(0), points(0), points(3)),
    "one person": (rising(1), points(1), points(3)),
    "one person, nobody labelled": (rising(1), points(1), NOBODY),
    "nobody labelled": (rising(12), points(12), NOBODY),
    "all losses equal": (np.zeros(12, np.float32), points(12), points(3)),
    "all alike": (np.zeros(12, np.float32), np.ones((12, 4), np.float32), points(3)),
    "everybody twice": (np.tile(rising(6), 2), np.tile(points(6), (2, 1)), points(3)),
    "the labelled again": (rising(12), points(12), points(12)),
    "losses that are none": (SOME, points(12), points(3)),
    "embeddings that are none": (rising(12), SOME_ROWS, SOME_ROWS),
    "huge embeddings": (rising(12), points(12) * 1e18, points(3)),
}


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is picked is not looked at; trainings of a few steps do."""
    monkeypatch.setattr(adversarial, "STEPS", 5)


def usable(name: str, risk: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Who has the finite numbers that a sampler goes by."""
    scored, placed = np.isfinite(risk), np.isfinite(rows).all(axis=1)
    match name:
        case "random" | "mc_dropout" | "committee":
            return np.full(len(risk), True)
        case "coreset" | "egl":
            return placed
        case "hybrid" | "convex" | "usdm" | "adversarial":
            return scored & placed
    return scored


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("case", POOLS)
def test_any_pool(name: str, case: str) -> None:
    """As many as asked for, each once, the same again for a seed; nobody without numbers."""
    if name == "egl" and not len(POOLS[case][2]):
        with pytest.raises(InvalidInput, match="sampler egl found nobody labelled with a finite"):
            sampler_named(name)(pool_of(*POOLS[case]), 0, rng())
        return
    pool, run, allowed = pool_of(*POOLS[case]), sampler_named(name), usable(name, *POOLS[case][:2])
    most = int(allowed.sum())
    for budget in {0, min(1, most), most // 2, most}:
        picked = run(pool, budget, rng())
        assert len(set(picked)) == len(picked) == budget
        assert all(type(position) is int and allowed[position] for position in picked)
        assert run(pool, budget, rng()) == picked
    message = rf"^budget is {most + 1}; expected at most {most}, the number of persons .*Lower it$"
    with pytest.raises(InvalidInput, match=message):
        run(pool, most + 1, rng())


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("name", SAMPLERS)
def test_labelled_without_an_embedding_change_nothing(name: str) -> None:
    risk, rows, labelled = rising(12)[::-1].copy(), points(12), points(5, seed=1)
    gone = np.full((1, 4), NAN, np.float32)
    with_gone = pool_of(risk, rows, np.vstack([gone, labelled]))
    without, run = pool_of(risk, rows, labelled), sampler_named(name)
    assert run(with_gone, 6, rng()) == run(without, 6, rng())


@pytest.mark.parametrize(("name", "limit"), [("convex", convex.LIMIT), ("usdm", usdm.LIMIT)])
def test_more_than_is_weighed_against_each_other(name: str, limit: int) -> None:
    message = rf"budget is {limit + 1}; expected at most {limit}, the number of persons that {name}"
    with pytest.raises(InvalidInput, match=message):
        sampler_named(name)(pool_of(rising(9), points(9), NOBODY), limit + 1, rng())


@pytest.mark.parametrize("module", [convex, usdm])
def test_above_the_limit_the_riskiest_take_part(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = module.__name__.rpartition(".")[2]
    risk, rows, labelled = rising(30), points(30), points(3, seed=1)
    among = np.argsort(-risk)[:10]
    monkeypatch.setattr(module, "LIMIT", 10)
    picked = sampler_named(name)(pool_of(risk, rows, labelled), 4, rng())
    assert set(picked) <= set(among)


def test_unknown_sampler() -> None:
    message = r"sampler is 'best'; expected one of random, learned_loss, "
    with pytest.raises(InvalidInput, match=message):
        sampler_named("best")
