"""What a manifest says: of the graph, where it comes from, and how good it is."""

import math
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import Literal

import onnx

from misgiving.export.calibrating import this_minute
from misgiving.export.config import ExportConfig
from misgiving.export.graph import FusedGraph
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.calibration import Calibration
from misgiving.runtime.bundles.manifest import (
    FailureDefinition,
    ForeignNet,
    Manifest,
    Provenance,
    Signal,
)
from misgiving.runtime.bundles.precisions import Parity
from misgiving.runtime.engines.onnx import OnnxEngine
from misgiving.runtime.estimator import Estimator
from misgiving.trainer import heatmaps
from misgiving.trainer.answers.scoring import Scores, summarise
from misgiving.trainer.checkpoint import Record
from misgiving.trainer.config import Recipe, to_dict
from misgiving.trainer.data import PoseSet
from misgiving.trainer.data.spec import without_folders
from misgiving.trainer.evaluation.bundle import LEARNED, evaluate
from misgiving.trainer.foreign.pose import ForeignPose
from misgiving.trainer.foreign.reading import opset_of
from misgiving.trainer.measures import metrics

_UNCALIBRATED = Calibration.model_construct(thresholds=(), failure_probability=None)
"""Stands in a manifest until its bundle has been asked; never written."""
_NOT_MEASURED = Parity(
    n=0,
    data="",
    keypoint_drift_px_p999=0,
    predicted_loss_drift=0,
    predicted_loss_spearman=0,
    other_outputs_drift_p99=0,
    end_to_end_keypoint_px_p999=0,
    end_to_end_predicted_loss_drift=0,
)
"""Until the graph has been compared, for which the runtime needs a manifest."""


def manifest_of(
    graph: FusedGraph,
    recipe: Recipe,
    record: Record,
    config: ExportConfig,
    scores: Scores,
    validation: PoseSet,
    max_batch: int,
) -> Manifest:
    """All but parity and calibration, which are measured with what it says."""
    return Manifest(
        schema_version=3,
        name=config.name,
        version=config.version,
        release=this_minute() if config.release is None else config.release,
        expires=config.expires,
        keypoints=record.keypoints,
        crop=recipe.model.crop,
        max_batch=max_batch,
        outputs=graph.outputs,
        signals=tuple(Signal(name=n, higher_is=_higher_is(n)) for n in graph.network.pose.signals),
        embedding_size=scores.embedding.shape[1],
        failure=FailureDefinition(
            metric=f"PCK@{metrics.PCK_THRESHOLD}",
            normaliser="longer torso diagonal",
            below=metrics.FAILURE_BELOW,
        ),
        calibration=_UNCALIBRATED,
        parity=_NOT_MEASURED,
        precisions={},
        provenance=_provenance(graph.network.pose, recipe, record, scores, validation),
        weights_licence=config.licence,
        files={},
    )


def _higher_is(signal: str) -> Literal["safer", "riskier"]:
    return "safer" if signal in heatmaps.SAFER_SIGNALS else "riskier"


def _provenance(
    pose: object, recipe: Recipe, record: Record, scores: Scores, validation: PoseSet
) -> Provenance:
    return Provenance(
        recipe=recipe.name,
        # A checkpoint that trained on names the same data again.
        training_data=tuple(dict.fromkeys(map(without_folders, record.training_data))),
        # Of all that the data names, by which others tell whom it may have seen.
        label_count=record.label_count + record.unreadable,
        validation_data=without_folders(validation.spec),
        commit=record.commit,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        foreign=_foreign(pose) if isinstance(pose, ForeignPose) else None,
        metrics=summarise(scores),
        reports={},
        config=to_dict(recipe),
    )


def _foreign(pose: ForeignPose) -> ForeignNet:
    said = pose.config
    return ForeignNet(
        file=said.file,
        sha256=said.sha256,
        licence=said.licence,
        family=said.family,
        opset=opset_of(onnx.load_from_string(pose.content)),
        converted=pose.converted,
    )


def measured_on(
    bundle: Bundle, engine: OnnxEngine, reports: Iterable[PoseSet]
) -> dict[str, dict[str, float]]:
    """How good the graph is, by the data's spec; what is undefined is left out."""
    said = {}
    for data in reports:
        evaluation = evaluate(Estimator(bundle, engine, math.inf), data)
        failures, free = evaluation.failures, evaluation.best_free
        learned = failures.row(LEARNED)
        numbers = {
            "persons": failures.persons,
            "failures": failures.failures,
            "pck": failures.pck.value,
            "auroc": learned.auroc.value,
            "augrc": learned.augrc.value,
            "auroc_free": free.auroc.value if free else math.nan,
        }
        known = {name: float(one) for name, one in numbers.items() if math.isfinite(one)}
        said[without_folders(data.spec)] = known
    return said


def summary(bundle: Bundle) -> Iterator[str]:
    """How closely the graph answers as the trained network, and how good it is on other data."""
    said = bundle.manifest.parity
    yield (
        f"bundle {bundle.path}: parity over {said.n} persons of {said.data}: keypoints "
        f"{said.keypoint_drift_px_p999:.1e} input px, predicted_loss "
        f"{said.predicted_loss_drift:.1e} sd, Spearman {said.predicted_loss_spearman:.6f}; "
        f"end to end {said.end_to_end_keypoint_px_p999:.1e} image px, "
        f"{said.end_to_end_predicted_loss_drift:.1e} sd"
    )
    for data, numbers in bundle.manifest.provenance.reports.items():
        yield f"{data}: " + "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
