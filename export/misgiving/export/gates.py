"""The gates of the lower precisions: the same joints as fp32, and the same order of scores.

Right joints are not enough: flags come from the order of the scores, and a quantised network may
keep the joints and shuffle that.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime import geometry
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.precisions import FP32, MODELS, Gate
from misgiving.runtime.engines.base import Prediction
from misgiving.runtime.geometry import CropRule, Window
from misgiving.trainer.answers.scoring import Floats, Scores
from misgiving.trainer.data.spec import without_folders
from misgiving.trainer.measures import metrics


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a precision may lose against fp32."""

    pck_drop: float
    """PCK@0.2, as a share."""
    spearman: float
    """Least rank correlation of predicted_loss."""
    agreement: float
    """Least share of persons with the same flag."""


_INT8 = Limits(pck_drop=0.005, spearman=0.97, agreement=0.0)
LIMITS: dict[str, Limits] = {
    "fp16": Limits(pck_drop=0.001, spearman=0.99, agreement=0.99),
    "int8": _INT8,
    "int8-trt": _INT8,
}


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What fp32 answers to the validation persons, and what is true of them."""

    answers: Prediction
    crops: NDArray[np.uint8]
    """(N, H, W, 3)."""
    windows: tuple[Window, ...]
    """Where the crops were cut."""
    rule: CropRule
    truth: Scores
    """Of the same persons; its labels count."""
    data: str
    """The persons' spec."""
    threshold: float
    """Of predicted_loss; the bundle's first."""

    def found(self, answers: Prediction) -> Floats:
        """Joints that a precision finds, (N, K); see ``metrics.hits``."""
        answered, rule = answers.keypoints[..., :2], self.rule
        points = geometry.inputs_to_images(answered, self.windows, rule.height, rule.width)
        return replace(self.truth, points=points).found


@dataclass(frozen=True, slots=True)
class Measured:
    """The numbers of a :class:`Gate`, of which some may still be no numbers."""

    pck_change: float
    keypoint_drift_px_p99: float
    predicted_loss_spearman: float
    flag_agreement: float
    auroc_change: float

    def as_gate(self, reference: Reference, measured_with: str) -> Gate:
        """For the manifest; only of a gate that was passed."""
        return Gate(
            n=len(reference.crops),
            data=without_folders(reference.data),
            measured_with=measured_with,
            pck_change=self.pck_change,
            keypoint_drift_px_p99=self.keypoint_drift_px_p99,
            predicted_loss_spearman=self.predicted_loss_spearman,
            flag_agreement=self.flag_agreement,
            auroc_change=self.auroc_change if np.isfinite(self.auroc_change) else None,
        )


def measure(got: Prediction, reference: Reference) -> Measured:
    """Compare a precision's answers to the reference's crops with those of fp32."""
    expected = reference.answers
    found, found_fp32 = reference.found(got), reference.found(expected)
    moved = np.linalg.norm(got.keypoints[..., :2] - expected.keypoints[..., :2], axis=-1)
    flags = got.predicted_loss >= reference.threshold
    return Measured(
        pck_change=metrics.pck(found) - metrics.pck(found_fp32),
        keypoint_drift_px_p99=float(np.percentile(moved, 99)),
        predicted_loss_spearman=metrics.spearman(got.predicted_loss, expected.predicted_loss),
        flag_agreement=float(np.mean(flags == (expected.predicted_loss >= reference.threshold))),
        auroc_change=_auroc(got, found) - _auroc(expected, found_fp32),
    )


def _auroc(answers: Prediction, found: Floats) -> float:
    failed, defined = metrics.failed(found)
    return metrics.auroc(answers.predicted_loss[defined], failed)


@dataclass(frozen=True, slots=True)
class Miss:
    """A gate that was not passed."""

    output: str
    """What must come closer to fp32: ``keypoints`` or ``predicted_loss``."""
    text: str


def misses(measured: Measured, limits: Limits) -> list[Miss]:
    """The gates that were not passed, and by how much; a NaN passes none."""
    drop, rank = -measured.pck_change, measured.predicted_loss_spearman
    agree = measured.flag_agreement
    found = []
    if not drop <= limits.pck_drop:
        text = f"PCK fell by {100 * drop:.2f} points (at most {100 * limits.pck_drop:g})"
        found.append(Miss("keypoints", text))
    if not rank >= limits.spearman:
        text = f"Spearman of predicted_loss is {rank:.4f} (at least {limits.spearman:g})"
        found.append(Miss("predicted_loss", text))
    if not agree >= limits.agreement:
        text = f"{100 * agree:.1f} % of flags agree (at least {100 * limits.agreement:g} %)"
        found.append(Miss("predicted_loss", text))
    return found


def lines(bundle: Bundle) -> Iterator[str]:
    """The gates of a bundle's precisions as a table."""
    yield (
        f"{'precision':<10}{'size':>10}{'PCK change':>14}{'p99 drift':>12}{'Spearman':>10}"
        f"{'same flags':>12}{'AUROC change':>14}  kept in fp32"
    )
    yield f"{FP32:<10}{_size(bundle, FP32)}"
    for name, one in bundle.manifest.precisions.items():
        gate = one.gate
        auroc = "–" if gate.auroc_change is None else f"{gate.auroc_change:+.4f}"
        yield (
            f"{name:<10}{_size(bundle, name)}{100 * gate.pck_change:+10.2f} pts"
            f"{gate.keypoint_drift_px_p99:9.2f} px{gate.predicted_loss_spearman:10.4f}"
            f"{100 * gate.flag_agreement:10.1f} %{auroc:>14}  {', '.join(one.kept_fp32) or '–'}"
        )


def _size(bundle: Bundle, precision: str) -> str:
    return f"{(bundle.path / MODELS[precision]).stat().st_size / 1e6:7.2f} MB"
