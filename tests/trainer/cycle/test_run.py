"""The active-learning cycle: what is selected, what it trains on, what it writes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from misgiving.runtime.errors import DataError, InvalidInput
from misgiving.runtime.keypoints import LSP
from misgiving.trainer.answers.scoring import score
from misgiving.trainer.checkpoint import load_checkpoint
from misgiving.trainer.cycle import stage
from misgiving.trainer.cycle.recipe import to_dict
from misgiving.trainer.cycle.run import run_cycle
from misgiving.trainer.data import PoseSet, join, open_data, subset
from misgiving.trainer.heatmaps import SIGNALS
from misgiving.trainer.network_view import network_view
from misgiving.trainer.samplers import sampler_named
from misgiving.trainer.samplers.base import Candidates
from misgiving.trainer.training import train
from shared.training import CPU, people
from trainer.annotating import write_images
from trainer.cycle.whole import BASE, BUDGET, POOL, RECIPE, STAGES, TEST, Run, chosen, go


def test_nobody_is_selected_twice(learned: Run) -> None:
    assert [len(result.selected) for result in learned.results] == [BUDGET] * STAGES
    assert len(set(chosen(learned.results))) == BUDGET * STAGES
    assert set(chosen(learned.results)) <= set(people(*POOL).ids)


def test_each_stage_trains_on_all_labels_so_far(learned: Run) -> None:
    base = people(*BASE).ids
    for number, ids in enumerate(learned.trained_on):
        assert ids == (*base, *chosen(learned.results[:number]))
    assert [result.labels for result in learned.results] == [16, 21, 26]


def test_each_stage_goes_on_from_the_one_before(learned: Run) -> None:
    base, folder = learned.out / "seed-0" / "base", learned.folder
    assert learned.started_from == [None, base, folder / "stage-2"]
    assert [result.checkpoint for result in learned.results] == [
        "seed-0/base", "seed-0/learned_loss/stage-2", "seed-0/learned_loss/stage-3",
    ]  # fmt: skip
    last = load_checkpoint(folder / "stage-3")[2]
    assert len(last.training_data) == STAGES
    assert last.label_count == 26
    assert last.validation_data == people(*TEST).spec


def test_later_stages_keep_the_method_s_own_head(tmp_path: Path) -> None:
    method = Run(tmp_path / "out", "learned_loss:gap-margin")
    heads = [
        list(load_checkpoint(method.out / result.checkpoint)[0].heads) for result in method.results
    ]
    assert heads == [["conv-kl", "gap-margin"], ["gap-margin"], ["gap-margin"]]


@pytest.mark.parametrize("method", ["learned_loss", "learned_loss:gap-margin"])
def test_the_highest_predicted_losses_are_taken(tmp_path: Path, method: str) -> None:
    """By each stage's own network and the method's head, of those who are left, highest first."""
    done, pool, left = Run(tmp_path / "out", method), people(*POOL), list(range(POOL[1]))
    head = method.partition(":")[2] or "conv-kl"
    for result in done.results:
        network, recipe, _ = load_checkpoint(done.out / result.checkpoint)
        scores = score(network, recipe, pool, torch.device("cpu"))
        losses = scores.predicted_losses[head]
        best = sorted(left, key=lambda index: -losses[index])[:BUDGET]
        assert list(result.selected) == [pool.ids[index] for index in best]
        assert result.selected_loss == pytest.approx(scores.true_loss[best].mean(), rel=1e-5)
        assert result.selected_loss_sd == pytest.approx(scores.true_loss[best].std(), rel=1e-4)
        assert result.pool_loss == pytest.approx(scores.true_loss[left].mean(), rel=1e-5)
        left = [index for index in left if index not in best]


def test_methods_share_the_base_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []

    def counting(
        recipe: Any, data: PoseSet, validation: PoseSet, out: Path, *rest: Any, **more: Any
    ) -> Any:
        trained.append(str(out.relative_to(tmp_path)))
        return train(recipe, data, validation, out, *rest, **more)

    monkeypatch.setattr(stage, "train", counting)
    recipe = replace(RECIPE, methods=("random", "coreset"), stages=2, repeats=2)
    runs = go(recipe, tmp_path)
    assert trained == [
        "seed-0/base", "seed-0/random/stage-2", "seed-0/coreset/stage-2",
        "seed-1/base", "seed-1/random/stage-2", "seed-1/coreset/stage-2",
    ]  # fmt: skip
    assert [(done.seed, done.method) for done in runs] == [
        (0, "random"), (0, "coreset"), (1, "random"), (1, "coreset"),
    ]  # fmt: skip
    first, other, second = (done.stages[0] for done in runs[:3])
    assert (first.test, first.pool_pck, first.checkpoint) == (
        other.test, other.pool_pck, other.checkpoint,
    )  # fmt: skip
    assert first.selected != other.selected
    assert second.selected != first.selected  # another seed draws otherwise
    assert second.pool_loss != first.pool_loss  # and trains otherwise


def test_coreset_keeps_away_from_the_labelled(tmp_path: Path) -> None:
    """Of each stage's own network, whose embeddings of the labelled set it is given too."""
    done, pool = Run(tmp_path / "coreset", "coreset"), people(*POOL)
    labelled, left = people(*BASE), list(range(len(pool)))
    for result in done.results:
        network, recipe, _ = load_checkpoint(done.out / result.checkpoint)
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
    done, pool = Run(tmp_path / "run", name), people(*POOL)
    network, recipe, _ = load_checkpoint(done.folder / "stage-2")
    taken = [pool.ids.index(one) for one in done.results[0].selected]
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
    assert list(done.results[1].selected) == [left.ids[i] for i in picked]


def test_a_committee_trains_with_the_run(tmp_path: Path) -> None:
    """On the same labels, each from its own weights; and it is asked."""
    done, pool = Run(tmp_path / "run", "committee"), people(*POOL)
    names = [f"stage-{number}-member-{member}" for number in (1, 2, 3) for member in (1, 2)]
    assert {path.name for path in done.folder.glob("*-member-?")} == set(names)
    base = people(*BASE).ids
    for number in (1, 2, 3):
        labels = (*base, *chosen(done.results[: number - 1]))
        assert done.trained_on.count(labels) == 3
    starts = {done.folder / f"stage-{number}-member-{m}" for number in (1, 2) for m in (1, 2)}
    assert starts < set(done.started_from)
    seeds = [load_checkpoint(done.folder / name)[1].fit.seed for name in names[:2]]
    assert len({0, *seeds}) == 3
    checkpoints = [done.out / "seed-0" / "base", *(done.folder / name for name in names[:2])]
    network, *members = (load_checkpoint(path)[0] for path in checkpoints)
    recipe, device = RECIPE.training, torch.device("cpu")
    view = network_view(network, recipe, pool, people(*BASE), device, members)
    points = np.concatenate(list(view.committee_points()), axis=1)
    spread = points.var(axis=0).sum(axis=-1).mean(axis=-1)
    best = sorted(range(len(pool)), key=lambda index: -spread[index])[:BUDGET]
    assert list(done.results[0].selected) == [pool.ids[index] for index in best]


def test_a_sampler_is_given_what_the_network_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head's loss, signals that rise with the risk, and nothing that it did not ask for."""
    given: list[Candidates] = []

    def spy(candidates: Candidates, budget: int, rng: np.random.Generator) -> list[int]:
        given.append(candidates)
        return list(range(budget))

    monkeypatch.setattr(stage, "sampler_named", lambda name: spy)
    scored: list[str] = []

    def counting(network: Any, recipe: Any, data: PoseSet, *rest: Any) -> Any:
        scored.append(data.spec)
        return score(network, recipe, data, *rest)

    monkeypatch.setattr(stage, "score", counting)
    done = Run(tmp_path / "spy", "random")
    network, recipe, _ = load_checkpoint(done.out / "seed-0" / "base")
    scores = score(network, recipe, people(*POOL), torch.device("cpu"))
    first = given[0]
    assert tuple(first.ids) == people(*POOL).ids
    np.testing.assert_allclose(first.predicted_loss, scores.predicted_losses["conv-kl"], atol=1e-5)
    assert first.predicted_losses["conv-kl"] is first.predicted_loss
    assert list(first.predicted_losses) == ["conv-kl", "gap-margin"]
    risks = scores.risk_scores()
    for name, risk in first.signals.items():
        turned = risks[name] if name in risks else risks[f"-{name}"]
        np.testing.assert_allclose(risk, turned, atol=1e-5)
    assert list(first.signals) == list(SIGNALS)
    np.testing.assert_allclose(first.embedding(), scores.embedding, atol=1e-5)
    assert first.true_loss is not None
    np.testing.assert_allclose(first.true_loss(), scores.true_loss, atol=1e-5)
    assert scored == [people(*POOL).spec] * STAGES
    network, recipe, _ = load_checkpoint(done.folder / "stage-2")
    labelled = join([people(*BASE), subset(people(*POOL), range(BUDGET))])
    of_labelled = score(network, recipe, labelled, torch.device("cpu")).embedding
    np.testing.assert_allclose(given[1].labelled_embedding(), of_labelled, atol=1e-5)


def test_the_record_grows_with_every_stage(learned: Run) -> None:
    assert learned.written == [0, 1, 2]
    assert sorted(str(path.relative_to(learned.out)) for path in learned.out.glob("*/*")) == [
        "seed-0/base", "seed-0/base-logs", "seed-0/base-scores.npz", "seed-0/learned_loss",
    ]  # fmt: skip
    assert sorted(path.name for path in learned.folder.iterdir()) == [
        "results.json", "stage-2", "stage-2-logs", "stage-3", "stage-3-logs",
    ]  # fmt: skip


def test_the_record_says_what_was_run(learned: Run) -> None:
    assert json.loads((learned.out / "cycle.json").read_text("utf-8")) == {
        "recipe": to_dict(RECIPE),
        "keypoints": list(LSP.names),
        "base": people(*BASE).spec,
        "pool": people(*POOL).spec,
        "test": people(*TEST).spec,
    }
    stages = json.loads((learned.folder / "results.json").read_text("utf-8"))
    for number, (got, result) in enumerate(zip(stages, learned.results, strict=True), 1):
        assert got["stage"] == result.stage == number
        assert got["selected"] == list(result.selected)
        assert got["labels"] == result.labels
        assert got["test"] == result.test
        assert set(got["test"]) >= {"pck", "persons"}
        assert 0 <= got["selected_pck"] <= 1
        assert 0 <= got["pool_pck"] <= 1
        assert got["seconds"] >= 0


def test_random_depends_on_the_repeat_s_seed(tmp_path: Path) -> None:
    runs = [Run(tmp_path / name, "random", seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    first, same, other = (chosen(done.results) for done in runs)
    assert first == same
    assert first[:BUDGET] != other[:BUDGET]
    assert len(set(first)) == BUDGET * STAGES


def test_the_pool_is_too_small(tmp_path: Path) -> None:
    message = r"3 stages of 7 need a pool of 21; synthetic:7,20,0-1 has 20. Lower the budget"
    with pytest.raises(InvalidInput, match=message) as error:
        go(replace(RECIPE, budget=7), tmp_path / "out")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_the_whole_pool_may_be_taken(tmp_path: Path) -> None:
    (done,) = go(replace(RECIPE, budget=20, stages=1), tmp_path / "out")
    (result,) = done.stages
    assert sorted(result.selected) == sorted(people(*POOL).ids)
    assert result.selected_pck == pytest.approx(result.pool_pck)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_sets_that_share_a_person_are_refused(tmp_path: Path, which: int) -> None:
    sets = [people(*BASE), people(*POOL), people(*TEST)]
    sets[which] = join([sets[which], subset(sets[which - 1], [0])])
    with pytest.raises(DataError, match=r"share 1 person\(s\)"):
        run_cycle(RECIPE, sets[0], sets[1], sets[2], tmp_path / "out", CPU)


def test_a_pool_without_labels_is_refused_at_once(tmp_path: Path) -> None:
    write_images(tmp_path / "pool", 3)
    pool = open_data(f"images:{tmp_path / 'pool'}")
    recipe = replace(RECIPE, budget=1, stages=1)
    with pytest.raises(DataError, match=r"pool has 3 person\(s\) without a label"):
        run_cycle(recipe, people(*BASE), pool, people(*TEST), tmp_path / "out", CPU)
    assert not (tmp_path / "out").exists()
