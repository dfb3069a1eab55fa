"""A tiny cycle of real trainings."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from misgiving.trainer.cycle import record, stage
from misgiving.trainer.cycle.recipe import CycleRecipe
from misgiving.trainer.cycle.record import CycleRun, StageResult
from misgiving.trainer.cycle.run import run_cycle
from misgiving.trainer.data import PoseSet
from misgiving.trainer.training import train
from shared.training import CPU, TINY, people

RECIPE = CycleRecipe(
    name="tiny",
    training=replace(TINY, fit=replace(TINY.fit, epochs=1, seed=0)),
    methods=("learned_loss",),
    budget=5,
    stages=3,
)
BASE, POOL, TEST = (1, 16), (7, 20, 0.0, 1.0), (2, 8)
BUDGET, STAGES = RECIPE.budget, RECIPE.stages


def go(recipe: CycleRecipe, out: Path) -> list[CycleRun]:
    return run_cycle(recipe, people(*BASE), people(*POOL), people(*TEST), out, CPU)


class Run:
    """A whole cycle of one method, and what each of its trainings was given."""

    def __init__(self, out: Path, method: str, seed: int = 0) -> None:
        self.trained_on: list[tuple[str, ...]] = []
        self.started_from: list[Path | None] = []
        self.written: list[int] = []
        self.folder = out / f"seed-{seed}" / method.replace(":", "-")
        self.out = out
        training = replace(RECIPE.training, fit=replace(RECIPE.training.fit, seed=seed))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stage, "train", self._train)
            (done,) = go(replace(RECIPE, methods=(method,), training=training), out)
        assert (done.seed, done.method) == (seed, method)
        self.results = list(done.stages)

    def _train(self, recipe: object, data: PoseSet, *rest: Any, **named: Any) -> object:
        self.trained_on.append(data.ids)
        self.started_from.append(rest[3] if len(rest) > 3 else None)
        self.written.append(len(record.read_stages(self.folder)))
        return train(recipe, data, *rest, **named)


def chosen(results: "list[StageResult] | tuple[StageResult, ...]") -> list[str]:
    return [name for result in results for name in result.selected]
