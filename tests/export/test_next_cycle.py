"""The next step of active learning: on a real store, with real trainings of a tiny net."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from docs.helpers import invoke
from export.cycling import STREAMED, Fleet, states
from misgiving.collector.control.releases import Releases
from misgiving.collector.frames.selection import FrameSelection, count_frames
from misgiving.collector.frames.standing import batch_counts
from misgiving.export.next_cycle.asked import TEMPLATE
from misgiving.export.next_cycle.record import STEPS, Cycle, seen_cycle
from misgiving.export.next_cycle.releasing import find_field
from misgiving.export.next_cycle.run import Planned, run_of, run_plan
from misgiving.runtime import Bundle, Estimator, pack_bundle, sign_bundle
from misgiving.runtime.bundles.locate import DEFAULT_BUNDLE
from misgiving.runtime.durable import locked_folder
from misgiving.runtime.errors import DataError, InUse, InvalidInput, MisgivingError
from misgiving.runtime.labelset import read_labels
from misgiving.trainer import evaluate
from misgiving.trainer.checkpoint import load_record
from misgiving.trainer.data import PoseSet, synthetic
from shared import tiny
from shared.collecting import files_below
from shared.training import CPU, people


def people_of(seed: int, count: int, difficulty: tuple[float, float]) -> PoseSet:
    return people(seed, count, *difficulty)


class Crash(Exception):
    """Instead of a kill."""


def crash_before_each_note(patch: pytest.MonkeyPatch) -> list[str]:
    """Each step is done, and the first time the process ends before that is noted."""
    crashed: list[str] = []
    finish = Cycle.finish

    def crash(cycle: Cycle, step: str, came: dict[str, Any]) -> None:
        if step not in crashed:
            crashed.append(step)
            raise Crash(step)
        finish(cycle, step, came)

    patch.setattr(Cycle, "finish", crash)
    return crashed


def go_on(fleet: Fleet, **more: Any) -> dict[str, Planned]:
    """The same command until it comes through."""
    while True:
        try:
            return fleet.go(**more)
        except Crash:
            pass


def batches(fleet: Fleet) -> list[tuple[str, int]]:
    """What the store knows of exports: names and numbers of frames."""
    with fleet.store() as store, store.database.connect(reads=True) as connection:
        return [(one.name, one.frames) for one in batch_counts(connection)]


def ids(path: Path) -> set[str]:
    """Of which frames a list has persons: the first digits of their digests."""
    return {line[:16] for line in path.read_text().split()}


@pytest.mark.slow
def test_a_cycle_that_is_stopped_behind_every_step(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthetic, "open_synthetic", people_of)  # each person is rendered once
    crashed = crash_before_each_note(monkeypatch)
    waits = go_on(fleet)
    assert list(states(waits).values()) == ["done", "done", "waits for you", *["later"] * 6]
    assert batches(fleet) == [(fleet.tasks.name, 14)]
    noted = (fleet.out / "cycle.json").read_bytes()
    again = fleet.go()
    assert states(again) == states(waits)
    assert again["train"].said.startswith("tiny, 1 epochs of 16 persons and the new ones; 0.001 G")
    assert (fleet.out / "cycle.json").read_bytes() == noted

    fleet.label(fleet.out / "labels" / "project-1.json")
    waits = go_on(fleet, release=True)  # which nobody can mean who has not seen a comparison
    assert list(states(waits).values())[-3:] == ["done", "waits for you", "later"]
    assert ids(fleet.out / "audit.txt") == {one[:16] for one in fleet.picks.drawn}
    taught = ids(fleet.out / "train.txt")
    persons = read_labels(fleet.out / "labelset").persons
    held_out = {one.id[:16] for one in persons if one.split != "train"}
    assert taught == {one[:16] for one in fleet.picks.picked} - held_out
    assert load_record(fleet.out / "checkpoint").label_count == 16 + len(taught)
    comparison = json.loads((fleet.out / "comparison.json").read_bytes())
    shipped = evaluate(Estimator.load(DEFAULT_BUNDLE, threads=1), people(4, 24, 0.0, 1.0))
    assert comparison["differences"]["pck"]["field"] == shipped.failures.pck.record()
    assert comparison["worse"][0] == "PCK@0.2"  # the new one has learnt nearly nothing
    assert "although it is worse in PCK@0.2" in waits["sign"].said

    assert set(states(go_on(fleet, release=True)).values()) == {"done"}
    assert crashed == list(STEPS)
    said: list[str] = []
    assert set(states(fleet.go(release=True, say=said.append)).values()) == {"done"}
    assert said[-1].endswith(f"among the data, and init = '{fleet.out / 'checkpoint'}'")
    manifest = Bundle.load(fleet.out / "release/bundle.zip").manifest
    assert (manifest.name, manifest.version) == ("lite-lsp", "week-48")
    listed = invoke(["fleet", "release", "list", "--store", str(fleet.folder / "store")])
    assert listed.count("week-48") == 1


KILLED = """
import os, signal
from misgiving.export.next_cycle import tasks
from misgiving.runtime.verbs import command
tasks.record_batch = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
command.main()
"""
"""The command, which is killed when the batch is on the disk and the store does not know it."""


@pytest.mark.slow
def test_a_process_that_is_killed_in_a_step(fleet: Fleet) -> None:
    fleet.asked()
    command = [sys.executable, "-c", KILLED, "next-cycle", str(fleet.file), "--out", str(fleet.out)]
    done = subprocess.run([*command, "--threads", "1"], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    picks, pictures = fleet.picks, files_below(fleet.out / "tasks")
    assert batches(fleet) == []
    assert fleet.go()["tasks"].state == "done"
    assert (fleet.picks, files_below(fleet.out / "tasks")) == (picks, pictures)
    assert batches(fleet) == [(fleet.tasks.name, 14)]
    with fleet.store() as store, store.database.connect(reads=True) as connection:
        assert count_frames(connection, FrameSelection(new=True))[0] == len(STREAMED) - 14


def test_a_process_that_is_killed_in_its_first_step_leaves_a_folder_that_goes_on(
    fleet: Fleet,
) -> None:
    (fleet.out / "selected.part").mkdir(parents=True)
    (fleet.out / ".cycle.json.0badcafe").touch()
    assert fleet.go()["tasks"].state == "done"


def test_a_plan_writes_nothing(fleet: Fleet) -> None:
    planned = {one.name: one for one in run_plan(fleet.asked(), fleet.out, CPU, None, False)}
    assert "24 frames are new and fit, 10 of them of the audit sample" in planned["select"].said
    assert "6 of high predicted loss that differ, 8 at random" in planned["select"].said
    assert planned["train"].said.startswith("tiny, 1 epochs of what is labelled and the new ones;")
    assert states(planned)["import"] == "waits for you"
    assert not fleet.out.exists()
    assert batches(fleet) == []


def test_the_command_says_it_to_programs(fleet: Fleet) -> None:
    fleet.asked()
    words = ["next-cycle", str(fleet.file), "--out", str(fleet.out), "--threads", "1"]
    planned = json.loads(invoke([*words, "--plan", "--json"]))
    assert [(one["name"], one["state"]) for one in planned][:2] == [
        ("select", "next"),
        ("tasks", "next"),
    ]
    (line,) = invoke([*words, "--json"]).splitlines()
    assert json.loads(line)[0]["state"] == "done"
    lines = invoke(words).splitlines()
    assert lines[1].split()[:3] == ["1", "select", "done"]
    assert lines[-1].startswith("import waits: somebody labels")
    assert invoke(["next-cycle", "--describe"]) == TEMPLATE


def test_two_at_once(fleet: Fleet) -> None:
    with locked_folder(fleet.out), pytest.raises(InUse, match=r"week-48 is in use"):
        fleet.go()


def test_a_file_that_is_changed_behind_a_step(fleet: Fleet) -> None:
    fleet.go()
    with pytest.raises(InvalidInput, match=r"select.budget is 7, and .* begun with 6.*select is"):
        fleet.go(fleet.asked("budget = 6", "budget = 7"))
    other = fleet.asked("synthetic:4,24", "synthetic:4,20")
    assert fleet.go(other)["import"].state == "waits for you"
    assert json.loads((fleet.out / "cycle.json").read_bytes())["asked"]["measure.data"][-2:] == "20"


def test_a_field_that_is_changed_behind_the_selection(fleet: Fleet) -> None:
    fleet.go()
    (fleet.out / "selected/field.zip").unlink()
    pack_bundle(tiny.BUNDLE, fleet.out / "selected/field.zip")
    run = run_of(fleet.asked(), seen_cycle(fleet.out, fleet.asked()), CPU, None, False)
    with pytest.raises(DataError, match=r"field.zip has digest .* as when the frames were picked"):
        run.field()


def test_the_newest_release_that_is_not_halted_is_in_the_field(fleet: Fleet) -> None:
    trust = fleet.folder / "release.key.pub"
    with fleet.store() as store:
        releases = Releases(store.database)
        with pytest.raises(DataError, match=r"no release that is not halted; .* field.bundle"):
            find_field(store, None)
        digests = []
        for number in (1, 2):
            copy = Path(shutil.copytree(tiny.BUNDLE, fleet.folder / f"bundle-{number}"))
            manifest = json.loads((copy / "manifest.json").read_bytes()) | {"release": number}
            (copy / "manifest.json").write_text(json.dumps(manifest))
            sign_bundle(copy, fleet.folder / "release.key")
            pack_bundle(copy, fleet.folder / f"{number}.zip")
            digests.append(releases.announce(fleet.folder / f"{number}.zip", trust).digest)
        assert find_field(store, None).digest == digests[1]
        releases.halt(digests[1], "it is bad")
        assert find_field(store, None).digest == digests[0]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("budget = 6", "budgets = 6", r"select.budgets: Extra .*expected budget, audit, .*\[sel"),
        ("budget = 6", "budget = 0", r"select.budget: .* greater than or equal to 1, not 0"),
        ("[store]\npath", "[shop]\npath", r"store: Field required; expected \[store\], \[select"),
        ("[train]", '[attach]\nnet = "n"\ndata = ["x"]\n[train]', r"either \[train\] or \[attach"),
        ("[store]", "[store", "is no TOML"),
        ("release.key", "lost.key", "lost.key cannot be read"),
        ("synthetic:3,256", "synthetic:3,255", "255 persons; parity needs at least 256"),
        ("synthetic:4,24", "synthetic:3,24", "share 24 person"),
        ("synthetic:4,24", "synthetic:1,48,0-0.5#17-20", "of the training data"),
        ("audit = 8", 'device = ["bus-*"]', "no frame that fits and is new"),
        ("audit = 8", 'since = "soon"', "time is 'soon'; expected 2026-11-29"),
        ('bundle = "', 'bundle = "lost', "is no bundle"),
        ('store"', 'shop"', "is no store"),
    ],
)
def test_what_is_refused(fleet: Fleet, old: str, new: str, said: str) -> None:
    with pytest.raises(MisgivingError, match=said) as raised:
        fleet.go(fleet.asked(old, new))
    assert "\n" not in str(raised.value)
    assert not fleet.out.exists()


def test_a_folder_with_something_else(fleet: Fleet) -> None:
    fleet.out.mkdir()
    (fleet.out / "thesis.tex").touch()
    with pytest.raises(DataError, match="is there already"):
        fleet.go()
    (fleet.out / "cycle.json").write_text("{}")
    with pytest.raises(DataError, match=r"id: Field required; expected the record of a cycle"):
        fleet.go()


def test_labels_that_cannot_be_read(fleet: Fleet) -> None:
    fleet.go()
    path = fleet.out / "labels" / "mine.json"
    path.write_text("{")
    with pytest.raises(DataError, match=f"{path.parent}/annotations.json"):
        fleet.go()
    path.unlink()
    assert fleet.go()["import"].state == "waits for you"
