"""The gates of the lower precisions: each can fail, alone, and says by how much."""

from typing import get_args

import numpy as np
import pytest

from misgiving.export.gates import LIMITS, Limits, Measured, Reference, measure, misses
from misgiving.runtime.bundles.precisions import Reduced
from misgiving.runtime.engines.base import Prediction
from misgiving.runtime.geometry import CropRule, Window
from shared.training import JOINTS, scores_of, standing

GOOD = Measured(0.0, 0.0, 1.0, 1.0, 0.0)
FP16, INT8 = LIMITS["fp16"], LIMITS["int8"]


def test_every_precision_has_limits() -> None:
    """Those of the project's plan."""
    assert set(LIMITS) == set(get_args(Reduced))
    assert Limits(pck_drop=0.001, spearman=0.99, agreement=0.99) == FP16
    assert INT8 == LIMITS["int8-trt"] == Limits(pck_drop=0.005, spearman=0.97, agreement=0.0)


NAN = float("nan")


@pytest.mark.parametrize(
    ("pck", "spearman", "agreement", "limits", "missed"),
    [
        (0.0, 1.0, 1.0, FP16, []),
        (0.2, 1.0, 1.0, FP16, []),  # better than fp32
        (-0.001, 0.99, 0.99, FP16, []),  # on every limit
        (-0.005, 0.97, 0.5, INT8, []),
        (-0.0011, 1.0, 1.0, FP16, ["PCK fell by 0.11 points (at most 0.1)"]),
        (-0.0051, 1.0, 1.0, INT8, ["PCK fell by 0.51 points (at most 0.5)"]),
        (0.0, 0.9899, 1.0, FP16, ["Spearman of predicted_loss is 0.9899 (at least 0.99)"]),
        (0.0, 0.0, 1.0, INT8, ["Spearman of predicted_loss is 0.0000 (at least 0.97)"]),
        (0.0, 1.0, 0.98, FP16, ["98.0 % of flags agree (at least 99 %)"]),
        (NAN, 1.0, 1.0, INT8, ["PCK fell by nan points (at most 0.5)"]),  # nobody has a torso
        (0.0, NAN, 1.0, INT8, ["Spearman of predicted_loss is nan (at least 0.97)"]),  # constant
    ],
)
def test_limits(
    pck: float, spearman: float, agreement: float, limits: Limits, missed: list[str]
) -> None:
    found = misses(Measured(pck, 0.0, spearman, agreement, 0.0), limits)
    assert [miss.text for miss in found] == missed


def test_what_must_come_closer() -> None:
    found = misses(Measured(-1.0, 99.0, 0.0, 0.0, 0.0), FP16)
    assert [miss.output for miss in found] == ["keypoints", "predicted_loss", "predicted_loss"]


COUNT = 40
RULE = CropRule(height=100, width=100, padding=1.25)
WINDOW = Window(10, 20, 200, 200)
"""Half the image's resolution: a shift of one input px is two of the image."""


def answers(moved: float = 0.0, losses: np.ndarray | None = None) -> Prediction:
    """Standing people as the engine gives them; every second one ``moved`` input px to the left."""
    points = np.repeat((standing()[None] - [10, 20]) / 2, COUNT, axis=0)
    points[::2, :, 0] -= moved
    confidence = np.ones((COUNT, JOINTS, 1))
    return Prediction(
        keypoints=np.concatenate([points, confidence], axis=-1).astype(np.float32),
        predicted_loss=np.arange(COUNT, dtype=np.float32) if losses is None else losses,
        signals=np.zeros((COUNT, 4), np.float32),
        embedding=np.zeros((COUNT, 4), np.float32),
        keypoint_loss=np.zeros((COUNT, 0), np.float32),
    )


def reference(threshold: float = 29.5) -> Reference:
    return Reference(
        answers=answers(),
        crops=np.zeros((COUNT, 100, 100, 3), np.uint8),
        windows=(WINDOW,) * COUNT,
        rule=RULE,
        truth=scores_of(range(COUNT)),
        data="lspet:/secret/lspet",
        threshold=threshold,
    )


def test_the_same_answers() -> None:
    got = measure(answers(), reference())
    assert got.pck_change == 0
    assert got.keypoint_drift_px_p99 == 0
    assert got.predicted_loss_spearman == pytest.approx(1)
    assert got.flag_agreement == 1
    assert np.isnan(got.auroc_change)  # nobody failed
    gate = got.as_gate(reference(), "an engine")
    assert gate.auroc_change is None
    assert (gate.n, gate.data) == (COUNT, "lspet:lspet")


def test_joints_that_moved() -> None:
    """By 30 px of the image for half of the people, whose torsos are about 60 px long."""
    got = measure(answers(moved=15.0), reference())
    assert got.pck_change == -0.5
    assert got.keypoint_drift_px_p99 == pytest.approx(15, abs=1e-4)
    assert got.predicted_loss_spearman == pytest.approx(1)
    assert [miss.output for miss in misses(got, INT8)] == ["keypoints"]


def test_right_joints_and_a_shuffled_score() -> None:
    shuffled = np.random.default_rng(0).permutation(COUNT).astype(np.float32)
    got = measure(answers(losses=shuffled), reference())
    assert got.pck_change == 0
    assert abs(got.predicted_loss_spearman) < 0.4
    assert [miss.output for miss in misses(got, INT8)] == ["predicted_loss"]


def test_flags_at_the_threshold() -> None:
    """The same order, but everybody is a little more risky: one of 40 is flagged anew."""
    got = measure(answers(losses=np.arange(COUNT, dtype=np.float32) + 0.6), reference())
    assert got.predicted_loss_spearman == pytest.approx(1)
    assert got.flag_agreement == 1 - 1 / COUNT
    assert misses(got, INT8) == []
    assert [miss.text for miss in misses(got, FP16)] == ["97.5 % of flags agree (at least 99 %)"]
