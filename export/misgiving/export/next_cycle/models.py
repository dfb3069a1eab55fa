"""From labels to a bundle of the cycle: trained or attached, exported, calibrated."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from misgiving.export.bundling import export_bundle
from misgiving.export.calibrating import Targets, calibrate_bundle
from misgiving.export.config import ExportConfig
from misgiving.export.next_cycle.asked import Asked, AttachTable, CalibrateTable, TrainTable
from misgiving.export.next_cycle.tasks import AUDIT, TRAIN
from misgiving.runtime import Bundle, Estimator
from misgiving.runtime.errors import DataError
from misgiving.runtime.keypoints import KeypointSet
from misgiving.runtime.labelset import read_labels
from misgiving.trainer import (
    Compute,
    PoseSet,
    Record,
    Sample,
    attach,
    head_named,
    join,
    open_data,
    read_net,
    recipe_named,
    train,
)
from misgiving.trainer.checkpoint import find_checkpoint, load_record


def labels_spec(out: Path, list_: str) -> str:
    """The spec of one list of a cycle's label set."""
    version = read_labels(out / "labelset").version
    return f"labels:{out / 'labelset'}@{version}#@{out / list_}"


def learn(asked: Asked, field: KeypointSet, out: Path, compute: Compute) -> Record:
    """Train, or attach, on what was labelled before and what is labelled now.

    Args:
        asked: which of the two, and how.
        field: keypoints of the bundle in the field, for a training that begins from nothing.
        out: folder of the cycle.
        compute: where.

    Raises:
        MisgivingError: as :func:`misgiving.trainer.train` and :func:`misgiving.trainer.attach`.
    """
    new, checkpoint = labels_spec(out, TRAIN), out / "checkpoint"
    if checkpoint.exists():
        return load_record(checkpoint)
    if asked.attach:
        return _attached(asked.attach, asked.calibrate.val, new, checkpoint, compute)
    assert asked.train
    return _trained(asked.train, asked.calibrate.val, new, field, checkpoint, compute)


def _attached(asked: AttachTable, val: str, new: str, out: Path, compute: Compute) -> Record:
    net = read_net(asked.net)
    heads = tuple(map(head_named, asked.head))
    data = join([open_data(spec, net.keypoints) for spec in (*asked.data, new)])
    validation = open_data(val, net.keypoints)
    trained = attach(
        net, data, validation, out, compute, heads=heads, epochs=asked.epochs, seed=asked.seed
    )
    return trained.record


def _trained(
    asked: TrainTable, val: str, new: str, field: KeypointSet, out: Path, compute: Compute
) -> Record:
    init, own, keypoints = None, "demo", field
    if asked.init:
        init = find_checkpoint(Path(asked.init))
        own, keypoints = str(init / "recipe.json"), load_record(init).keypoints
    recipe = recipe_named(asked.recipe or own, asked.epochs, asked.seed)
    data = join([open_data(spec, keypoints) for spec in (*asked.data, new)])
    return train(recipe, data, open_data(val, keypoints), out, compute, init).record


def export(asked: Asked, name: str, out: Path, compute: Compute) -> Bundle:
    """Export the cycle's checkpoint; raises as :func:`misgiving.export.export_bundle`."""
    target = out / "bundle"
    if target.exists():
        return Bundle.load(target)
    record = load_record(out / "checkpoint")
    config = ExportConfig(
        name=name,
        version=asked.export.version or out.resolve().name,
        licence=asked.export.licence,
        precisions=asked.export.precision,
        targets=targets_of(asked.calibrate),
    )
    validation = open_data(asked.calibrate.val, record.keypoints)
    return export_bundle(out / "checkpoint", validation, target, config, compute)


def targets_of(asked: CalibrateTable) -> Targets:
    """What the thresholds are to promise."""
    return Targets(
        flag_rates=asked.flag_rate, miss_rates=asked.miss_rate, confidence=asked.confidence
    )


def calibrate(
    asked: CalibrateTable, out: Path, drawn: Mapping[str, float], unseen: int
) -> tuple[Path, str]:
    """Calibrate on the drawn frames, where they carry what is asked.

    Returns:
        The calibrated bundle, which is the exported one where they do not; and why not.
    """
    bundle, target = out / "bundle", out / "calibrated"
    if target.exists():
        return target, ""
    if why := _why_not(out, unseen):
        return bundle, why
    estimator = Estimator.load(bundle)
    keypoints = estimator.bundle.manifest.keypoints
    persons = drawn_persons(open_data(labels_spec(out, AUDIT), keypoints), drawn)
    try:
        calibrate_bundle(estimator, persons, target, targets_of(asked))
    except DataError as error:
        return bundle, str(error)
    return target, ""


def _why_not(out: Path, unseen: int) -> str:
    if not (out / AUDIT).read_bytes():
        return "nobody of the random sample is labelled"
    if unseen:
        return (
            f"{unseen} persons of the random sample came back as they went out, so that it is "
            "random no more. Look at everybody, and set annotators.trust_untouched"
        )
    return ""


def drawn_persons(data: PoseSet, drawn: Mapping[str, float]) -> PoseSet:
    """Persons of drawn frames, with the probability that the vehicle kept the frame and that it
    was drawn then."""
    chances = {digest[:16]: chance for digest, chance in drawn.items()}

    def read(index: int) -> Sample:
        sample = data.read(index)
        assert sample.collected  # they are of a label set
        chance = sample.collected.sampling_probability * chances[sample.id[:16]]
        collected = replace(sample.collected, sampling_probability=chance)
        return replace(sample, collected=collected)

    return replace(data, read=read)
