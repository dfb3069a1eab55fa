"""The page of a cycle: what was run, what came of it, and whom each method chose."""

import inspect
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from misgiving.runtime.draw import SIDES
from misgiving.runtime.durable import write_durably
from misgiving.runtime.errors import DataError
from misgiving.trainer import page
from misgiving.trainer.checkpoint import load_record
from misgiving.trainer.cycle import summary
from misgiving.trainer.cycle.curves import DRAWN, curves, lines
from misgiving.trainer.cycle.picks import chosen_alone, compare_picks
from misgiving.trainer.cycle.pictures import Prediction, pictures, predictions
from misgiving.trainer.cycle.recipe import CycleRecipe, method_of
from misgiving.trainer.cycle.record import CYCLE, RESULTS, CycleRun, run_folder, seed_folder
from misgiving.trainer.cycle.scores import read_scores
from misgiving.trainer.data.base import PoseSet
from misgiving.trainer.data.spec import without_folders
from misgiving.trainer.samplers import sampler_named

REPORT = "report.html"
FIRST, ALONE = 8, 6
"""Persons shown of a method at a stage: the first that it chose, and those whom only it chose."""
_LIGHT = 40
"""Methods × stages up to which they are so many; with more the page would pass some 5 MB."""


def write_cycle_report(
    out: Path | str, recipe: CycleRecipe, runs: Sequence[CycleRun], pool: PoseSet
) -> Path:
    """Write or renew ``report.html`` in a cycle's folder, and give its path.

    Its pictures show the pool's people, so the folder is given a ``.gitignore`` of its own.

    >>> recipe = cycle_named("demo", methods=("random",), epochs=1, budget=8, stages=1)
    >>> base, pool, test = (open_data(f"synthetic:{seed},32") for seed in (1, 2, 3))
    >>> out, compute = Path("runs/shown"), Compute(device="cpu", threads=1)
    >>> runs = run_cycle(recipe, base, pool, test, out, compute)
    >>> write_cycle_report(out, recipe, runs, pool).name
    'report.html'

    Args:
        out: the cycle's folder.
        recipe: what was run.
        runs: what :func:`run_cycle` gave.
        pool: what was selected from; who cannot be read any more is not shown.
    """
    out = Path(out)
    base_model = _base_predictions(out, runs[0].seed, pool)
    count, drawn = summary.stage_count(runs), curves(runs)
    text = page.render(
        __package__,
        REPORT + ".j2",
        **_facts(out, recipe, runs, pool),
        recipe=recipe,
        verdict=summary.verdict(runs),
        look=SIDES,
        seed=runs[0].seed,
        titles=list(summary.NUMBERS.values()),
        reference=summary.reference(runs),
        together=drawn[: len(DRAWN)],
        apart=drawn[len(DRAWN) :],
        lines=lines(list(summary.by_method(runs))),
        predicted=bool(base_model),
        stages=[
            _stage(recipe, runs, pool, stage, {} if stage else base_model) for stage in range(count)
        ],
    )
    ignore = out / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")
    write_durably(out / REPORT, text.encode())
    return out / REPORT


def _base_predictions(out: Path, seed: int, pool: PoseSet) -> dict[str, Prediction]:
    """By the base model of a repeat, by id; none where they are lost."""
    path = seed_folder(out, seed) / "base-scores.npz"
    with suppress(DataError):
        return predictions(read_scores(path, pool.keypoints))
    return {}


def _facts(
    out: Path, recipe: CycleRecipe, runs: Sequence[CycleRun], pool: PoseSet
) -> dict[str, Any]:
    """What was run, on what, when."""
    header = json.loads((out / CYCLE).read_bytes())
    first = runs[0].stages[0]
    files = [run_folder(out, run.seed, run.method) / RESULTS for run in runs]
    samplers = dict.fromkeys(method_of(recipe, name).sampler for name in recipe.methods)
    last = max(file.stat().st_mtime for file in files)
    return {
        "data": {name: without_folders(header[name]) for name in ("base", "pool", "test")},
        "sizes": {"base": first.labels, "pool": len(pool), "test": first.test.get("persons")},
        "synthetic": pool.spec.startswith("synthetic:"),
        "commit": _commit(seed_folder(out, runs[0].seed) / "base"),
        "date": datetime.fromtimestamp(last, timezone.utc).strftime("%Y-%m-%d"),
        "rules": {name: _rule(name) for name in samplers},
        "first_head": recipe.training.model.heads[0].name,
    }


def _commit(checkpoint: Path) -> str:
    with suppress(DataError):
        return load_record(checkpoint).commit
    return ""


def _rule(sampler: str) -> str:
    """How its module describes a sampler: the first two paragraphs, but for the axes."""
    text = inspect.getdoc(inspect.getmodule(sampler_named(sampler))) or ""
    parts = [" ".join(part.split()) for part in text.split("\n\n")[:2]]
    return " ".join(part for part in parts if not part.startswith("Axes"))


def _stage(
    recipe: CycleRecipe,
    runs: Sequence[CycleRun],
    pool: PoseSet,
    stage: int,
    predicted: Mapping[str, Prediction],
) -> dict[str, Any]:
    """One stage, counted from 0, for the template."""
    seed = runs[0].seed
    chosen = {run.method: run.stages[stage].selected for run in runs if run.seed == seed}
    alone = chosen_alone(runs, seed, stage)
    share = min(1.0, _LIGHT / (len(chosen) * summary.stage_count(runs)))
    sheets: dict[str, dict[str, Sequence[str]]] = {
        "first": {method: ids[: max(2, int(FIRST * share))] for method, ids in chosen.items()},
        "alone": {method: ids[: max(2, int(ALONE * share))] for method, ids in alone.items()},
    }
    wanted = {name for sheet in sheets.values() for ids in sheet.values() for name in ids}
    made = pictures(pool, wanted, recipe.training.model.crop, predicted)
    return {
        "labels": runs[0].stages[stage].labels,
        "entries": summary.entries(runs, stage),
        "picks": compare_picks(runs, stage),
        "by_chance": (stage + 1) * recipe.budget / len(pool),
        "alone_counts": {method: len(ids) for method, ids in alone.items()},
        "sheets": {
            which: {method: [made[i] for i in ids if i in made] for method, ids in sheet.items()}
            for which, sheet in sheets.items()
        },
        "unread": len(wanted) - len(made),
    }
