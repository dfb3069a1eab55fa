"""The active-learning cycle: what is selected, what it trains on, what it writes."""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from export.helpers import CPU, TINY, people
from misgiving.runtime.errors import DataError, InvalidInput
from misgiving.runtime.keypoints import LSP
from misgiving.trainer import cycle
from misgiving.trainer.checkpoint import WEIGHTS, load_checkpoint
from misgiving.trainer.config import to_dict
from misgiving.trainer.cycle import CycleConfig, StageResult, run_cycle
from misgiving.trainer.data import PoseSet, join, open_data, subset
from misgiving.trainer.heatmaps import SIGNALS
from misgiving.trainer.network_view import network_view
from misgiving.trainer.samplers import sampler_named
from misgiving.trainer.samplers.base import Candidates
from misgiving.trainer.scoring import score
from trainer.annotating import write_images

RECIPE = replace(TINY, fit=replace(TINY.fit, epochs=1))
BASE, POOL, TEST = (1, 16), (7, 20, 0.0, 1.0), (2, 8)
BUDGET, STAGES = 5, 3


class Run:
    """A whole cycle, and what each of its trainings was given."""

    def __init__(self, out: Path, sampler: str, seed: int = 0) -> None:
        self.out = out
        self.trained_on: list[tuple[str, ...]] = []
        self.started_from: list[Path | None] = []
        self.written: list[int] = []
        self._real = cycle.train
        config = CycleConfig(sampler=sampler, budget=BUDGET, stages=STAGES, seed=seed)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cycle, "train", self._train)
            sets = (people(*BASE), people(*POOL), people(*TEST))
            self.results = run_cycle(RECIPE, config, *sets, out, CPU)

    def _train(self, recipe: object, data: PoseSet, *rest: Any) -> object:
        self.trained_on.append(data.ids)
        self.started_from.append(rest[3])
        path = self.out / "results.json"
        self.written.append(len(self.record()["results"]) if path.exists() else 0)
        return self._real(recipe, data, *rest)  # type: ignore[arg-type]

    def record(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.out / "results.json").read_text("utf-8"))
        return content


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("cycle") / "learned", "learned_loss")


def chosen(results: list[StageResult]) -> list[str]:
    return [name for result in results for name in result.selected]


def test_nobody_is_selected_twice(learned: Run) -> None:
    assert [len(result.selected) for result in learned.results] == [BUDGET] * STAGES
    assert len(set(chosen(learned.results))) == BUDGET * STAGES
    assert set(chosen(learned.results)) <= set(people(*POOL).ids)


def test_each_stage_trains_on_all_labels_so_far(learned: Run) -> None:
    base = people(*BASE).ids
    for stage, ids in enumerate(learned.trained_on):
        assert ids == (*base, *chosen(learned.results[:stage]))
    assert [result.labels for result in learned.results] == [16, 21, 26]


def test_each_stage_goes_on_from_the_one_before(learned: Run) -> None:
    out = learned.out
    assert learned.started_from == [None, out / "stage-1", out / "stage-2"]
    assert [result.checkpoint for result in learned.results] == ["stage-1", "stage-2", "stage-3"]
    record = load_checkpoint(out / "stage-3")[2]
    assert len(record.training_data) == STAGES
    assert record.label_count == 26
    assert record.validation_data == people(*TEST).spec


def test_the_highest_predicted_losses_are_taken(learned: Run) -> None:
    """By each stage's own network, of those who are left, highest first."""
    pool, left = people(*POOL), list(range(POOL[1]))
    for result in learned.results:
        network, recipe, _ = load_checkpoint(learned.out / result.checkpoint)
        losses = score(network, recipe, pool, torch.device("cpu")).predicted_loss
        best = sorted(left, key=lambda index: -losses[index])[:BUDGET]
        assert list(result.selected) == [pool.ids[index] for index in best]
        left = [index for index in left if index not in best]


def test_coreset_keeps_away_from_the_labelled(tmp_path: Path) -> None:
    """Of each stage's own network, whose embeddings of the labelled set it is given too."""
    run, pool = Run(tmp_path / "coreset", "coreset"), people(*POOL)
    labelled, left = people(*BASE), list(range(len(pool)))
    for result in run.results:
        network, recipe, _ = load_checkpoint(run.out / result.checkpoint)
        of_pool, of_labelled = (
            score(network, recipe, data, torch.device("cpu")).embedding for data in (pool, labelled)
        )
        apart = np.linalg.norm(of_pool[:, None] - of_labelled[None], axis=-1).min(axis=1)
        assert result.selected[0] == pool.ids[max(left, key=lambda index: apart[index])]
        taken = [pool.ids.index(name) for name in result.selected]
        labelled = join([labelled, subset(pool, taken)])
        left = [index for index in left if index not in taken]


@pytest.mark.parametrize("name", ["mc_dropout", "egl"])
def test_a_sampler_asks_the_stage_s_network(name: str, tmp_path: Path) -> None:
    """About those who are left, with those who are labelled by then."""
    run, pool = Run(tmp_path / "run", name), people(*POOL)
    network, recipe, _ = load_checkpoint(run.out / "stage-2")
    taken = [pool.ids.index(one) for one in run.results[0].selected]
    left = subset(pool, [i for i in range(len(pool)) if i not in taken])
    labelled = join([people(*BASE), subset(pool, taken)])
    scores, known = (score(network, recipe, part, torch.device("cpu")) for part in (left, labelled))
    candidates = Candidates(
        ids=left.ids,
        predicted_loss=scores.predicted_loss,
        signals={},
        embedding=lambda: scores.embedding,
        labelled_embedding=lambda: known.embedding,
        network=network_view(network, recipe, left, labelled, torch.device("cpu")),
    )
    picked = sampler_named(name)(candidates, BUDGET, np.random.default_rng([0, 2]))
    assert list(run.results[1].selected) == [left.ids[i] for i in picked]


def test_a_sampler_is_given_what_the_network_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first head's loss, signals that rise with the risk, and nothing that it did not ask."""
    given: list[Candidates] = []

    def spy(candidates: Candidates, budget: int, rng: np.random.Generator) -> list[int]:
        given.append(candidates)
        return list(range(budget))

    monkeypatch.setattr(cycle, "sampler_named", lambda name: spy)
    scored: list[str] = []
    real = cycle.score

    def counting(network: Any, recipe: Any, data: PoseSet, *rest: Any) -> Any:
        scored.append(data.spec)
        return real(network, recipe, data, *rest)

    monkeypatch.setattr(cycle, "score", counting)
    run = Run(tmp_path / "spy", "random")
    network, recipe, _ = load_checkpoint(run.out / "stage-1")
    scores = score(network, recipe, people(*POOL), torch.device("cpu"))
    first = given[0]
    assert tuple(first.ids) == people(*POOL).ids
    np.testing.assert_allclose(first.predicted_loss, scores.predicted_losses["conv-kl"], atol=1e-5)
    risks = scores.risk_scores()
    for name, risk in first.signals.items():
        turned = risks[name] if name in risks else risks[f"−{name}"]
        np.testing.assert_allclose(risk, turned, atol=1e-5)
    assert list(first.signals) == list(SIGNALS)
    np.testing.assert_allclose(first.embedding(), scores.embedding, atol=1e-5)
    assert first.predicted_losses["conv-kl"] is first.predicted_loss
    assert list(first.predicted_losses) == ["conv-kl", "gap-margin"]
    assert scored == [people(*POOL).spec] * STAGES
    network, recipe, _ = load_checkpoint(run.out / "stage-2")
    labelled = join([people(*BASE), subset(people(*POOL), range(BUDGET))])
    of_labelled = score(network, recipe, labelled, torch.device("cpu")).embedding
    np.testing.assert_allclose(given[1].labelled_embedding(), of_labelled, atol=1e-5)


def test_the_record_grows_with_every_stage(learned: Run) -> None:
    assert learned.written == [0, 1, 2]
    assert sorted(path.name for path in learned.out.iterdir()) == [
        "results.json", "stage-1", "stage-1-logs", "stage-2", "stage-2-logs", "stage-3",
        "stage-3-logs",
    ]  # fmt: skip


def test_the_record_says_what_was_run(learned: Run) -> None:
    content = learned.record()
    stages = content.pop("results")
    assert content == {
        "recipe": to_dict(RECIPE),
        "keypoints": list(LSP.names),
        "sampler": "learned_loss",
        "budget": BUDGET,
        "seed": 0,
        "base": people(*BASE).spec,
        "pool": people(*POOL).spec,
        "test": people(*TEST).spec,
    }
    for stage, (got, result) in enumerate(zip(stages, learned.results, strict=True), 1):
        assert got["stage"] == result.stage == stage
        assert got["selected"] == list(result.selected)
        assert got["labels"] == result.labels
        assert got["test"] == result.test
        assert set(got["test"]) >= {"pck", "persons"}
        assert 0 <= got["selected_pck"] <= 1
        assert 0 <= got["pool_pck"] <= 1
        assert got["seconds"] >= 0


def test_random_depends_on_the_cycle_s_seed(tmp_path: Path) -> None:
    runs = [Run(tmp_path / name, "random", seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    first, same, other = (chosen(run.results) for run in runs)
    assert first == same
    assert first[:BUDGET] != other[:BUDGET]
    assert len(set(first)) == BUDGET * STAGES


@pytest.mark.parametrize(
    ("budget", "stages", "sampler", "message"),
    [
        (0, 1, "random", r"budget is 0 and stages 1; expected at least 1 of each"),
        (5, 0, "random", r"budget is 5 and stages 0; expected at least 1 of each"),
        (5, 1, "best", r"sampler is 'best'; expected one of random, learned_loss"),
    ],
)
def test_bad_cycles(budget: int, stages: int, sampler: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        CycleConfig(sampler=sampler, budget=budget, stages=stages)


def test_the_pool_is_too_small(tmp_path: Path) -> None:
    config = CycleConfig(sampler="random", budget=7, stages=3)
    sets = (people(*BASE), people(*POOL), people(*TEST))
    message = r"3 stages of 7 need a pool of 21; synthetic:7,20,0-1 has 20. Lower the budget"
    with pytest.raises(InvalidInput, match=message) as error:
        run_cycle(RECIPE, config, *sets, tmp_path / "out", CPU)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("sampler", "seed", "stages", "message"),
    [
        # the same one, which is done
        ("learned_loss", 0, STAGES, r"learned holds a cycle with its 3 stages done; nothing is ov"),
        ("learned_loss", 0, 1, r"learned holds a cycle with its 3 stages done; nothing is overwri"),
        # another one
        ("random", 0, STAGES, r"is of a cycle with another sampler \(learned_loss, now random\); "),
        ("learned_loss", 4, STAGES, r"is of a cycle with another seed \(0, now 4\); give the same"),
    ],
)
def test_an_earlier_cycle_is_not_overwritten(
    learned: Run, sampler: str, seed: int, stages: int, message: str
) -> None:
    before = (learned.out / "results.json").read_bytes()
    config = CycleConfig(sampler=sampler, budget=BUDGET, stages=stages, seed=seed)
    with pytest.raises(DataError, match=message):
        run_cycle(RECIPE, config, people(*BASE), people(*POOL), people(*TEST), learned.out, CPU)
    assert (learned.out / "results.json").read_bytes() == before


@pytest.mark.parametrize("content", ["{", "{}", '{"results": [{"stage": 1}]}'])
def test_what_is_no_cycle_is_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / "results.json").write_text(content)
    config = CycleConfig(sampler="random", budget=1, stages=1)
    with pytest.raises(DataError, match=r"results.json is no record of a cycle; name another"):
        run_cycle(RECIPE, config, people(*BASE), people(*POOL), people(*TEST), tmp_path, CPU)
    assert (tmp_path / "results.json").read_text() == content


class Killed(BaseException):
    """Nothing in the code catches it, as nothing catches SIGKILL."""


def unless(real: Callable[..., Any], killed_at: int) -> Callable[..., Any]:
    """A function that ends the process, so to speak, at its call number ``killed_at``."""
    calls = itertools.count(1)

    def call(*arguments: Any, **named: Any) -> Any:
        if next(calls) == killed_at:
            raise Killed
        return real(*arguments, **named)

    return call


@pytest.mark.parametrize(
    ("function", "killed_at"),
    [
        ("train", 1),  # before anything is there
        ("_score", 1),  # the first stage's checkpoint is there, its selection is not
        ("train", 2),  # between two stages
        ("_score", 3),  # before the last selection
        ("_write", 4),  # the last selection was made and not written
    ],
)
def test_a_killed_cycle_goes_on_where_it_was(
    learned: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, killed_at: int
) -> None:
    config = CycleConfig(sampler="learned_loss", budget=BUDGET, stages=STAGES)
    sets = (people(*BASE), people(*POOL), people(*TEST))
    with monkeypatch.context() as patch:
        patch.setattr(cycle, function, unless(getattr(cycle, function), killed_at))
        with pytest.raises(Killed):
            run_cycle(RECIPE, config, *sets, tmp_path / "out", CPU)
    results = run_cycle(RECIPE, config, *sets, tmp_path / "out", CPU)
    assert [replace(r, seconds=0) for r in results] == [
        replace(r, seconds=0) for r in learned.results
    ]
    weights = [load_file(out / "stage-3" / WEIGHTS) for out in (tmp_path / "out", learned.out)]
    assert all(torch.equal(weights[0][name], value) for name, value in weights[1].items())


def test_a_finished_cycle_goes_on_with_more_stages(learned: Run, tmp_path: Path) -> None:
    sets = (people(*BASE), people(*POOL), people(*TEST))
    for stages in (1, STAGES):
        config = CycleConfig(sampler="learned_loss", budget=BUDGET, stages=stages)
        results = run_cycle(RECIPE, config, *sets, tmp_path / "out", CPU)
        assert chosen(results) == chosen(learned.results)[: stages * BUDGET]


def test_the_whole_pool_may_be_taken(tmp_path: Path) -> None:
    config = CycleConfig(sampler="learned_loss", budget=20, stages=1)
    sets = (people(*BASE), people(*POOL), people(*TEST))
    (result,) = run_cycle(RECIPE, config, *sets, tmp_path / "out", CPU)
    assert sorted(result.selected) == sorted(people(*POOL).ids)
    assert result.selected_pck == pytest.approx(result.pool_pck)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_sets_that_share_a_person_are_refused(tmp_path: Path, which: int) -> None:
    sets = [people(*BASE), people(*POOL), people(*TEST)]
    sets[which] = join([sets[which], subset(sets[which - 1], [0])])
    config = CycleConfig(sampler="random", budget=1, stages=1)
    with pytest.raises(DataError, match=r"share 1 person\(s\)"):
        run_cycle(RECIPE, config, sets[0], sets[1], sets[2], tmp_path / "out", CPU)


def test_a_pool_without_labels_is_refused_at_once(tmp_path: Path) -> None:
    write_images(tmp_path / "pool", 3)
    pool = open_data(f"images:{tmp_path / 'pool'}")
    config = CycleConfig(sampler="random", budget=1, stages=1)
    with pytest.raises(DataError, match=r"pool has 3 person\(s\) without a label"):
        run_cycle(RECIPE, config, people(*BASE), pool, people(*TEST), tmp_path / "out", CPU)
    assert not (tmp_path / "out").exists()
