"""From the fp32 file to the lower precisions, each with its gate; layers that fail it stay fp32.

Where int8 misses its gate, every layer is quantised alone and its effect on the outputs that
missed is measured, on calibration images, so that the gate's own images choose nothing. The worst
layer is then kept in fp32, or two, four…, until the gate is passed or a quarter of the layers is
kept: an int8 graph that is fp32 for more than that is not worth its file.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray

from misgiving.export import gates
from misgiving.export.gates import LIMITS, Measured, Miss, Reference
from misgiving.export.parity import in_batches
from misgiving.export.precision import BATCH, Quantiser, layer_name, to_fp16
from misgiving.runtime.bundles.bundle import MODEL, SAMPLES
from misgiving.runtime.bundles.precisions import (
    MODELS,
    CalibrationImages,
    ReducedPrecision,
    SampleDrift,
)
from misgiving.runtime.engines.base import Prediction
from misgiving.runtime.engines.onnx import OnnxEngine
from misgiving.runtime.engines.self_check import sample_drift
from misgiving.runtime.errors import DataError, ParityError
from misgiving.runtime.geometry import CropRule
from misgiving.trainer import progress
from misgiving.trainer.checkpoint import Record
from misgiving.trainer.data import PoseSet, join, open_data, subset
from misgiving.trainer.data.crops import evaluation_crop
from misgiving.trainer.data.spec import without_folders

CALIBRATION_COUNT = 128
CALIBRATION_SEED = 0
PROBED = 32
"""Calibration images that layers are compared on."""
MOST_KEPT = 0.25
"""Share of the layers."""


def reduce(
    part: Path,
    precisions: Sequence[str],
    reference: Reference,
    training: PoseSet | None,
) -> dict[str, ReducedPrecision]:
    """Write the further graphs of a bundle beside its fp32 one.

    Args:
        part: the bundle's folder, with the fp32 graph and the self-check samples.
        precisions: which; the first that fails ends it.
        reference: fp32's answers to the validation persons.
        training: persons to calibrate int8 on; not needed for fp16.

    Raises:
        ParityError: a precision does not pass its gate.
    """
    images = None if training is None else _crops(training, reference.rule)
    with np.load(part / SAMPLES) as archive:
        samples = dict(archive)
    made = {}
    for name in precisions:
        if name == "fp16":
            measured, kept = _halved(part, name, reference)
        else:
            assert images is not None
            measured, kept = _quantised(part, name, images, reference)
        engine = OnnxEngine(part / MODELS[name], "cpu", 1, name)
        shift, drift = sample_drift(engine.infer(samples["image"]), samples)
        made[name] = ReducedPrecision(
            gate=measured.as_gate(reference, str(engine.provider)),
            samples=SampleDrift(keypoint_px=shift, predicted_loss=drift),
            calibration=None if training is None or name == "fp16" else _named(training),
            kept_fp32=kept,
        )
    return made


def check(name: str, missed: Sequence[Miss], kept: int = 0) -> None:
    """Raise ParityError where a gate was missed."""
    if missed:
        tried = f", with {kept} layers kept in fp32" if kept else ""
        raise ParityError(
            f"{name} gate failed{tried}: {'; '.join(miss.text for miss in missed)}. "
            f"No bundle was written; export without --precision {name}"
        )


def calibration_persons(record: Record, validation: PoseSet) -> PoseSet:
    """A seeded sample of a checkpoint's training data, without the validation's persons.

    A cycle's record names the whole pool, which the validation data may be a range of.

    Raises:
        DataError: the training data cannot be read here, or all of it validates.
    """
    specs = [spec for joined in record.training_data for spec in joined.split(" + ")]
    data = join([open_data(spec, record.keypoints) for spec in dict.fromkeys(specs)])
    measured = set(validation.ids)
    left = [place for place, name in enumerate(data.ids) if name not in measured]
    if not left:
        raise DataError(
            f"{validation.spec} holds all of the training data {data.spec}; nobody is left to "
            "calibrate int8 on. Give other --val"
        )
    drawn = np.random.default_rng(CALIBRATION_SEED).permutation(left)[:CALIBRATION_COUNT]
    return subset(data, np.sort(drawn))


def _named(training: PoseSet) -> CalibrationImages:
    return CalibrationImages(
        data=without_folders(training.spec), n=len(training), seed=CALIBRATION_SEED
    )


def _crops(data: PoseSet, rule: CropRule) -> NDArray[np.uint8]:
    counted = progress.counted(len(data), "reading for int8")
    return np.stack([evaluation_crop(data[index], rule)[0] for index in counted])


def _judge(path: Path, name: str, reference: Reference) -> Measured:
    engine = OnnxEngine(path, "cpu", 1, name)
    return gates.measure(in_batches(engine, reference.crops, BATCH), reference)


def _halved(part: Path, name: str, reference: Reference) -> tuple[Measured, tuple[str, ...]]:
    target = part / MODELS[name]
    onnx.save_model(to_fp16(onnx.load(part / MODEL)), target)
    measured = _judge(target, name, reference)
    check(name, gates.misses(measured, LIMITS[name]))
    return measured, ()


def _quantised(
    part: Path, name: str, images: NDArray[np.uint8], reference: Reference
) -> tuple[Measured, tuple[str, ...]]:
    """Quantise with as many layers in fp32 as the gate needs; gives their names."""
    model, target = onnx.load(part / MODEL), part / MODELS[name]
    with TemporaryDirectory() as scratch:
        quantiser = Quantiser(model, name, images, Path(scratch))
        layers, kept, worst = quantiser.layers, 0, list[str]()
        most = max(1, int(MOST_KEPT * len(layers)))
        while True:
            spared = worst[:kept]
            quantiser.quantise(target, [layer for layer in layers if layer not in spared])
            measured = _judge(target, name, reference)
            missed = gates.misses(measured, LIMITS[name])
            if not missed:
                return measured, tuple(layer_name(model, layer) for layer in spared)
            if kept == most:
                check(name, missed, kept)
            progress.print_step(f"{name}: {'; '.join(miss.text for miss in missed)}")
            if not worst:
                outputs = {miss.output for miss in missed}
                worst = worst_first(quantiser, part / MODEL, images[:PROBED], outputs)
            kept = min(most, 2 * kept or 1)


def worst_first(
    quantiser: Quantiser, fp32: Path, images: NDArray[np.uint8], outputs: set[str]
) -> list[str]:
    """Layers by how far each, quantised alone, moves some of the outputs, farthest first.

    Args:
        quantiser: of the fp32 graph.
        fp32: that graph.
        images: crops (N, H, W, 3).
        outputs: ``keypoints``, ``predicted_loss``.
    """
    expected = in_batches(OnnxEngine(fp32, "cpu", 1), images, BATCH)
    counted = progress.counted(len(quantiser.layers), "comparing layers")
    damage = {}
    with TemporaryDirectory() as scratch:
        alone = Path(scratch) / "alone.onnx"
        for layer, _ in zip(quantiser.layers, counted, strict=True):
            quantiser.quantise(alone, [layer])
            got = in_batches(OnnxEngine(alone, "cpu", 1), images, BATCH)
            damage[layer] = sum(_shifts(got, expected, outputs))
    return sorted(damage, key=lambda layer: -damage[layer])


def _shifts(got: Prediction, expected: Prediction, outputs: set[str]) -> Iterator[float]:
    """Mean shift of each output, in standard deviations of it; infinite where it is no number."""
    for name in sorted(outputs):
        one, other = getattr(got, name), getattr(expected, name)
        if name == "keypoints":
            one, other = one[..., :2], other[..., :2]
        shift = float(np.abs(one - other).mean()) / (float(other.std()) or 1.0)
        yield shift if np.isfinite(shift) else float("inf")
