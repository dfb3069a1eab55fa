"""A whole run on a little: what it writes, that it goes on, and what it refuses."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from misgiving.runtime.errors import DataError
from misgiving.runtime.images import encode_png
from misgiving.runtime.keypoints import KeypointSet
from misgiving.trainer import Suspects, find_suspects, open_data
from misgiving.trainer.answers.scoring import Floats, Scores
from misgiving.trainer.data import PoseSet
from misgiving.trainer.data.mapping import mapped
from misgiving.trainer.suspects import answering
from misgiving.trainer.suspects.judging import Judgement
from misgiving.trainer.suspects.lists import exchanged, write_lists
from misgiving.trainer.training import Trained, train
from shared.training import CPU, TINY, people, pose_set

COUNT = 12


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Suspects]:
    out = tmp_path_factory.mktemp("suspects") / "run"
    return out, find_suspects(TINY, [people(1, COUNT)], out, CPU, folds=2, pictures=3)


def test_everybody_is_listed_and_pictured(run: tuple[Path, Suspects]) -> None:
    out, found = run
    with (out / "suspects.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [one.id for one in found.persons]
    assert {row["id"] for row in rows} == set(people(1, COUNT).ids)
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 3
    assert (out / ".gitignore").read_text(encoding="utf-8") == "*\n"


def test_who_is_no_suspect_can_be_trained_on(run: tuple[Path, Suspects]) -> None:
    _, found = run
    kept = open_data(found.specs[0])
    assert set(kept.ids) == {one.id for one in found.persons if not one.suspect}


def test_a_killed_run_goes_on(
    run: tuple[Path, Suspects], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []

    def killed(*given: Any, **named: Any) -> Trained:
        if len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(named["what"])
        return train(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(answering, "train", killed)
        with pytest.raises(KeyboardInterrupt):
            find_suspects(TINY, [people(1, COUNT)], tmp_path / "run", CPU, folds=2)
        trained.clear()
        (tmp_path / "run" / "answers-1.npz").unlink()  # as if between the two writings
        again = find_suspects(TINY, [people(1, COUNT)], tmp_path / "run", CPU, folds=2)
    assert trained == ["fold 2 of 2"]
    assert again.persons == run[1].persons


def test_nobody_is_asked_by_a_net_that_learned_from_them(run: tuple[Path, Suspects]) -> None:
    asked = set()
    for number in (1, 2):
        with np.load(run[0] / f"answers-{number}.npz") as content:
            mine = set(content["ids"].tolist())
        record = json.loads((run[0] / f"net-{number}" / "record.json").read_bytes())
        assert record["label_count"] == COUNT - len(mine)
        assert not asked & mine
        asked |= mine
    assert asked == set(people(1, COUNT).ids)


def test_another_run_is_not_gone_on_with(run: tuple[Path, Suspects]) -> None:
    with pytest.raises(DataError, match="of a run with another folds"):
        find_suspects(TINY, [people(1, COUNT)], run[0], CPU, folds=3)


def test_keypoints_without_sides_are_said_to_have_none(tmp_path: Path) -> None:
    middle = KeypointSet(
        name="middle", names=("neck", "head_top"), skeleton=((0, 1),), torso=((0, 1),)
    )
    data = mapped(people(1, COUNT), middle)
    found = find_suspects(TINY, [data], tmp_path / "run", CPU, folds=2, pictures=0)
    assert found.sides == "middle has no left and right: exchanged sides are not looked for"
    assert "exchanged" not in found.summary
    assert found.sides in found.lines()


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            0.05,
            "0.050 of these persons' joints (PCK@0.2): too few to judge labels by, train longer",
        ),
        (0.75, "0.750 of these persons' joints (PCK@0.2)"),
    ],
)
def test_nets_that_find_little_are_not_to_be_believed(found: float, said: str) -> None:
    assert Suspects((), (), "", found).lines()[1] == f"the nets find {said}"


@pytest.fixture
def photographed(tmp_path: Path) -> PoseSet:
    """Three people in files, the label of the second with all sides exchanged."""
    samples = []
    for sample in map(people(1, COUNT).read, range(3)):
        path = tmp_path / "images" / f"{len(samples)}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode_png(sample.image))
        samples.append(replace(sample, path=path))
    joints = np.arange(14)
    samples[1] = replace(
        exchanged(samples[1], joints, people(1, COUNT).keypoints), hidden=joints == 4, box=None
    )
    return pose_set(samples)


def test_mended_labels_are_a_data_set(photographed: PoseSet, tmp_path: Path) -> None:
    true = np.stack([people(1, COUNT)[index].points for index in range(3)])
    specs = write_lists(tmp_path, [photographed], Judgement(_sure(photographed, true)))
    assert specs[0] == f"made#@{tmp_path / 'keep.txt'}"
    assert (tmp_path / "keep.txt").read_text(encoding="utf-8").split() == [
        photographed.ids[0],
        photographed.ids[2],
    ]
    mended = open_data(specs[1])
    assert mended.keypoints == photographed.keypoints
    assert len(mended) == 1
    np.testing.assert_allclose(mended[0].points, true[1], atol=1e-3)
    assert np.flatnonzero(mended[0].hidden).tolist() == [photographed.keypoints.mirror[4]]
    region, own = mended[0].region, photographed[1].region
    assert region is not None
    assert region == pytest.approx(own)


def test_several_parts_are_numbered(photographed: PoseSet, tmp_path: Path) -> None:
    true = np.stack([people(1, COUNT)[index].points for index in range(3)])
    sure = _sure(photographed, true)
    parts = [pose_set([photographed[0]], "a"), pose_set([photographed[1], photographed[2]], "b")]
    specs = write_lists(tmp_path, parts, Judgement(sure))
    assert [spec.split("#")[0].split(":")[0] for spec in specs] == ["a", "b", "coco"]
    assert (tmp_path / "keep-2.txt").read_text(encoding="utf-8").split() == [photographed.ids[2]]
    assert (tmp_path / "mended-2.json").exists()


def _sure(data: PoseSet, answers: Floats) -> Scores:
    count = len(data)
    return Scores(
        ids=data.ids,
        keypoints=data.keypoints,
        points=answers,
        confidence=np.full((count, 14), 0.95),
        predicted_losses={"evidence-miss": np.zeros(count)},
        keypoint_loss=np.full((count, 14), 0.02),
        signals=np.zeros((count, 1)),
        embedding=np.zeros((count, 1)),
        true_points=np.stack([data[index].points for index in range(count)]),
        labelled=np.stack([data[index].labelled for index in range(count)]),
        true_loss=np.zeros(count),
    )
