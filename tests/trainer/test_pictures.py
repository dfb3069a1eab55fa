"""Pictures of an evaluation: whom they show, and that no repository takes them by accident."""

import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from misgiving.runtime.draw import GREY, RED
from misgiving.runtime.errors import DataError
from misgiving.runtime.estimator import Estimator
from misgiving.runtime.geometry import Region
from misgiving.trainer.evaluation.bundle import Evaluation, evaluate
from misgiving.trainer.evaluation.pictures import (
    SHOWN,
    as_predicted,
    mistakes_and_catches,
    risk_coverage,
    write_pictures,
)
from misgiving.trainer.measures import metrics
from shared.training import people

COUNT = 60


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return evaluate(Estimator.load(threads=1), people(4, COUNT, high=1.0))


def test_whom_they_show(evaluation: Evaluation) -> None:
    mistakes, catches = mistakes_and_catches(evaluation)
    shares = metrics.person_pck(evaluation.found)
    risk = evaluation.persons.predicted_loss
    failed = sorted((i for i in range(COUNT) if shares[i] < 0.5), key=lambda i: risk[i])
    assert len(failed) > SHOWN  # so that the two differ
    assert mistakes == failed[:SHOWN]
    assert catches == failed[::-1][:SHOWN]


def test_three_pictures_that_git_does_not_see(evaluation: Evaluation, tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(tmp_path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    folder = tmp_path / "pictures"
    write_pictures(folder, evaluation)
    names = sorted(path.name for path in folder.iterdir())
    assert names == [".gitignore", "catches.png", "mistakes.png", "risk_coverage.png"]
    assert git("status", "--porcelain", "--untracked-files=all") == ""
    sheets = [cv2.imread(str(folder / name)) for name in ("mistakes.png", "catches.png")]
    assert all(np.std(sheet) > 20 for sheet in sheets)  # not blank
    assert not np.array_equal(*sheets)


def test_persons_are_drawn_as_the_vehicle_flags_them(evaluation: Evaluation) -> None:
    calibration, persons = evaluation.bundle.manifest.calibration, evaluation.persons
    flagged = persons.predicted_loss >= calibration.by_name()["likely"]
    assert 0 < flagged.sum() < COUNT
    region = Region(1, 2, 3, 4)
    drawn = [as_predicted(evaluation, index, region) for index in range(COUNT)]
    assert [one.flagged for one in drawn] == flagged.tolist()
    assert {one.colour for one in drawn} == {RED, GREY}  # likely: flagged from one half on
    first = drawn[0]
    assert first.region == region
    assert first.failure_probability == calibration.probability(float(persons.predicted_loss[0]))
    assert np.array_equal(first.points[:, :2], persons.points[0])
    assert first.joint_loss is not None
    assert np.array_equal(first.joint_loss, persons.keypoint_loss[0])


def test_the_threshold_in_force_is_marked(evaluation: Evaluation) -> None:
    """A dot where the learned score's own curve has it, by hand."""
    (axes,) = risk_coverage(evaluation).axes
    dot = next(line for line in axes.get_lines() if line.get_marker() == "o")
    likely = evaluation.bundle.manifest.calibration.by_name()["likely"]
    kept = evaluation.persons.predicted_loss < likely
    failed = metrics.person_pck(evaluation.found) < 0.5
    assert 0 < kept.sum() < COUNT
    assert dot.get_xydata().tolist() == [
        [pytest.approx(100 * kept.mean()), pytest.approx(failed[kept].mean())]
    ]
    assert str(dot.get_label()).startswith("threshold likely:")
    assert axes.get_xlim() == (0, 100)
    assert axes.get_ylim()[0] == 0


def test_nobody_failed(evaluation: Evaluation, tmp_path: Path) -> None:
    good = evaluate(Estimator.load(threads=1), people(4, 1))
    assert mistakes_and_catches(good) == ([], [])
    write_pictures(tmp_path / "new", good)
    assert (tmp_path / "new" / "mistakes.png").stat().st_size > 1000


def test_nothing_is_overwritten(evaluation: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "mine.png").touch()
    with pytest.raises(DataError, match="is there already; nothing is overwritten"):
        write_pictures(tmp_path, evaluation)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.png"]
