"""The active-learning cycle: what is selected, what it trains on, what it writes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from export.helpers import CPU, TINY, people
from misgiving.runtime.errors import DataError, InvalidInput
from misgiving.trainer import cycle
from misgiving.trainer.checkpoint import load_checkpoint
from misgiving.trainer.cycle import CycleConfig, StageResult, run_cycle
from misgiving.trainer.data import PoseSet, join, open_data, subset
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
        "recipe": "tiny",
        "sampler": "learned_loss",
        "budget": BUDGET,
        "stages": STAGES,
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


def test_an_earlier_cycle_is_not_overwritten(learned: Run) -> None:
    before = (learned.out / "results.json").read_bytes()
    config = CycleConfig(sampler="random", budget=5, stages=1)
    with pytest.raises(DataError, match=r"is there already; nothing is overwritten"):
        run_cycle(RECIPE, config, people(*BASE), people(*POOL), people(*TEST), learned.out, CPU)
    assert (learned.out / "results.json").read_bytes() == before


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
