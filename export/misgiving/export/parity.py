"""The gate: an export that answers otherwise than the trained network does not ship.

Two comparisons over the same validation persons, and both must hold:

* **graph**: the same crops through torch and through the engine, at batch sizes 1, 2 and 5;
* **end to end**: image file → runtime → engine against image file → trainer → torch, in image
  pixels and in score.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from misgiving.export.graph import FusedGraph
from misgiving.runtime import images
from misgiving.runtime.answer.answerer import Model, answer
from misgiving.runtime.engines.base import Engine, Prediction, joined
from misgiving.runtime.errors import ParityError
from misgiving.runtime.nouns import Frame, make_frame
from misgiving.trainer.answers.scoring import Scores
from misgiving.trainer.data import PoseSet, Sample
from misgiving.trainer.measures import metrics

Floats = NDArray[np.floating]

MIN_IMAGES = 256
BATCHES = (1, 2, 5)
KEYPOINT_PX = 0.05
"""In input px, at the 99.9th percentile over all keypoints."""
LOSS_DRIFT = 1e-3
"""Largest shift of predicted_loss in standard deviations of it over the images."""
LOSS_SPEARMAN = 0.9999
OTHER_DRIFT = 1e-3
"""As LOSS_DRIFT, of every other output; see ``Drift.others``."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How far two answers to the same persons are apart."""

    keypoint_px: float
    """99.9th percentile."""
    loss: float
    """Largest, in standard deviations."""
    spearman: float
    others: float = 0.0
    """99th percentile of the worst other column (confidence, signal, embedding, keypoint_loss), in
    standard deviations. Not the largest: where two peaks of a heatmap are alike, rounding picks
    one."""


def graph_drift(graph: FusedGraph, engine: Engine, crops: NDArray[np.uint8]) -> Drift:
    """The worst of all batch sizes, in input px.

    Args:
        graph: the torch module, on the CPU.
        engine: of the exported file.
        crops: (N, H, W, 3).
    """
    expected = run_torch(graph, crops)
    drifts = [drift_of(in_batches(engine, crops, size), expected) for size in BATCHES]
    # numpy's max and min hand a NaN on; Python's would lose it.
    return Drift(
        float(np.max([drift.keypoint_px for drift in drifts])),
        float(np.max([drift.loss for drift in drifts])),
        float(np.min([drift.spearman for drift in drifts])),
        float(np.max([drift.others for drift in drifts])),
    )


def run_torch(graph: FusedGraph, crops: NDArray[np.uint8]) -> Prediction:
    """What the trained network says of crops (N, H, W, 3)."""
    with torch.no_grad():
        parts = [graph(batch) for batch in torch.split(torch.from_numpy(crops), 64)]
    return Prediction.of({n: torch.cat([part[n] for part in parts]).numpy() for n in graph.outputs})


def drift_of(got: Prediction, expected: Prediction) -> Drift:
    """Compare two predictions of the same crops; every output counts."""
    columns = zip(_other_columns(got), _other_columns(expected), strict=True)
    return Drift(
        _keypoint_shift(got.keypoints[..., :2], expected.keypoints[..., :2]),
        _shift(got.predicted_loss, expected.predicted_loss, 100),
        metrics.spearman(got.predicted_loss, expected.predicted_loss),
        float(np.max([_shift(a, b, 99) for a, b in columns])),
    )


def _other_columns(prediction: Prediction) -> list[Floats]:
    confidence = prediction.keypoints[..., 2]
    others = (confidence, prediction.signals, prediction.embedding, prediction.keypoint_loss)
    return [column for other in others for column in other.T]


def end_to_end_drift(
    model: Model,
    head: str,
    data: PoseSet,
    scores: Scores,
    progress: Iterable[int],
) -> Drift:
    """Compare the runtime's answers to image files with the trainer's, in image px.

    Args:
        model: the bundle that is being made, and an engine of the exported file.
        head: whose predicted loss was exported.
        data: the persons.
        scores: the trainer's answers to the same persons, from its own reading of the images.
        progress: the positions.
    """
    points, losses = [], []
    for index in progress:
        # The trainer looks at a whole frame once.
        person = answer(model, frame_of(data[index]), rounds=0).persons[0]
        points.append(person.keypoints[:, :2])
        losses.append(person.predicted_loss)
    expected = scores.predicted_losses[head]
    predicted = np.array(losses)
    return Drift(
        _keypoint_shift(np.array(points), scores.points),
        _shift(predicted, expected, 100),
        metrics.spearman(predicted, expected),
    )


def frame_of(sample: Sample) -> Frame:
    """A person as a vehicle's client would send it: the encoded file and the person's box."""
    encoded = images.read_bytes(sample.path) if sample.path else images.encode_png(sample.image)
    region = sample.asked_region
    return make_frame(encoded, [region] if region else [], sample.id)


def check(drift: Drift, what: str, unit: str) -> None:
    """Raise ParityError unless a drift is within the gate."""
    within = (
        drift.keypoint_px <= KEYPOINT_PX
        and drift.loss <= LOSS_DRIFT
        and drift.spearman >= LOSS_SPEARMAN
        and drift.others <= OTHER_DRIFT
    )
    # Written so that a NaN fails too.
    if not within:
        raise ParityError(
            f"{what} parity failed: keypoints moved {drift.keypoint_px:.4f} {unit} (at most "
            f"{KEYPOINT_PX}), predicted_loss {drift.loss:.2e} standard deviations (at most "
            f"{LOSS_DRIFT:g}), Spearman {drift.spearman:.6f} (at least {LOSS_SPEARMAN}), other "
            f"outputs {drift.others:.2e} standard deviations (at most {OTHER_DRIFT:g}). "
            "No bundle was written; the exported graph does not compute what was trained"
        )


def in_batches(engine: Engine, crops: NDArray[np.uint8], size: int) -> Prediction:
    """What an engine says of crops (N, H, W, 3), ``size`` at a time."""
    return joined([engine.infer(crops[at : at + size]) for at in range(0, len(crops), size)])


def _keypoint_shift(got: Floats, expected: Floats) -> float:
    return float(np.percentile(np.linalg.norm(got - expected, axis=-1), 99.9))


def _shift(got: Floats, expected: Floats, percentile: float) -> float:
    spread = float(expected.std())
    # A constant output (a dead feature) has no spread; then only equality is in order.
    scale = spread if spread > 1e-6 else 1.0
    return float(np.percentile(np.abs(got - expected), percentile)) / scale
