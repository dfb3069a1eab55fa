"""From a checkpoint to a bundle: export, gate, calibrate, write, sum up."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from misgiving.export import parity, reducing
from misgiving.export.calibrating import (
    calibrate_export,
    check_enough,
    check_unseen,
)
from misgiving.export.config import ExportConfig
from misgiving.export.describing import manifest_of, measured_on
from misgiving.export.gates import Reference
from misgiving.export.graph import FusedGraph
from misgiving.export.onnx import write_onnx
from misgiving.export.precision import BATCH
from misgiving.runtime.answer.answerer import Model
from misgiving.runtime.bundles.bundle import MODEL, SAMPLES, Bundle, sha256_file
from misgiving.runtime.bundles.manifest import write_manifest
from misgiving.runtime.bundles.precisions import MODELS, Parity
from misgiving.runtime.durable import new_folder
from misgiving.runtime.engines.onnx import OnnxEngine
from misgiving.runtime.errors import DataError
from misgiving.runtime.estimator import Estimator
from misgiving.runtime.geometry import Window
from misgiving.trainer import heatmaps, progress
from misgiving.trainer.answers.scoring import score
from misgiving.trainer.checkpoint import Record, load_checkpoint
from misgiving.trainer.config import Recipe
from misgiving.trainer.data import PoseSet, check_apart
from misgiving.trainer.data.crops import evaluation_crop
from misgiving.trainer.data.readable import readable_part
from misgiving.trainer.data.spec import without_folders
from misgiving.trainer.data.synthetic import open_synthetic
from misgiving.trainer.training import Compute, check_keypoints

SAMPLE_COUNT = 4
_SAMPLE_SEED = 20_260


def export_bundle(
    checkpoint: Path,
    validation: PoseSet,
    out: Path,
    config: ExportConfig,
    compute: Compute,
    reports: Sequence[PoseSet] = (),
) -> Bundle:
    """Export a checkpoint; the folder ``out`` appears only when every gate has passed.

    >>> bundle = export_bundle(
    ...     Path("runs/first"),
    ...     open_data("synthetic:3,256"),
    ...     Path("bundles/first"),
    ...     ExportConfig(name="first", version="0.1.0", targets=Targets(flag_rates=(0.05,))),
    ...     Compute(device="cpu", threads=1),
    ... )
    >>> bundle.manifest.name, bundle.manifest.parity.n
    ('first', 256)

    Args:
        checkpoint: from ``misgiving train`` or ``cycle``.
        validation: at least 256 persons that trained nothing; the gates run and the calibration
            is made on them.
        out: the bundle's folder, which must be new.
        config: name, head, targets of the thresholds.
        compute: where torch runs.
        reports: persons that neither trained nor are in ``validation``; how good the bundle is on
            them is measured and goes into its manifest.

    Raises:
        DataError: too few validation images, for the gates or for a target; wrong keypoints;
            ``out`` is there already; a report set has a person that trained or calibrates.
        ParityError: the exported graph does not answer as the trained network does.
    """
    network, recipe, record = load_checkpoint(checkpoint)
    check_keypoints(record, validation)
    _check_size(validation)
    check_enough(validation, config.targets)
    trained = [without_folders(spec) for spec in record.training_data]
    named = record.label_count + record.unreadable
    check_unseen(validation, trained, named)
    for data in reports:
        check_keypoints(record, data)
        check_unseen(data, trained, named)
        check_apart(data, validation)
    validation = readable_part(validation, recipe.model.crop)
    _check_size(validation)
    compute.prepare()
    graph = FusedGraph(network, config.head)
    with new_folder(out) as part:
        _fill(part, graph, recipe, record, validation, config, reports)
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
    reports: Sequence[PoseSet],
) -> None:
    essentials = {
        "name": config.name,
        "version": config.version,
        "keypoints": record.keypoints.model_dump(),
        "crop": recipe.model.crop.model_dump(),
        "signals": heatmaps.SIGNALS,
    }
    # Before all else: whoever lacks the training data here learns it at once.
    training = _int8_persons(recipe, record, validation) if _int8(config) else None
    write_onnx(graph, part / MODEL, essentials)
    engine = OnnxEngine(part / MODEL, "cpu", threads=1)
    crops, windows = _cut(recipe, validation)
    drift = parity.graph_drift(graph, engine, crops)
    parity.check(drift, "graph", "input px")
    count = len(validation)
    cpu = torch.device("cpu")
    scores = score(graph.network, recipe, validation, cpu, progress.counted(count, "scoring"))
    _write_samples(part / SAMPLES, graph, recipe)
    manifest = manifest_of(graph, recipe, record, config, scores, validation)
    bundle = Bundle(part, manifest, "")
    model = Model(bundle, engine)
    counted = progress.counted(count, "end to end")
    whole = parity.end_to_end_drift(model, graph.head_name, validation, scores, counted)
    parity.check(whole, "end-to-end", "image px")
    calibration = calibrate_export(Estimator(bundle, engine, math.inf), validation, config.targets)
    reference = Reference(
        answers=parity.in_batches(engine, crops, BATCH),
        crops=crops,
        windows=windows,
        rule=recipe.model.crop,
        truth=scores,
        data=validation.spec,
        # Where nobody fails more likely than not, "likely" is infinite and tells nothing.
        threshold=next(filter(math.isfinite, calibration.by_name().values())),
    )
    precisions = reducing.reduce(part, config.precisions, reference, training)
    measured = {
        "parity": _parity(count, validation, drift, whole),
        "calibration": calibration,
        "precisions": precisions,
        "files": _digests(part, precisions),
        "provenance": manifest.provenance.model_copy(
            update={"reports": measured_on(bundle, engine, reports)}
        ),
    }
    write_manifest(part, manifest.model_copy(update=measured))


def _int8(config: ExportConfig) -> bool:
    return any(name != "fp16" for name in config.precisions)


def _int8_persons(recipe: Recipe, record: Record, validation: PoseSet) -> PoseSet:
    persons = reducing.calibration_persons(record, validation)
    return readable_part(persons, recipe.model.crop)


def _cut(recipe: Recipe, validation: PoseSet) -> tuple[NDArray[np.uint8], tuple[Window, ...]]:
    """The validation persons as the engine gets them, (N, H, W, 3), and where they were cut."""
    counted = progress.counted(len(validation), "reading")
    pairs = [evaluation_crop(validation[index], recipe.model.crop) for index in counted]
    return np.stack([crop for crop, _ in pairs]), tuple(window for _, window in pairs)


def _digests(part: Path, precisions: Iterable[str]) -> dict[str, str]:
    names = (MODEL, *(MODELS[name] for name in precisions), SAMPLES)
    return {name: sha256_file(part / name) for name in names}


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
    outputs = {name: getattr(answer, name) for name in graph.outputs}
    np.savez_compressed(path, image=crops, **outputs)
