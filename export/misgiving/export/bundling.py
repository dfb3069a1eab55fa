"""From a checkpoint to a bundle: export, gate, calibrate, write, sum up."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
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
from misgiving.export.foreign_gate import check_foreign
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
from misgiving.trainer import progress
from misgiving.trainer.answers.reading import BATCH as READ
from misgiving.trainer.answers.reading import Person, read_all
from misgiving.trainer.answers.scoring import Scores, score_read
from misgiving.trainer.checkpoint import Record, load_checkpoint
from misgiving.trainer.config import Recipe
from misgiving.trainer.data import PoseSet, check_apart, check_labelled
from misgiving.trainer.data.crops import evaluation_crop
from misgiving.trainer.data.readable import readable_part
from misgiving.trainer.data.spec import without_folders
from misgiving.trainer.data.synthetic import open_synthetic
from misgiving.trainer.evaluation.bundle import ask_read
from misgiving.trainer.foreign.pose import ForeignPose
from misgiving.trainer.training import Compute, check_keypoints

SAMPLE_COUNT = 4
_SAMPLE_SEED = 20_260


def export_bundle(
    checkpoint: Path | str,
    validation: PoseSet,
    out: Path | str,
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
    checkpoint, out = Path(checkpoint), Path(out)
    network, recipe, record = load_checkpoint(checkpoint)
    _check_data(record, validation, config, reports)
    validation, persons = read_all(validation, recipe.model.crop)
    check_size(validation)
    compute.prepare()
    graph = FusedGraph(network, config.head)
    source = _Source(graph, recipe, record, config, validation, persons)
    with new_folder(out) as part:
        _fill(part, source, reports)
    return Bundle.load(out)


@dataclass(frozen=True, slots=True)
class _Source:
    """What a bundle is made from."""

    graph: FusedGraph
    recipe: Recipe
    record: Record
    config: ExportConfig
    validation: PoseSet
    persons: tuple[Person, ...]
    """Of the validation data, cut."""

    def batches(self, what: str) -> Iterator[tuple[Person, ...]]:
        """The persons as a network takes them; shows progress."""
        for at in progress.counted(math.ceil(len(self.persons) / READ), what):
            yield self.persons[at * READ : (at + 1) * READ]


def _check_data(
    record: Record, validation: PoseSet, config: ExportConfig, reports: Sequence[PoseSet]
) -> None:
    """Raise DataError before anybody is read, where it can be told."""
    check_keypoints(record, validation)
    check_size(validation)
    check_enough(validation, config.targets)
    trained = [without_folders(spec) for spec in record.training_data]
    named = record.label_count + record.unreadable
    check_unseen(validation, trained, named)
    for data in reports:
        check_keypoints(record, data)
        check_unseen(data, trained, named)
        check_apart(data, validation)
    check_labelled(validation)


def check_size(validation: PoseSet) -> None:
    """Raise DataError where a set is too small for the gates."""
    if len(validation) < parity.MIN_IMAGES:
        raise DataError(
            f"{validation.spec} has {len(validation)} persons; parity needs at least "
            f"{parity.MIN_IMAGES}. Give a larger range"
        )


def _fill(part: Path, source: _Source, reports: Sequence[PoseSet]) -> None:
    graph, config = source.graph, source.config
    # Before all else: whoever lacks the training data here learns it at once.
    training = _int8_persons(source) if _int8(config) else None
    write_onnx(graph, part / MODEL, _essentials(source))
    engine = OnnxEngine(part / MODEL, "cpu", threads=1)
    crops = np.stack([person.crop for person in source.persons])
    drift = parity.graph_drift(graph, engine, crops)
    parity.check(drift, "graph", "input px")
    if isinstance(graph.network.pose, ForeignPose):
        check_foreign(part / MODEL, graph.network.pose, engine, crops)
    scores = _scores(source)
    _write_samples(part / SAMPLES, graph, source.recipe)
    manifest = manifest_of(
        graph,
        source.recipe,
        source.record,
        config,
        scores,
        source.validation,
        engine.max_batch,
    )
    bundle = Bundle(part, manifest, "")
    whole = _whole_drift(bundle, engine, source, scores)
    said = ask_read(Estimator(bundle, engine, math.inf), source.batches("asking"))
    calibration = calibrate_export(manifest, source.validation, said, config.targets)
    reference = Reference(
        answers=parity.in_batches(engine, crops, BATCH),
        crops=crops,
        windows=tuple(person.window for person in source.persons),
        rule=source.recipe.model.crop,
        truth=scores,
        data=source.validation.spec,
        # Where nobody fails more likely than not, "likely" is infinite and tells nothing.
        threshold=next(filter(math.isfinite, calibration.by_name().values())),
    )
    precisions = reducing.reduce(part, config.precisions, reference, training)
    measured = {
        "parity": _parity(source.validation, drift, whole),
        "calibration": calibration,
        "precisions": precisions,
        "files": _digests(part, precisions),
        "provenance": manifest.provenance.model_copy(
            update={"reports": measured_on(bundle, engine, reports)}
        ),
    }
    write_manifest(part, manifest.model_copy(update=measured))


def _essentials(source: _Source) -> dict[str, object]:
    """What a lone graph says of itself."""
    return {
        "name": source.config.name,
        "version": source.config.version,
        "keypoints": source.record.keypoints.model_dump(),
        "crop": source.recipe.model.crop.model_dump(),
        "signals": source.graph.network.pose.signals,
    }


def _scores(source: _Source) -> Scores:
    """What the trained network says of the persons."""
    network, keypoints = source.graph.network, source.validation.keypoints
    read, count = source.batches("scoring"), len(source.persons)
    return score_read(network, source.recipe, keypoints, read, count, torch.device("cpu"))


def _whole_drift(
    bundle: Bundle, engine: OnnxEngine, source: _Source, scores: Scores
) -> parity.Drift:
    """Between trainer and runtime, from the image files on; raises where it is too much."""
    counted = progress.counted(len(source.persons), "end to end")
    model, head = Model(bundle, engine), source.graph.head_name
    drift = parity.end_to_end_drift(model, head, source.validation, scores, counted)
    parity.check(drift, "end-to-end", "image px")
    return drift


def _int8(config: ExportConfig) -> bool:
    return any(name != "fp16" for name in config.precisions)


def _int8_persons(source: _Source) -> PoseSet:
    persons = reducing.calibration_persons(source.record, source.validation)
    return readable_part(persons, source.recipe.model.crop)


def _digests(part: Path, precisions: Iterable[str]) -> dict[str, str]:
    names = (MODEL, *(MODELS[name] for name in precisions), SAMPLES)
    return {name: sha256_file(part / name) for name in names}


def _parity(data: PoseSet, drift: parity.Drift, whole: parity.Drift) -> Parity:
    return Parity(
        n=len(data),
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
