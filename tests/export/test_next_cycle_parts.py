"""What a cycle is made of: its file, its picks, its labels, its calibration, its verdicts."""

import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.cycling import AUDIT_RATE, AUDITED, STREAMED, Fleet
from misgiving.collector.frames.selection import FrameSelection, every_frame
from misgiving.export.next_cycle.asked import (
    TEMPLATE,
    AnnotatorsTable,
    CalibrateTable,
    ExportTable,
    FieldTable,
    ReleaseTable,
    SelectTable,
    read_asked,
)
from misgiving.export.next_cycle.comparing import Difference, obstacle_of
from misgiving.export.next_cycle.models import calibrate, learn
from misgiving.export.next_cycle.selecting import Picks, pick, selection_of
from misgiving.export.next_cycle.tasks import Labels, export_tasks, take_labels
from misgiving.runtime import Bundle
from misgiving.runtime.bundles.locate import DEFAULT_BUNDLE
from misgiving.runtime.keypoints import LSP
from misgiving.runtime.labelset import read_labels
from misgiving.trainer import Estimate
from shared import tiny
from shared.annotating import edit
from shared.foreign import write_net
from shared.rows import database_of, mark, row
from shared.training import CPU

ROWS = [row(number, max_predicted_loss=number / 10, reason="shadow") for number in range(8)]


def test_picks_are_of_both_kinds(fleet: Fleet) -> None:
    asked = SelectTable(budget=6, audit=8)
    with fleet.store() as store:
        picks = pick(store.database, selection_of(asked), asked, 0)
        rows = {row.digest: row for row in every_frame(store.database, FrameSelection())}
    assert len(set(picks.picked) - picks.drawn.keys()) == 6
    chances = sorted((rows[one].reason, chance) for one, chance in picks.drawn.items())
    flagged = len(STREAMED) - AUDITED
    assert chances == [("audit", 4 / AUDITED)] * 4 + [("predicted_loss", 4 / flagged)] * 4


@pytest.mark.parametrize(
    ("said", "picked"),
    [
        ({}, [7, 6, 5]),
        ({7: "ignore", 6: "confirmed"}, [6, 5, 4]),
        ({1: "label", 7: "ignore"}, [1, 6, 5]),
    ],
)
def test_what_people_said_of_frames(
    tmp_path: Path, said: dict[int, str], picked: list[int]
) -> None:
    asked = SelectTable(budget=3, audit=4)
    with database_of(tmp_path, ROWS) as database:
        with database.connect() as connection:
            for number, word in said.items():
                mark(connection, ROWS[number].digest, word)
        picks = pick(database, selection_of(asked), asked, 0)
    assert [int(one, 16) for one in picks.picked] == picked
    assert picks.drawn == {}  # without an audit sample


def test_the_picked_differ(tmp_path: Path) -> None:
    """The worst eight show one thing; another bundle's scores mean something else."""
    random, asked = np.random.default_rng(0), SelectTable(budget=6)
    kinds = {(0, "b"): 0.9, (1, "b"): 0.5, (0, "c"): 0.1}
    rows = []
    for place, ((axis, bundle), loss) in enumerate(kinds.items()):
        for number in range(8 * place, 8 * place + 8):
            shown = np.eye(4)[axis] + (place > 0) * random.normal(0, 0.01, 4)
            said = {"bundle_digest": bundle * 64, "max_predicted_loss": loss + number / 1000}
            rows.append(row(number, embedding=shown.astype("<f4").tobytes(), **said))
    with database_of(tmp_path, rows) as database:
        picks = pick(database, selection_of(asked), asked, 0)
    counts = Counter(int(one, 16) // 8 for one in picks.picked)
    assert counts == {0: 1, 1: 3, 2: 2}  # of each bundle as there are


def test_each_picture_once(tmp_path: Path) -> None:
    """And none that calibrates trains as well, under another frame's name."""
    same = [row(number, image_digest=ROWS[7].digest, reason="audit") for number in (8, 9)]
    asked = SelectTable(budget=9, audit=4)
    with database_of(tmp_path, [*ROWS, *same]) as database:
        picks = pick(database, selection_of(asked), asked, 0)
    drawn = {int(one, 16) for one in picks.drawn}
    assert {8, 9} <= drawn
    assert sorted(int(one, 16) for one in picks.picked) == sorted({*range(7)} - drawn)


def came_back(fleet: Fleet, picks: Picks) -> Labels:
    """Picks of a test's own, exported, corrected and imported."""
    fleet.out.mkdir()
    back, asked = fleet.folder / "export-of-the-tool.json", AnnotatorsTable()
    with fleet.store() as store:
        export_tasks(store, picks, fleet.out / "tasks/one", "coco")
        fleet.label(back)
        _, found = take_labels(store, fleet.tasks, back, fleet.out, asked, picks)
    return found


def test_calibration_on_the_random_sample(fleet: Fleet) -> None:
    """Each person stands for as many as were neither kept nor drawn."""
    first, *others = fleet.digests()
    drawn = {one: 1.0 if place < AUDITED - 1 else 0.1 for place, one in enumerate(others)}
    found = came_back(fleet, Picks((first,), drawn))
    assert (len(found.train), len(found.audit), found.unseen) == (1, 23, 0)
    shutil.copytree(DEFAULT_BUNDLE, fleet.out / "bundle")
    asked = CalibrateTable(val="synthetic:3,256", flag_rate=(0.25,))
    path, why = calibrate(asked, fleet.out, drawn, found.unseen)
    assert (path.name, why) == ("calibrated", "")
    (threshold,) = Bundle.load(path).manifest.calibration.thresholds
    assert threshold.effective_n == int(9 + 14 * AUDIT_RATE / 0.1)  # in persons of the audit
    assert threshold.data.endswith("#@audit.txt")
    assert calibrate(asked, fleet.out, drawn, found.unseen) == (path, "")  # of a call before


def test_persons_for_validation_teach_nothing(fleet: Fleet) -> None:
    found = came_back(fleet, Picks(tuple(fleet.digests()), {}))
    sides = {one.id: one.split for one in found.set.persons}
    assert Counter(sides.values()) == {"train": 24 - found.held_out, "val": found.held_out}
    assert found.held_out > 0
    assert {sides[one] for one in found.train} == {"train"}


def test_too_small_a_sample_says_why(fleet: Fleet) -> None:
    first, second, *_ = fleet.digests()
    drawn = {second: 1.0}
    came_back(fleet, Picks((first,), drawn))
    shutil.copytree(DEFAULT_BUNDLE, fleet.out / "bundle")
    path, why = calibrate(CalibrateTable(val="synthetic:3,256"), fleet.out, drawn, 0)
    assert path.name == "bundle"
    assert "needs 22 independent frames" in why


def test_a_random_sample_that_nobody_has_looked_at_is_none(fleet: Fleet) -> None:
    """Who is wrong is corrected, and who is right comes back untouched: only failures stay."""
    first, second, *_ = fleet.digests()
    picks = Picks((first,), {second: 1.0})
    fleet.out.mkdir()
    with fleet.store() as store:
        export_tasks(store, picks, fleet.out / "tasks/one", "coco")
        batch, out = fleet.tasks, fleet.out
        edit(batch, lambda document: touch_all_but(document, second))
        _, found = take_labels(store, batch, batch, out, AnnotatorsTable(), picks)
        assert (len(found.train), found.audit, found.unseen) == (1, (), 1)
        trusting = AnnotatorsTable(trust_untouched=True)
        _, found = take_labels(store, batch, batch, out, trusting, picks)
        assert (len(found.audit), found.unseen) == (1, 0)
    assert read_labels(out / "labelset").version == found.set.version
    shutil.copytree(DEFAULT_BUNDLE, out / "bundle")
    path, why = calibrate(CalibrateTable(val="synthetic:3,256"), out, picks.drawn, 1)
    assert (path.name, why[:31]) == ("bundle", "1 persons of the random sample ")


def touch_all_but(document: dict[str, Any], digest: str) -> None:
    """Correct everybody but the persons of one frame."""
    for one in document["annotations"]:
        one["keypoints"][1] += 2 * (one["misgiving"]["frame_digest"] != digest)


def test_heads_on_a_foreign_net(fleet: Fleet) -> None:
    first, second, *_ = fleet.digests()
    came_back(fleet, Picks((first, second), {}))
    net = write_net(fleet.folder / "net", keys={"taps": ["r4", "r8", "r16"]})
    attach = f'[attach]\nnet = "{net}"\nepochs = 1\ndata = ["synthetic:1,8"]\n[calibrate]'
    text = re.sub(r"(?s)\[train\].*?\[calibrate\]", lambda _: attach, fleet.text)
    fleet.file.write_text(text.replace("synthetic:3,256", "synthetic:3,8"))
    record = learn(read_asked(fleet.file), LSP, fleet.out, CPU)
    assert record.label_count == 8 + 2
    assert record.training_data[-1].endswith(f"#@{fleet.out / 'train.txt'}")
    assert learn(read_asked(fleet.file), LSP, fleet.out, CPU) == record  # of a call before


def test_a_bundle_that_vehicles_would_not_take() -> None:
    field, other = (Bundle.load(path) for path in (DEFAULT_BUNDLE, tiny.BUNDLE))
    assert "has another name" in obstacle_of(field, other)
    assert obstacle_of(field, field) == ""


def test_the_described_file(tmp_path: Path) -> None:
    """It has the defaults, and each key that is commented out is one."""
    path = tmp_path / "fleet.toml"
    path.write_text(TEMPLATE)
    said = read_asked(path)
    assert (said.select, said.annotators) == (SelectTable(), AnnotatorsTable())
    assert (said.export, said.field) == (ExportTable(), FieldTable())
    assert said.release == ReleaseTable()
    assert said.calibrate == CalibrateTable(val=said.calibrate.val)
    whole = re.sub(r"(?m)^# (?=\[|\w+ = )", "", TEMPLATE)
    for without in ("train", "attach"):
        path.write_text(re.sub(rf"(?s)\n\[{without}\].*?(?=\n\[)", "", whole))
        asked = read_asked(path)
        assert (asked.train is None, asked.attach is None) == (
            without == "train",
            without == "attach",
        )
    assert asked.train
    assert (asked.train.recipe, asked.select.since) == ("cpu", "4w")


@pytest.mark.parametrize(
    ("draws", "better", "verdict"),
    [
        ([0.1, 0.2], +1, "better"),
        ([0.1, 0.2], -1, "worse"),
        ([-0.1, -0.2], +1, "worse"),
        ([-0.1, 0.2], +1, "not told"),
        ([np.nan, np.nan], +1, "not told"),
        ([], +1, "not told"),
    ],
)
def test_verdicts(draws: list[float], better: int, verdict: str) -> None:
    field = Estimate(0.5, np.zeros(len(draws)))
    one = Difference(field, Estimate(0.6, np.array(draws, float)), better)
    assert one.verdict == verdict
