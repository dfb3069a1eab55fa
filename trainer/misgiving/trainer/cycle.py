"""The active-learning cycle: train → score the pool → select → train on.

Stage 1 trains on the base set. Every stage then scores what is left of the pool with its own
network and selects; the next stage trains on from those weights, with all labels so far.
"""

import itertools
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from misgiving.runtime.durable import check_new, locked_folder, write_durably
from misgiving.runtime.errors import DataError, InvalidInput
from misgiving.trainer import metrics, progress
from misgiving.trainer.checkpoint import Record, load_checkpoint
from misgiving.trainer.config import Recipe, to_dict
from misgiving.trainer.data import (
    PoseSet,
    check_alike,
    check_apart,
    check_labelled,
    join,
    subset,
)
from misgiving.trainer.heatmaps import SAFER_SIGNALS, SIGNALS
from misgiving.trainer.models import Network
from misgiving.trainer.network_view import network_view
from misgiving.trainer.restart import difference
from misgiving.trainer.samplers import sampler_named
from misgiving.trainer.samplers.base import Candidates, NetworkView
from misgiving.trainer.scoring import Scores, score
from misgiving.trainer.training import Compute, train

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


_RESULTS_ADAPTER = TypeAdapter(list[StageResult])


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

    A killed cycle goes on where it was: the same options with the same ``out`` skip the stages
    that are done. With more ``stages`` than before, a finished one goes on too.

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
        DataError: ``out`` holds a finished cycle, one with other options or something else; two of
            the sets share a person, they have different keypoints, or somebody has no label.
    """
    if config.budget * config.stages > len(pool):
        raise InvalidInput(
            f"{config.stages} stages of {config.budget} need a pool of "
            f"{config.budget * config.stages}; {pool.spec} has {len(pool)}. Lower the budget"
        )
    check_alike([base, pool, test])
    check_labelled(pool)
    for one, other in itertools.combinations((base, pool, test), 2):
        check_apart(one, other)
    sets = (base, pool, test)
    header = _header(recipe, config, sets)
    with locked_folder(out):
        results = _earlier(out, header, config.stages)
        while len(results) < config.stages:
            results.append(_stage(recipe, config, sets, out, compute, results))
            _write(out, header, results)
    return results


def _stage(
    recipe: Recipe,
    config: CycleConfig,
    sets: tuple[PoseSet, PoseSet, PoseSet],
    out: Path,
    compute: Compute,
    earlier: list[StageResult],
) -> StageResult:
    """Train on what the earlier stages selected too, score what is left of the pool, select."""
    base, pool, test = sets
    start, stage, taken = time.monotonic(), len(earlier) + 1, _positions(pool, earlier)
    labelled = join([base, subset(pool, taken)]) if taken else base
    network, resolved, record = _trained(recipe, labelled, test, out, stage, compute)
    ask = partial(_score, network, resolved, compute)
    left = sorted(set(range(len(pool))) - set(taken))
    scores = ask(subset(pool, left), "scoring the pool")
    view = network_view(
        network, resolved, subset(pool, left), labelled, compute.prepare(), (), progress.counted
    )
    candidates = _candidates(scores, lambda: ask(labelled, "scoring the labelled"), view)
    # Each stage draws for itself: so it picks the same whether others ran before or not.
    rng = np.random.default_rng([config.seed, stage])
    picked = sampler_named(config.sampler)(candidates, config.budget, rng)
    return StageResult(
        stage=stage,
        checkpoint=f"stage-{stage}",
        labels=len(labelled),
        test=record.metrics,
        selected=tuple(scores.ids[index] for index in picked),
        selected_pck=_finite(metrics.pck(scores.found[picked])),
        pool_pck=_finite(metrics.pck(scores.found)),
        seconds=round(time.monotonic() - start, 1),
    )


def _positions(pool: PoseSet, results: list[StageResult]) -> list[int]:
    """Where in the pool the persons are that were selected so far."""
    at = {name: index for index, name in enumerate(pool.ids)} if results else {}
    return [at[name] for result in results for name in result.selected]


def _trained(
    recipe: Recipe, labelled: PoseSet, test: PoseSet, out: Path, stage: int, compute: Compute
) -> tuple[Network, Recipe, Record]:
    """The stage's checkpoint: an earlier process's, or a new one."""
    folder = out / f"stage-{stage}"
    if not folder.exists():
        init = out / f"stage-{stage - 1}" if stage > 1 else None
        train(recipe, labelled, test, folder, compute, init, f"stage {stage}")
    return load_checkpoint(folder)


def _score(network: Network, recipe: Recipe, compute: Compute, data: PoseSet, what: str) -> Scores:
    return score(network, recipe, data, compute.prepare(), progress.counted(len(data), what))


def _candidates(scores: Scores, labelled: Callable[[], Scores], view: NetworkView) -> Candidates:
    """What a sampler sees; the labelled set is only scored for a sampler that asks."""
    return Candidates(
        ids=scores.ids,
        predicted_loss=scores.predicted_loss,
        signals={
            name: -scores.signal(name) if name in SAFER_SIGNALS else scores.signal(name)
            for name in SIGNALS
        },
        embedding=lambda: scores.embedding,
        labelled_embedding=lambda: labelled().embedding,
        predicted_losses=scores.predicted_losses,
        network=view,
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _header(
    recipe: Recipe, config: CycleConfig, data: tuple[PoseSet, PoseSet, PoseSet]
) -> dict[str, Any]:
    """What a cycle is: with the same, one that was killed goes on."""
    base, pool, test = data
    return {
        "recipe": to_dict(recipe),
        "keypoints": list(base.keypoints.names),
        "sampler": config.sampler,
        "budget": config.budget,
        "seed": config.seed,
        "base": base.spec,
        "pool": pool.spec,
        "test": test.spec,
    }


def _earlier(out: Path, header: dict[str, Any], stages: int) -> list[StageResult]:
    """The stages that an earlier process finished; ``results.json`` is there from now on."""
    path = out / RESULTS
    if not path.exists():
        check_new(out)
        _write(out, header, [])
        return []
    try:
        content = json.loads(path.read_bytes())
        results = _RESULTS_ADAPTER.validate_python(content.pop("results"))
    except (ValueError, KeyError) as error:
        raise DataError(f"{path} is no record of a cycle; name another --out") from error
    if found := difference(content, header):
        raise DataError(
            f"{path} is of a cycle with another {found}; give the same options to go on with it, "
            "or name another --out"
        )
    if len(results) >= stages:
        raise DataError(
            f"{out} holds a cycle with its {len(results)} stages done; nothing is overwritten. "
            "Ask for more --stages to go on with it, or name another --out"
        )
    if results:
        progress.print_line(f"{out}: going on after stage {len(results)} of {stages}")
    return results


def _write(out: Path, header: dict[str, Any], results: list[StageResult]) -> None:
    content = {**header, "results": [asdict(result) for result in results]}
    write_durably(out / RESULTS, (json.dumps(content, indent=2) + "\n").encode())
