"""The demo says when it fell short, and its table is right."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from misgiving.export.demo import outcome
from misgiving.export.demo.processes import DemoError, run, service
from misgiving.export.demo.run import _fresh
from misgiving.runtime.errors import DataError
from misgiving.runtime.geometry import Region
from misgiving.runtime.keypoints import LSP
from misgiving.trainer.answers.scoring import Scores
from misgiving.trainer.heatmaps import SIGNALS

COUNT = 10
POSITION = {f"{i:05d}.png": i for i in range(COUNT)}


def truth() -> Scores:
    """Ten upright people whose torso measures 50 px; the last one's hip is not labelled."""
    points = np.zeros((COUNT, len(LSP), 2), np.float32)
    points[:, [8, 9]] = (0, 50)  # both shoulders; the hips are at 0
    labelled = np.ones((COUNT, len(LSP)), bool)
    labelled[-1, 2] = False
    zeros = np.zeros(COUNT)
    return Scores(
        ids=tuple(POSITION),
        keypoints=LSP,
        points=points,
        confidence=np.ones((COUNT, len(LSP))),
        predicted_losses={"conv-kl": np.arange(COUNT, dtype=float)},
        keypoint_loss=np.zeros((COUNT, 0)),
        signals=np.zeros((COUNT, len(SIGNALS))),
        embedding=np.zeros((COUNT, 2)),
        true_points=points,
        labelled=labelled,
        true_loss=zeros,
    )


def reply(index: int, **changes: Any) -> dict[str, Any]:
    """Frame i is answered with predicted loss i; from the sixth on every joint is 11 px off."""
    points = truth().true_points[index] + (11 if index >= 5 else 9) * np.array([1, 0])
    person = {
        "region": [0, 0, 60, 70],
        "predicted_loss": float(index),
        "failure_probability": index / COUNT,
        "keypoint_loss": {},
        "signals": {"mean_peak": index / COUNT},
        "flagged": index >= 7,
        "kept": "predicted_loss" if index >= 7 else ("audit" if index == 0 else None),
        "keypoints": {
            n: [float(x), float(y), 0.5] for n, (x, y) in zip(LSP.names, points, strict=True)
        },
    }
    whole = {"frame_id": f"{index:05d}.png", "persons": [person], "dropped_before": 0}
    return {**whole, "round_trip_ms": 1.0 + index, **changes}


def replies(folder: Path, records: list[dict[str, Any]]) -> outcome.Replies:
    path = folder / "replies.jsonl"
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return outcome.read_replies(path, POSITION)


def test_how_persons_are_drawn(tmp_path: Path) -> None:
    drawn = replies(tmp_path, [reply(i) for i in range(COUNT)]).drawn
    assert [one.flagged for one in drawn] == 7 * [False] + 3 * [True]
    assert drawn[6].label == "P(failure) 0.60"
    assert drawn[6].region == Region(0, 0, 60, 70)
    assert drawn[0].points[8].tolist() == [9, 50, 0.5]


@pytest.mark.parametrize(
    ("picks", "said"),
    [
        ((0.3, 0.312, 0.5), "Predicted loss is ahead of the mean heatmap peak by 0.012 in PCK of"),
        # as the table shows them, not 0.002
        ((0.1396, 0.1414, 0.6), "Predicted loss is ahead of the mean heatmap peak by 0.001 in"),
        ((0.13952, 0.14048, 0.6), "Predicted loss and the mean heatmap peak are level in PCK"),
        ((0.4, 0.5, 0.388), "Random is ahead of predicted loss by 0.012 in PCK of"),
        ((0.5, 0.3, 0.3), "The mean heatmap peak and random are level in PCK of the picked; one"),
        ((math.nan, 0.3, 0.3), "No flagged frame has a labelled torso"),
    ],
)
def test_the_verdict(picks: tuple[float, float, float], said: str) -> None:
    names = ("pck_flagged", "pck_mean_peak", "pck_random")
    sentence = outcome.verdict(dict(zip(names, picks, strict=True)))
    assert sentence.startswith(said)
    assert sentence.endswith("; one seed: no evidence.") == math.isfinite(picks[0])


def test_the_table_by_hand(tmp_path: Path) -> None:
    read = replies(tmp_path, [reply(i) for i in reversed(range(COUNT))])
    assert read.flagged.nonzero()[0].tolist() == [7, 8, 9]
    assert read.collected.nonzero()[0].tolist() == [0, 7, 8, 9]
    table = outcome.pick_table(read, truth())
    # A fifth of the torso is 10 px: the first five are found whole, the others not at all; the
    # last one counts nowhere. Of the nine, two are flagged.
    assert (table["frames"], table["frames_with_torso"], table["picked"]) == (10, 9, 2)
    assert (table["failures"], table["pck_flagged"], table["pck_oracle"]) == (4, 0.0, 0.0)
    assert table["pck_all"] == pytest.approx(5 / 9, abs=1e-4)
    assert table["pck_mean_peak"] == 1.0  # here the lowest peaks are the best frames
    assert (table["auroc_predicted_loss"], table["auroc_mean_peak"]) == (1.0, 0.0)
    assert 0.4 < table["pck_random"] < 0.7
    assert table["spearman_missed"] == pytest.approx(10 / (60 * 20 / 9) ** 0.5, abs=1e-4)


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([reply(i) for i in range(9)], "9 of 10 frames were answered"),
        ([reply(i) for i in range(9)] + [reply(9, error="it is corrupt")], "00009.png failed: it"),
    ],
)
def test_a_frame_without_answer_is_an_error(
    tmp_path: Path, records: list[dict[str, Any]], said: str
) -> None:
    with pytest.raises(DemoError, match=said):
        replies(tmp_path, records)


def test_a_vehicle_that_disagrees_with_the_trainer_is_an_error(tmp_path: Path) -> None:
    records = [reply(i) for i in range(COUNT)]
    assert outcome.check_agreement(replies(tmp_path, records), truth(), "conv-kl") == 0
    records[3]["persons"][0]["predicted_loss"] += 0.1
    with pytest.raises(DemoError, match="standard deviations from the trainer's"):
        outcome.check_agreement(replies(tmp_path, records), truth(), "conv-kl")


def test_only_a_demo_s_folder_is_cleared(tmp_path: Path) -> None:
    mine = tmp_path / "thesis.tex"
    mine.touch()
    with pytest.raises(DataError, match="holds something other than a demo"):
        _fresh(tmp_path)
    assert mine.exists()
    out = tmp_path / "demo"
    _fresh(out)
    (out / "old").touch()
    _fresh(out)
    assert not (out / "old").exists()


def test_a_command_that_fails_ends_the_demo_with_its_message(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="'misgiving infer' ended with code 2: .* is no bundle"):
        run(["infer", "x.jpg", "--bundle", str(tmp_path)], tmp_path / "log")


def test_a_service_that_does_not_start_ends_the_demo(tmp_path: Path) -> None:
    start = service(["serve", "--bundle", str(tmp_path)], tmp_path / "log")
    with pytest.raises(DemoError, match="did not become ready"), start:
        pytest.fail("it was not ready")
    assert "is no bundle" in (tmp_path / "log").read_text(encoding="utf-8")
