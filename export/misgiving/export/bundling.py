"""From a checkpoint to a bundle: export, gate, calibrate, write, sum up."""

import math
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from misgiving.export import parity
from misgiving.export.calibrating import Targets, calibrate_export, check_enough, check_unseen
from misgiving.export.graph import FusedGraph, FusedOutput
from misgiving.export.onnx import write_onnx
from misgiving.runtime.bundle import (
    MODEL,
    SAMPLES,
    Bundle,
    FailureDefinition,
    Manifest,
    Parity,
    Provenance,
    Signal,
    sha256_file,
    write_manifest,
)
from misgiving.runtime.calibration import Calibration
from misgiving.runtime.detector import Detector
from misgiving.runtime.durable import new_folder
from misgiving.runtime.engines.onnx import OnnxEngine
from misgiving.runtime.errors import DataError
from misgiving.runtime.estimator import Estimator
from misgiving.runtime.flagging import FlagPolicy
from misgiving.trainer import heatmaps, metrics, progress
from misgiving.trainer.checkpoint import Record, load_checkpoint
from misgiving.trainer.config import Recipe, to_dict
from misgiving.trainer.data import PoseSet
from misgiving.trainer.data.crops import evaluation_crop
from misgiving.trainer.data.spec import without_folders
from misgiving.trainer.data.synthetic import open_synthetic
from misgiving.trainer.scoring import Scores, score, summarise
from misgiving.trainer.training import Compute, check_keypoints

SAMPLE_COUNT = 4
_SAMPLE_SEED = 20_260
UNCALIBRATED = Calibration.model_construct(thresholds=(), failure_probability=None)
"""Stands in a manifest until its bundle has been asked; never written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportConfig:
    """What an export needs beside its checkpoint; see :func:`export_bundle`."""

    name: str
    version: str
    head: str | None = None
    """None for the checkpoint's first."""
    targets: Targets = Targets(flag_rates=(0.1,))
    """What the thresholds promise for frames like the validation data's."""
    licence: str = "not stated"
    """Of the weights; the training data's terms bind them."""


def export_bundle(
    checkpoint: Path, validation: PoseSet, out: Path, config: ExportConfig, compute: Compute
) -> Bundle:
    """Export a checkpoint; the folder ``out`` appears only when every gate has passed.

    >>> bundle = export_bundle(
    ...     Path("runs/first"),
    ...     open_data("synthetic:3,256"),
    ...     Path("bundles/first"),
    ...     ExportConfig(name="first", version="0.1.0", targets=Targets(flag_rates=(0.05,))),
    ...     Compute(device="cpu", threads=1),
    ... )
    >>> bundle.manifest.name, bundle.manifest.parity["fp32"].n
    ('first', 256)

    Args:
        checkpoint: from ``misgiving train`` or ``cycle``.
        validation: at least 256 persons that trained nothing; the gates run and the calibration
            is made on them.
        out: the bundle's folder, which must be new.
        config: name, head, targets of the thresholds.
        compute: where torch runs.

    Raises:
        DataError: too few validation images, for the gates or for a target; wrong keypoints;
            ``out`` is there already.
        ParityError: the exported graph does not answer as the trained network does.
    """
    network, recipe, record = load_checkpoint(checkpoint)
    check_keypoints(record, validation)
    _check_size(validation)
    check_enough(validation, config.targets)
    trained = [without_folders(spec) for spec in record.training_data]
    check_unseen(validation, trained, record.label_count)
    compute.prepare()
    graph = FusedGraph(network, config.head)
    with new_folder(out) as part:
        _fill(part, graph, recipe, record, validation, config)
    return Bundle.load(out)


def _check_size(validation: PoseSet) -> None:
    if len(validation) < parity.MIN_IMAGES:
        raise DataError(
            f"{validation.spec} has {len(validation)} persons; parity needs at least "
            f"{parity.MIN_IMAGES}. Give a larger range"
        )


def _fill(
    part: Path,
    graph: FusedGraph,
    recipe: Recipe,
    record: Record,
    validation: PoseSet,
    config: ExportConfig,
) -> None:
    essentials = {
        "name": config.name,
        "version": config.version,
        "keypoints": record.keypoints.model_dump(),
        "crop": recipe.model.crop.model_dump(),
        "signals": heatmaps.SIGNALS,
    }
    write_onnx(graph, part / MODEL, essentials)
    engine = OnnxEngine(part / MODEL, "cpu", threads=1)
    drift = _graph_drift(graph, engine, recipe, validation)
    parity.check(drift, "graph", "input px")
    count = len(validation)
    cpu = torch.device("cpu")
    scores = score(graph.network, recipe, validation, cpu, progress.counted(count, "scoring"))
    _write_samples(part / SAMPLES, graph, recipe)
    files = {name: sha256_file(part / name) for name in (MODEL, SAMPLES)}
    manifest = _manifest(recipe, record, config, files, scores, validation)
    bundle = Bundle(part, manifest, "")
    detector = Detector(bundle, FlagPolicy(threshold=math.inf, audit_rate=0.0))
    counted = progress.counted(count, "end to end")
    whole = parity.end_to_end_drift(detector, engine, graph.head_name, validation, scores, counted)
    parity.check(whole, "end-to-end", "image px")
    parities = {"fp32": _parity(count, validation, drift, whole)}
    calibration = calibrate_export(Estimator(bundle, engine, math.inf), validation, config.targets)
    update = {"parity": parities, "calibration": calibration}
    write_manifest(part, manifest.model_copy(update=update))


def _graph_drift(
    graph: FusedGraph, engine: OnnxEngine, recipe: Recipe, validation: PoseSet
) -> parity.Drift:
    counted = progress.counted(len(validation), "graph parity")
    crops = np.stack([evaluation_crop(validation[i], recipe.model.crop)[0] for i in counted])
    return parity.graph_drift(graph, engine, crops)


def _parity(n: int, data: PoseSet, drift: parity.Drift, whole: parity.Drift) -> Parity:
    return Parity(
        n=n,
        data=without_folders(data.spec),
        keypoint_drift_px_p999=drift.keypoint_px,
        predicted_loss_drift=drift.loss,
        predicted_loss_spearman=drift.spearman,
        other_outputs_drift_p99=drift.others,
        end_to_end_keypoint_px_p999=whole.keypoint_px,
        end_to_end_predicted_loss_drift=whole.loss,
    )


def _write_samples(path: Path, graph: FusedGraph, recipe: Recipe) -> None:
    """Synthetic inputs with the trained network's answers, for the self-check of a runtime."""
    people = open_synthetic(_SAMPLE_SEED, SAMPLE_COUNT)
    crops: NDArray[np.uint8] = np.stack(
        [evaluation_crop(people[i], recipe.model.crop)[0] for i in range(SAMPLE_COUNT)]
    )
    answer = parity.run_torch(graph, crops)
    outputs = {name: getattr(answer, name) for name in FusedOutput._fields}
    np.savez_compressed(path, image=crops, **outputs)


def _manifest(
    recipe: Recipe,
    record: Record,
    config: ExportConfig,
    files: dict[str, str],
    scores: Scores,
    validation: PoseSet,
) -> Manifest:
    """All but parity and calibration, which are measured with what it says."""
    return Manifest(
        schema_version=2,
        name=config.name,
        version=config.version,
        keypoints=record.keypoints,
        crop=recipe.model.crop,
        outputs=FusedOutput._fields,
        signals=tuple(Signal(name=n, higher_is=_higher_is(n)) for n in heatmaps.SIGNALS),
        embedding_size=scores.embedding.shape[1],
        failure=FailureDefinition(
            metric=f"PCK@{metrics.PCK_THRESHOLD}",
            normaliser="longer torso diagonal",
            below=metrics.FAILURE_BELOW,
        ),
        calibration=UNCALIBRATED,
        parity={},
        provenance=_provenance(recipe, record, scores, validation),
        weights_licence=config.licence,
        files=files,
    )


def _higher_is(signal: str) -> Literal["safer", "riskier"]:
    return "safer" if signal in heatmaps.SAFER_SIGNALS else "riskier"


def _provenance(recipe: Recipe, record: Record, scores: Scores, validation: PoseSet) -> Provenance:
    return Provenance(
        recipe=recipe.name,
        training_data=tuple(without_folders(spec) for spec in record.training_data),
        label_count=record.label_count,
        validation_data=without_folders(validation.spec),
        commit=record.commit,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        metrics=summarise(scores),
        config=to_dict(recipe),
    )
