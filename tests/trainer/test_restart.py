"""A killed training goes on, to weights that are bit by bit those of one that nobody killed."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from misgiving.runtime.errors import DataError
from misgiving.trainer import progress, restart
from misgiving.trainer.checkpoint import load_checkpoint
from misgiving.trainer.config import Recipe
from misgiving.trainer.fit import EpochLog
from misgiving.trainer.restart import Restart
from misgiving.trainer.training import train
from shared.training import CPU, TINY, people

EPOCHS = 4
RECIPE = replace(TINY, fit=replace(TINY.fit, epochs=EPOCHS))


class Killed(BaseException):
    """Nothing in the code catches it, as nothing catches SIGKILL."""


@pytest.fixture(autouse=True)
def _save_after_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart, "EVERY_S", 0.0)


def run(out: Path, recipe: Recipe = RECIPE) -> dict[str, Tensor]:
    train(recipe, people(1, 24), people(2, 8), out, CPU)
    return load_checkpoint(out)[0].state_dict()


def kill_in_epoch(out: Path, epoch: int, recipe: Recipe = RECIPE) -> None:
    """Let a training die when it tells of an epoch, which is before that epoch is saved."""

    def report(log: EpochLog) -> None:
        if log.epoch + 1 == epoch:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "epochs", lambda *_: nullcontext(report))
        with pytest.raises(Killed):
            run(out, recipe)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The weights of a training that nobody killed."""
    return run(tmp_path_factory.mktemp("whole") / "run")


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], value) for name, value in other.items())


@pytest.mark.parametrize("epochs", [(1,), (2,), (EPOCHS,), (2, 3), (3, 3, 4)])
def test_bit_by_bit(tmp_path: Path, whole: dict[str, Tensor], epochs: tuple[int, ...]) -> None:
    """Killed in one epoch, or in one after another, or in the same one again."""
    for epoch in epochs:
        kill_in_epoch(tmp_path / "run", epoch)
        assert not (tmp_path / "run").exists()
    assert same(run(tmp_path / "run"), whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run-logs"]


def test_bit_by_bit_with_dropout(tmp_path: Path) -> None:
    """Which draws from torch's own random numbers."""
    thin = replace(RECIPE, model=replace(RECIPE.model, dropout=0.5))
    kill_in_epoch(tmp_path / "killed", 2, thin)
    torch.rand(3)  # elsewhere these go on
    assert same(run(tmp_path / "killed", thin), run(tmp_path / "whole", thin))


def test_only_what_is_left_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_in_epoch(tmp_path / "run", 3)
    told: list[str] = []
    monkeypatch.setattr(progress, "print_line", told.append)
    seen: list[EpochLog] = []

    monkeypatch.setattr(progress, "epochs", lambda *_: nullcontext(seen.append))
    run(tmp_path / "run")
    assert [text.split()[5] for text in told if "going on" in text] == ["2"]
    assert [log.epoch for log in seen] == [2, 3]


def test_a_real_kill(tmp_path: Path, whole: dict[str, Tensor]) -> None:
    """SIGKILL itself, from within the reporter of the third epoch."""
    tests = Path(__file__).parents[1]
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(tests)!r})
from pathlib import Path
from shared.training import CPU, people
from misgiving.trainer import restart
from misgiving.trainer.recipes import recipe_named
from misgiving.trainer.training import train
restart.EVERY_S = 0.0
save = restart.Restart.save
def kill(self, state, epochs, last):
    save(self, state, epochs, last)
    if epochs == 3:
        os.kill(os.getpid(), signal.SIGKILL)
restart.Restart.save = kill
train(recipe_named({str(tmp_path / "recipe.json")!r}), people(1, 24), people(2, 8),
      Path({str(tmp_path / "run")!r}), CPU)
"""
    (tmp_path / "recipe.json").write_text(json.dumps(asdict(RECIPE)))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert (tmp_path / "run.restart").exists()
    assert same(run(tmp_path / "run"), whole)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 6}, r"run.restart is of a training with another recipe.fit.seed \(5, now 6\); "),
        ({"epochs": 9}, r"is of a training with another epochs \(4, now 9\); give the same opti"),
    ],
)
def test_another_training_does_not_go_on_with_it(
    tmp_path: Path, whole: dict[str, Tensor], changes: dict[str, Any], message: str
) -> None:
    kill_in_epoch(tmp_path / "run", 3)
    other = replace(RECIPE, fit=replace(RECIPE.fit, **changes))
    with pytest.raises(DataError, match=message) as error:
        run(tmp_path / "run", other)
    assert "\n" not in str(error.value)
    assert same(run(tmp_path / "run"), whole)  # and the right one still does


def test_other_persons_are_another_training(tmp_path: Path) -> None:
    kill_in_epoch(tmp_path / "run", 3)
    with pytest.raises(DataError, match=r"another data \(synthetic:1,24,0-0.5, now synthetic:1,23"):
        train(RECIPE, people(1, 23), people(2, 8), tmp_path / "run", CPU)


@pytest.mark.parametrize("content", [b"", b"PK", b"not torch's"])
def test_a_damaged_file_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.restart"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"run.restart is no training that can go on; remove it"):
        Restart(path, {})


def test_a_full_disk_keeps_what_was_saved(
    tmp_path: Path, whole: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_in_epoch(tmp_path / "run", 3)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            run(tmp_path / "run")
    assert same(run(tmp_path / "run"), whole)


def test_short_epochs_do_not_wait_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within EVERY_S of the start nothing is saved but the last epoch's state."""
    monkeypatch.setattr(restart, "EVERY_S", 3600.0)
    saved: list[int] = []
    monkeypatch.setattr(restart, "write_durably", lambda path, data: saved.append(len(data)))
    run(tmp_path / "run")
    assert len(saved) == 1


def test_two_processes_do_not_train_into_one_folder(tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from misgiving.runtime.durable import locked_folder
with locked_folder(Path({str(tmp_path / "run-logs")!r})):
    print("held", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(DataError, match=r"run-logs is in use by another process; wait for it"):
            run(tmp_path / "run")
        other.kill()
    run(tmp_path / "run")
