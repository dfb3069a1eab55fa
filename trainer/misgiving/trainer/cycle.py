"""The active-learning cycle: train → score the pool → select → train on.

Stage 1 trains on the base set. Every stage then scores what is left of the pool with its own
network and selects; the next stage trains on from those weights, with all labels so far.
"""

import itertools
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from misgiving.runtime.durable import check_new
from misgiving.runtime.errors import InvalidInput
from misgiving.trainer import metrics, progress
from misgiving.trainer.config import Recipe
from misgiving.trainer.data import PoseSet, check_apart, join, subset
from misgiving.trainer.samplers import sampler_named
from misgiving.trainer.scoring import Scores, score
from misgiving.trainer.training import Compute, Trained, train

RESULTS = "results.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class CycleConfig:
    """One active-learning run; see :func:`run_cycle`."""

    sampler: str
    budget: int
    """Persons labelled between two stages."""
    stages: int
    """Trainings; the last stage selects too, for the next one that somebody may run."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Check ranges and the sampler's name."""
        sampler_named(self.sampler)
        if self.budget < 1 or self.stages < 1:
            raise InvalidInput(
                f"budget is {self.budget} and stages {self.stages}; expected at least 1 of each"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class StageResult:
    """What one stage of :func:`run_cycle` did."""

    stage: int
    checkpoint: str
    """Folder beside ``results.json``."""
    labels: int
    test: dict[str, float]
    selected: tuple[str, ...]
    """Ids of the pool's persons, as the sampler picked them."""
    selected_pck: float | None
    """PCK@0.2 of the selected, by the network that selected them; lower is a better find."""
    pool_pck: float | None
    seconds: float


def run_cycle(
    recipe: Recipe,
    config: CycleConfig,
    base: PoseSet,
    pool: PoseSet,
    test: PoseSet,
    out: Path,
    compute: Compute,
) -> list[StageResult]:
    """Run a cycle; ``results.json`` in ``out`` grows with every stage.

    >>> results = run_cycle(
    ...     recipe_named("demo", epochs=1),
    ...     CycleConfig(sampler="learned_loss", budget=8, stages=2),
    ...     base=open_data("synthetic:1,32,0-0.4"),
    ...     pool=open_data("synthetic:2,40"),
    ...     test=open_data("synthetic:3,16"),
    ...     out=Path("runs/cycle"),
    ...     compute=Compute(device="cpu", threads=1),
    ... )
    >>> [(result.checkpoint, result.labels, len(result.selected)) for result in results]
    [('stage-1', 32, 8), ('stage-2', 40, 8)]

    Args:
        recipe: of every stage.
        config: sampler, budget, stages.
        base: labelled data of the first stage.
        pool: selected from; its labels are used once selected.
        test: measured on.
        out: new folder; takes a checkpoint a stage beside ``results.json``.
        compute: where.

    Raises:
        InvalidInput: the pool is smaller than what the stages will take.
        DataError: ``out`` holds something already, or two of the sets share a person.
    """
    if config.budget * config.stages > len(pool):
        raise InvalidInput(
            f"{config.stages} stages of {config.budget} need a pool of "
            f"{config.budget * config.stages}; {pool.spec} has {len(pool)}. Lower the budget"
        )
    check_new(out)
    for one, other in itertools.combinations((base, pool, test), 2):
        check_apart(one, other)
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(config.seed)
    left = list(range(len(pool)))
    taken: list[int] = []
    results: list[StageResult] = []
    for stage in range(1, config.stages + 1):
        start = time.monotonic()
        folder = out / f"stage-{stage}"
        labelled = join([base, subset(pool, taken)]) if taken else base
        init = out / f"stage-{stage - 1}" if stage > 1 else None
        trained = train(recipe, labelled, test, folder, compute, init, f"stage {stage}")
        remaining = subset(pool, left)
        scores = _score_pool(trained, remaining, compute)
        picked = sampler_named(config.sampler)(scores, config.budget, rng)
        seconds = time.monotonic() - start
        results.append(_result(stage, folder, labelled, trained, scores, picked, seconds))
        _write(out, recipe, config, (base, pool, test), results)
        taken += [left[position] for position in picked]
        gone = set(picked)
        left = [index for position, index in enumerate(left) if position not in gone]
    return results


def _score_pool(trained: Trained, pool: PoseSet, compute: Compute) -> Scores:
    counted = progress.counted(len(pool), "scoring the pool")
    return score(trained.network, trained.recipe, pool, compute.prepare(), counted)


def _result(
    stage: int,
    folder: Path,
    labelled: PoseSet,
    trained: Trained,
    scores: Scores,
    picked: list[int],
    seconds: float,
) -> StageResult:
    return StageResult(
        stage=stage,
        checkpoint=folder.name,
        labels=len(labelled),
        test=trained.record.metrics,
        selected=tuple(scores.ids[index] for index in picked),
        selected_pck=_finite(metrics.pck(scores.found[picked])),
        pool_pck=_finite(metrics.pck(scores.found)),
        seconds=round(seconds, 1),
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _write(
    out: Path,
    recipe: Recipe,
    config: CycleConfig,
    data: tuple[PoseSet, PoseSet, PoseSet],
    results: list[StageResult],
) -> None:
    base, pool, test = (part.spec for part in data)
    content: dict[str, Any] = {
        "recipe": recipe.name,
        **asdict(config),
        "base": base,
        "pool": pool,
        "test": test,
        "results": [asdict(result) for result in results],
    }
    part = out / (RESULTS + ".part")
    part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(part, out / RESULTS)
