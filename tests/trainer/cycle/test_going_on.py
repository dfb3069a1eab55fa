"""A cycle that was killed, is finished, is another one, or is shared by several processes."""

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from misgiving.runtime.durable import locked_folder
from misgiving.runtime.errors import DataError
from misgiving.trainer.checkpoint import WEIGHTS
from misgiving.trainer.cycle import record, stage
from misgiving.trainer.cycle.recipe import CycleRecipe, to_dict
from shared.training import people
from trainer.cycle.whole import BASE, BUDGET, POOL, RECIPE, TEST, Run, chosen, go


def reseeded(recipe: CycleRecipe, seed: int) -> CycleRecipe:
    fit = replace(recipe.training.fit, seed=seed)
    return replace(recipe, training=replace(recipe.training, fit=fit))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            replace(RECIPE, budget=4),
            r"is of a cycle with another recipe.budget \(5, now 4\); give the",
        ),
        (
            reseeded(RECIPE, 4),
            r"cycle with another recipe.training.fit.seed \(0, now 4\); give the",
        ),
    ],
)
def test_another_cycle_is_not_mixed_in(learned: Run, recipe: CycleRecipe, message: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in learned.out.rglob("*")}
    with pytest.raises(DataError, match=message):
        go(recipe, learned.out)
    assert {path: path.stat().st_mtime_ns for path in learned.out.rglob("*")} == before


def test_a_finished_cycle_is_read_again(learned: Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in learned.out.rglob("*")}
    (again,) = go(RECIPE, learned.out)
    assert list(again.stages) == learned.results
    assert {path: path.stat().st_mtime_ns for path in learned.out.rglob("*")} == before


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"recipe": 1}', '{"recipe": {}}'])
def test_what_is_no_cycle_is_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / "cycle.json").write_text(content)
    with pytest.raises(DataError, match=r"cycle.json is no record of a cycle; name another"):
        go(RECIPE, tmp_path)
    assert (tmp_path / "cycle.json").read_text() == content


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"is there already; nothing is overwritten"):
        go(RECIPE, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", ["results.json", "base-scores.npz"])
def test_a_damaged_part_is_named(learned: Run, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    go(replace(RECIPE, stages=1), out)
    (path,) = out.rglob(name)
    path.write_bytes(b"{")
    with pytest.raises(DataError, match=name) as error:
        go(replace(RECIPE, methods=("learned_loss", "random")), out)
    assert "\n" not in str(error.value)


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
    ("module", "function", "killed_at"),
    [
        (stage, "train", 1),  # before anything is there
        (stage, "score", 1),  # the base model is there, its scores are not
        (stage, "train", 2),  # between two stages
        (stage, "score", 3),  # before the last selection
        (record, "write_stages", 3),  # the last selection was made and not written
    ],
)
def test_a_killed_cycle_goes_on_where_it_was(
    learned: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    function: str,
    killed_at: int,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, function, unless(getattr(module, function), killed_at))
        with pytest.raises(Killed):
            go(RECIPE, tmp_path / "out")
    (done,) = go(RECIPE, tmp_path / "out")
    assert [replace(r, seconds=0) for r in done.stages] == [
        replace(r, seconds=0) for r in learned.results
    ]
    last = Path("seed-0", "learned_loss", "stage-3", WEIGHTS)
    weights = [load_file(out / last) for out in (tmp_path / "out", learned.out)]
    assert all(torch.equal(weights[0][name], value) for name, value in weights[1].items())


def test_a_finished_cycle_goes_on_with_more(learned: Run, tmp_path: Path) -> None:
    for recipe in (
        replace(RECIPE, stages=1),
        RECIPE,
        replace(RECIPE, methods=("random", "learned_loss"), stages=1),
        replace(RECIPE, stages=1, repeats=2),
    ):
        runs = go(recipe, tmp_path / "out")
        of_learned = next(done for done in runs if done.method == "learned_loss")
        assert (
            chosen(of_learned.stages) == chosen(learned.results)[: len(of_learned.stages) * BUDGET]
        )


def test_what_others_hold_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process that is killed lets go of its part; who waits then takes it over."""
    recipe = replace(RECIPE, stages=1)
    go(recipe, tmp_path / "out")
    held = locked_folder(tmp_path / "out" / "seed-0" / "random")
    held.__enter__()
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            held.__exit__(None, None, None)

    monkeypatch.setattr(time, "sleep", wait)
    runs = go(replace(recipe, methods=("random", "coreset")), tmp_path / "out")
    assert [len(done.stages) for done in runs] == [1, 1]
    assert len(waits) == 2
    assert capsys.readouterr().err.count("waiting for 1 part(s) that other processes do") == 1


def test_processes_share_a_cycle(tmp_path: Path) -> None:
    """Two of them train each network once, and come to what one alone does."""
    recipe = replace(RECIPE, methods=("random", "coreset"), stages=2, repeats=2)
    (tmp_path / "mine.json").write_text(json.dumps(to_dict(recipe)))
    base, pool, test = (people(*numbers).spec for numbers in (BASE, POOL, TEST))
    command = [sys.executable, "-m", "misgiving", "cycle", "mine.json"]
    command += ["--base", base, "--pool", pool, "--test", test, "--threads", "1", "--out", "out"]
    both = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    trainings = [line for _, err in printed for line in err.splitlines() if "epoch 1/1" in line]
    assert sorted(line.partition(":")[0] for line in trainings) == [
        "seed 0, coreset, stage 2", "seed 0, random, stage 2", "seed 0, stage 1",
        "seed 1, coreset, stage 2", "seed 1, random, stage 2", "seed 1, stage 1",
    ]  # fmt: skip
    assert printed[0][0] == printed[1][0] != ""
    shared, alone = go(recipe, tmp_path / "out"), go(recipe, tmp_path / "alone")
    for ours, theirs in zip(shared, alone, strict=True):
        assert chosen(ours.stages) == chosen(theirs.stages)
        assert ours.stages[-1].test == theirs.stages[-1].test
