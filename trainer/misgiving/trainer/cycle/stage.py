"""One stage of one run: train on what was selected so far, score what is left of the pool, select.

The first stage is the base model, which all methods of a repeat share, and its scores.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from misgiving.trainer import progress
from misgiving.trainer.answers.scoring import Scores, score
from misgiving.trainer.checkpoint import load_checkpoint, load_record
from misgiving.trainer.config import Recipe
from misgiving.trainer.cycle.recipe import CycleRecipe, method_of
from misgiving.trainer.cycle.record import StageResult, run_folder, seed_folder
from misgiving.trainer.cycle.scores import read_scores, write_scores
from misgiving.trainer.data import PoseSet, join, subset
from misgiving.trainer.data.base import only
from misgiving.trainer.heatmaps import SAFER_SIGNALS, SIGNALS
from misgiving.trainer.measures import metrics
from misgiving.trainer.network_view import network_view
from misgiving.trainer.samplers import sampler_named
from misgiving.trainer.samplers.base import Candidates, NetworkView
from misgiving.trainer.training import Compute, train

COMMITTEE = 3
"""Networks of a committee, the run's own among them."""
_APART = 10_000
"""Between the seeds of a committee, which are not those of other repeats."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """One repeat of a cycle: its own seed, and so its own base model."""

    recipe: CycleRecipe
    base: PoseSet
    pool: PoseSet
    test: PoseSet
    out: Path
    compute: Compute
    seed: int

    @property
    def training(self) -> Recipe:
        """The recipe with this repeat's seed."""
        recipe = self.recipe.training
        return replace(recipe, fit=replace(recipe.fit, seed=self.seed))

    @property
    def base_model(self) -> Path:
        """Checkpoint of the first stage."""
        return seed_folder(self.out, self.seed) / "base"

    @property
    def base_scores(self) -> Path:
        """What it says of the whole pool."""
        return seed_folder(self.out, self.seed) / "base-scores.npz"

    def score(self, checkpoint: Path, data: PoseSet, what: str) -> Scores:
        """What a checkpoint says of some data."""
        network, recipe, _ = load_checkpoint(checkpoint)
        device = self.compute.prepare()
        return score(network, recipe, data, device, progress.counted(len(data), what))

    def view(
        self,
        checkpoint: Path,
        members: Sequence[Path],
        data: PoseSet,
        labelled: PoseSet,
        what: str,
    ) -> NetworkView:
        """A checkpoint, and the others of its committee, for samplers that ask networks."""
        network, recipe, _ = load_checkpoint(checkpoint)
        device = self.compute.prepare()

        def counted(count: int, part: str) -> Iterable[int]:
            return progress.counted(count, f"{what}, {part}")

        committee = [load_checkpoint(member)[0] for member in members]
        return network_view(network, recipe, data, labelled, device, committee, counted)


def make_base(repeat: Repeat) -> None:
    """Train the base model unless it is there, and score the pool with it."""
    name = f"seed {repeat.seed}, stage 1"
    if not repeat.base_model.exists():
        train(
            repeat.training,
            repeat.base,
            repeat.test,
            repeat.base_model,
            repeat.compute,
            what=name,
        )
    scores = repeat.score(repeat.base_model, repeat.pool, f"{name}, scoring the pool")
    write_scores(repeat.base_scores, scores)


def run_stage(repeat: Repeat, method: str, earlier: Sequence[StageResult]) -> StageResult:
    """The stage after some that are done."""
    start, stage, pool = time.monotonic(), len(earlier) + 1, repeat.pool
    taken = _positions(pool, earlier)
    labelled = join([repeat.base, subset(pool, taken)]) if taken else repeat.base
    what = f"seed {repeat.seed}, {method}, stage {stage}"
    checkpoint = _trained(repeat, method, labelled, stage, what)
    scores = _scored(repeat, checkpoint, taken, what)
    chosen = method_of(repeat.recipe, method)
    left = only(pool, scores.ids)  # who can be read, of those who were not taken
    ask_labelled = partial(repeat.score, checkpoint, labelled, f"{what}, scoring the labelled")
    members = _members(repeat, method, labelled, stage, what)
    view = repeat.view(checkpoint, members, left, labelled, what)
    # Each stage draws for itself: so it picks the same whether others ran before or not.
    rng = np.random.default_rng([repeat.seed, stage])
    candidates = _candidates(scores, chosen.head, ask_labelled, view)
    picked = sampler_named(chosen.sampler)(candidates, repeat.recipe.budget, rng)
    losses = scores.true_loss[picked]
    return StageResult(
        stage=stage,
        checkpoint=str(checkpoint.relative_to(repeat.out)),
        labels=len(labelled),
        test=load_record(checkpoint).metrics,
        selected=tuple(scores.ids[index] for index in picked),
        selected_pck=_finite(metrics.pck(scores.found[picked])),
        pool_pck=_finite(metrics.pck(scores.found)),
        selected_loss=float(losses.mean()),
        selected_loss_sd=float(losses.std()),
        pool_loss=float(scores.true_loss.mean()),
        seconds=round(time.monotonic() - start, 1),
    )


def _positions(pool: PoseSet, results: Sequence[StageResult]) -> list[int]:
    """Where in the pool the persons are that were selected so far."""
    at = {name: index for index, name in enumerate(pool.ids)} if results else {}
    return [at[name] for result in results for name in result.selected]


def _trained(repeat: Repeat, method: str, labelled: PoseSet, stage: int, what: str) -> Path:
    """The stage's checkpoint: the base model, an earlier process's, or a new one.

    Later stages train the method's own head alone: the others would only cost time.
    """
    if stage == 1:
        return repeat.base_model
    folder = run_folder(repeat.out, repeat.seed, method)
    checkpoint = folder / f"stage-{stage}"
    if not checkpoint.exists():
        init = repeat.base_model if stage == 2 else folder / f"stage-{stage - 1}"
        recipe = _with_head(repeat.training, method_of(repeat.recipe, method).head)
        train(recipe, labelled, repeat.test, checkpoint, repeat.compute, init, what)
    return checkpoint


def _members(repeat: Repeat, method: str, labelled: PoseSet, stage: int, what: str) -> list[Path]:
    """The further networks of a committee: the same labels, other seeds."""
    chosen = method_of(repeat.recipe, method)
    if chosen.sampler != "committee":
        return []
    folder = run_folder(repeat.out, repeat.seed, method)
    members = []
    for member in range(1, COMMITTEE):
        checkpoint = folder / f"stage-{stage}-member-{member}"
        if not checkpoint.exists():
            init = folder / f"stage-{stage - 1}-member-{member}" if stage > 1 else None
            recipe = _with_head(repeat.training, chosen.head)
            recipe = replace(recipe, fit=replace(recipe.fit, seed=repeat.seed + _APART * member))
            name = f"{what}, member {member}"
            train(recipe, labelled, repeat.test, checkpoint, repeat.compute, init, name)
        members.append(checkpoint)
    return members


def _with_head(recipe: Recipe, name: str) -> Recipe:
    heads = tuple(head for head in recipe.model.heads if head.name == name)
    return replace(recipe, model=replace(recipe.model, heads=heads))


def _scored(repeat: Repeat, checkpoint: Path, taken: Sequence[int], what: str) -> Scores:
    """What is said of those who were not selected yet."""
    if not taken:
        return read_scores(repeat.base_scores, repeat.pool.keypoints)
    could_be_read = read_scores(repeat.base_scores, repeat.pool.keypoints).ids
    left = only(subset(repeat.pool, _left(repeat.pool, taken)), could_be_read)
    return repeat.score(checkpoint, left, f"{what}, scoring the pool")


def _left(pool: PoseSet, taken: Sequence[int]) -> list[int]:
    return sorted(set(range(len(pool))) - set(taken))


def _candidates(
    scores: Scores, head: str, labelled: Callable[[], Scores], view: NetworkView
) -> Candidates:
    """What a sampler sees; the labelled set is only scored for a sampler that asks."""
    return Candidates(
        ids=scores.ids,
        predicted_loss=scores.predicted_losses[head],
        predicted_losses=scores.predicted_losses,
        signals={
            name: -scores.signal(name) if name in SAFER_SIGNALS else scores.signal(name)
            for name in SIGNALS
        },
        embedding=lambda: scores.embedding,
        labelled_embedding=lambda: labelled().embedding,
        true_loss=lambda: scores.true_loss,
        network=view,
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
