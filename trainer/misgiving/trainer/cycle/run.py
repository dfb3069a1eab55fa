"""Run a cycle: base models first, then every method of every repeat, each where it was left.

Several processes may run the same cycle at once: each takes what nobody else holds.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from misgiving.runtime.durable import locked_folder
from misgiving.runtime.errors import InUse, InvalidInput
from misgiving.trainer import progress
from misgiving.trainer.cycle import record
from misgiving.trainer.cycle.recipe import CycleRecipe, to_dict
from misgiving.trainer.cycle.record import CycleRun
from misgiving.trainer.cycle.stage import Repeat, make_base, run_stage
from misgiving.trainer.data import PoseSet, check_alike, check_apart, check_labelled
from misgiving.trainer.data.readable import readable_part
from misgiving.trainer.mirroring import mirroring
from misgiving.trainer.training import Compute, epochs_line

POLL_S = 1.0
"""Between two looks at what other processes hold."""


@dataclass(frozen=True, slots=True)
class _Task:
    """Something that one process does at a time."""

    folder: Path
    """Held meanwhile."""
    ready: Callable[[], bool]
    done: Callable[[], bool]
    do: Callable[[], None]


def run_cycle(
    recipe: CycleRecipe,
    base: PoseSet,
    pool: PoseSet,
    test: PoseSet,
    out: Path | str,
    compute: Compute,
) -> list[CycleRun]:
    """Run a cycle, or what is left of it, and give all its runs.

    A killed cycle goes on where it was: the same options with the same ``out`` skip what is done.
    With more stages, methods or repeats than before, a finished one goes on too. The same call in
    several processes at once shares the work.

    >>> runs = run_cycle(
    ...     cycle_named("demo", methods=("learned_loss",), epochs=1, budget=8),
    ...     base=open_data("synthetic:1,32,0-0.4"),
    ...     pool=open_data("synthetic:2,40"),
    ...     test=open_data("synthetic:3,16"),
    ...     out=Path("runs/cycle"),
    ...     compute=Compute(device="cpu", threads=1),
    ... )
    >>> [(stage.checkpoint, stage.labels, len(stage.selected)) for stage in runs[0].stages]
    [('seed-0/base', 32, 8), ('seed-0/learned_loss/stage-2', 40, 8)]

    Args:
        recipe: training, methods, budget, stages, repeats.
        base: labelled data of the first stage.
        pool: selected from; its labels are used once selected.
        test: measured on.
        out: new folder, or this cycle's.
        compute: where.

    Raises:
        InvalidInput: the pool is smaller than what the stages will take.
        DataError: ``out`` holds a cycle with other options or something else; two of the sets
            share a person, they have different keypoints, or somebody has no label.
    """
    out = Path(out)
    _check(recipe, base, pool, test)
    base, test = (readable_part(data, recipe.training.model.crop) for data in (base, test))
    training, line = mirroring(recipe.training, base.keypoints)
    recipe = replace(recipe, training=training)
    record.claim(out, _header(recipe, base, pool, test))
    fit, first, later = training.fit, "first stage: ", "later stages: "
    firstly = epochs_line(fit.epochs, fit.head_epochs)
    lastly = epochs_line(fit.continued_epochs, fit.head_epochs) if recipe.stages > 1 else ""
    progress.print_lines(firstly and first + firstly, lastly and later + lastly, line)
    repeats = [Repeat(recipe, base, pool, test, out, compute, seed) for seed in recipe.seeds]
    _work(list(itertools.chain.from_iterable(map(_tasks, repeats))))
    return [
        CycleRun(seed, method, tuple(record.read_stages(record.run_folder(out, seed, method))))
        for seed in recipe.seeds
        for method in recipe.methods
    ]


def _check(recipe: CycleRecipe, base: PoseSet, pool: PoseSet, test: PoseSet) -> None:
    if recipe.budget * recipe.stages > len(pool):
        raise InvalidInput(
            f"{recipe.stages} stages of {recipe.budget} need a pool of "
            f"{recipe.budget * recipe.stages}; {pool.spec} has {len(pool)}. Lower the budget"
        )
    check_alike([base, pool, test])
    check_labelled(pool)
    for one, other in itertools.combinations((base, pool, test), 2):
        check_apart(one, other)


def _header(recipe: CycleRecipe, base: PoseSet, pool: PoseSet, test: PoseSet) -> dict[str, Any]:
    """What a cycle is, as ``cycle.json`` has it."""
    return {
        "recipe": to_dict(recipe),
        "keypoints": list(base.keypoints.names),
        "base": base.spec,
        "pool": pool.spec,
        "test": test.spec,
    }


def _tasks(repeat: Repeat) -> list[_Task]:
    """The base model, and a run of each method once it is there."""
    base = _Task(
        record.seed_folder(repeat.out, repeat.seed),
        ready=lambda: True,
        done=repeat.base_scores.exists,
        do=lambda: make_base(repeat),
    )
    return [base, *(_run_task(repeat, method) for method in repeat.recipe.methods)]


def _run_task(repeat: Repeat, method: str) -> _Task:
    folder, stages = record.run_folder(repeat.out, repeat.seed, method), repeat.recipe.stages

    def do() -> None:
        results = record.read_stages(folder)
        while len(results) < stages:
            results.append(run_stage(repeat, method, results))
            record.write_stages(folder, results)

    return _Task(
        folder,
        ready=repeat.base_scores.exists,
        done=lambda: len(record.read_stages(folder)) >= stages,
        do=do,
    )


def _work(tasks: Sequence[_Task]) -> None:
    """Do what nobody else does until all is done, also what others leave undone."""
    waiting = False
    while left := [task for task in tasks if not task.done()]:
        if any(_attempt(task) for task in left if task.ready()):
            waiting = False
            continue
        if not waiting:
            progress.print_line(f"waiting for {len(left)} part(s) that other processes do")
            waiting = True
        time.sleep(POLL_S)


def _attempt(task: _Task) -> bool:
    """Do a task unless another process holds it."""
    with ExitStack() as held:
        try:
            held.enter_context(locked_folder(task.folder))
        except InUse:
            return False
        if not task.done():
            task.do()
    return True
