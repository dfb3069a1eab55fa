"""An evaluation as text, as JSON and as pictures: the body of the verb ``evaluate``."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from misgiving.runtime.durable import check_new, write_durably
from misgiving.runtime.errors import DataError
from misgiving.runtime.estimator import Estimator
from misgiving.trainer.data import keypoints_named, open_data, shared_persons
from misgiving.trainer.data.mapping import mapped
from misgiving.trainer.data.spec import without_folders
from misgiving.trainer.evaluation import verdict
from misgiving.trainer.evaluation.bundle import (
    BY_CONFIDENCE,
    BY_LEARNED,
    LEARNED,
    Evaluation,
    evaluate,
)
from misgiving.trainer.measures import bootstrap, oks
from misgiving.trainer.measures.bootstrap import Estimate
from misgiving.trainer.measures.calibration import recorded
from misgiving.trainer.measures.joints import JointReport
from misgiving.trainer.measures.oks import NUMBERS, AveragePrecision
from misgiving.trainer.report import (
    COVERAGES,
    ScoreRow,
    differences,
    failure_lines,
    row_line,
    table_line,
)


def lines(evaluation: Evaluation) -> Iterator[str]:
    """The evaluation as text."""
    bundle, manifest = evaluation.bundle, evaluation.bundle.manifest
    yield verdict.sentence(evaluation)
    yield ""
    yield f"data     {without_folders(evaluation.data.spec)}"
    model = f"{manifest.name} {manifest.version} {bundle.precision}"
    yield f"bundle   {model}, digest {bundle.digest[:12]}"
    yield f"trained  {' + '.join(manifest.provenance.training_data)}"
    yield f"failure  {manifest.failure}"
    yield ""
    yield from failure_lines(evaluation.failures)
    if foreign := manifest.provenance.foreign:
        names = ", ".join(signal.name for signal in manifest.signals)
        yield f"{names}: what {foreign.file} says of itself"
    yield from _comparison_lines(evaluation)
    yield from _reliability_lines(evaluation)
    yield from _joint_lines(evaluation)
    yield ""
    yield from _pckh_lines(evaluation)
    yield from _precision_lines(evaluation.precision)
    yield ""
    yield from verdict.lines(evaluation)


def _comparison_lines(evaluation: Evaluation) -> Iterator[str]:
    if free := evaluation.best_free:
        yield f"{LEARNED} less {free.name}, the free score with the highest AUROC on this data"
        learned = evaluation.failures.row(LEARNED)
        yield row_line("difference (paired)", differences(learned, free))


def _reliability_lines(evaluation: Evaluation) -> Iterator[str]:
    """Nothing where the bundle has no probability."""
    if (one := evaluation.reliability) is None:
        return
    low, high = one.interval
    yield (
        f"failure_probability: expected calibration error {one.error:.3f} [{low:.3f} {high:.3f}] "
        f"over {one.persons} persons"
    )
    yield "  said → failed: " + "  ".join(f"{b.probability:.2f}→{b.failed:.2f}" for b in one.bins)
    if shared := len(_that_fitted(evaluation)):
        yield f"  too good to be true: {shared} of these persons fitted that probability"


def _joint_lines(evaluation: Evaluation) -> Iterator[str]:
    """Nothing where the bundle does not tell joints apart."""
    if one := evaluation.joints:
        yield (
            f"keypoint_loss: AUROC of a joint's miss {one.learned}, by its own peak "
            f"{one.own_peak}, difference {one.learned - one.own_peak}; mean over {one.joints} "
            f"joints, {one.misses} misses of {one.measured}"
        )


def _that_fitted(evaluation: Evaluation) -> tuple[str, ...]:
    """Ids of the persons that the probability was fitted to, as far as that is known."""
    fit = evaluation.bundle.manifest.calibration.failure_probability
    return shared_persons(evaluation.data, [fit.data] if fit else [])


def _pckh_lines(evaluation: Evaluation) -> Iterator[str]:
    """Nothing where nobody has a head size."""
    for name, one in evaluation.accuracies.items():
        if name.startswith("PCKh") and one.persons:
            yield f"{name} {one.rate} over {one.persons} persons; {one.left_out} without head size"


def _precision_lines(precision: AveragePrecision) -> Iterator[str]:
    if not precision.persons:
        yield "AP by OKS: –, no person has an area and a labelled joint with an OKS constant"
        return
    yield (
        f"AP by OKS over {precision.persons} persons in {precision.images} images, "
        f"each in the box given; [ ]: {oks.RESAMPLES} resamples"
    )
    yield table_line("ranked by", NUMBERS.values())
    for name, numbers in precision.by_score.items():
        yield table_line(name, numbers.values())
    yield table_line("difference (paired)", _precision_difference(precision).values())


def _precision_difference(precision: AveragePrecision) -> dict[str, Estimate]:
    first, second = precision.by_score[BY_LEARNED], precision.by_score[BY_CONFIDENCE]
    return {name: first[name] - second[name] for name in NUMBERS}


def record(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation as JSON, with the risk–coverage curves; what is undefined is null."""
    manifest, report = evaluation.bundle.manifest, evaluation.failures
    free = evaluation.best_free
    return {
        "data": without_folders(evaluation.data.spec),
        "bundle": {
            "name": manifest.name,
            "version": manifest.version,
            "digest": evaluation.bundle.digest,
            "precision": evaluation.bundle.precision,
        },
        "failure": manifest.failure.model_dump(),
        "persons": report.persons,
        "persons_with_torso": report.measured,
        "images_with_torso": report.images,
        "failures": report.failures,
        "rest": report.measured - report.failures,
        "bootstrap": {
            "level": bootstrap.LEVEL,
            "resamples": bootstrap.RESAMPLES,
            "resamples_average_precision": oks.RESAMPLES,
            "seed": bootstrap.SEED,
        },
        "pck": report.pck.record(),
        "accuracies": {
            name: {"persons": one.persons, "left_out": one.left_out, **one.rate.record()}
            for name, one in evaluation.accuracies.items()
        },
        "scores": {row.name: _row_record(row) for row in report.rows},
        "best_free": free.name if free else None,
        "difference": _records(differences(report.row(LEARNED), free)) if free else None,
        "failure_probability": _reliability_record(evaluation),
        "keypoint_loss": _joints_record(evaluation.joints),
        "average_precision": _precision_record(evaluation.precision),
        "verdict": verdict.record(evaluation),
    }


def _joints_record(one: JointReport | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        "joints": one.joints,
        "measured": one.measured,
        "misses": one.misses,
        "auroc": one.learned.record(),
        "auroc_own_peak": one.own_peak.record(),
        "difference": (one.learned - one.own_peak).record(),
    }


def _row_record(row: ScoreRow) -> dict[str, Any]:
    pairs = zip(COVERAGES.tolist(), row.curve, strict=True)
    curve = [{"coverage": c, "failed": r if np.isfinite(r) else None} for c, r in pairs]
    return {**_records(row.numbers()), "risk_coverage": curve}


def _reliability_record(evaluation: Evaluation) -> dict[str, Any] | None:
    if (one := evaluation.reliability) is None:
        return None
    data = without_folders(evaluation.data.spec)
    return {
        **recorded(one, data).model_dump(),
        "fitted_to": len(_that_fitted(evaluation)),
        "bins": [asdict(each) for each in one.bins],
    }


def _precision_record(precision: AveragePrecision) -> dict[str, Any] | None:
    if not precision.persons:
        return None
    return {
        "persons": precision.persons,
        "images": precision.images,
        "ranked_by": {name: _records(each) for name, each in precision.by_score.items()},
        "difference": _records(_precision_difference(precision)),
    }


def _records(numbers: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: number.record() for name, number in numbers.items()}


def run(
    bundle: Path | None,
    spec: str,
    keypoints: str | None,
    json_file: Path | None,
    pictures: Path | None,
    device: str,
    threads: int,
    precision: str,
) -> None:
    """The verb: evaluate, print, and write what was asked for.

    Raises:
        MisgivingError: the bundle or the data cannot be used, or a target is not writable or is
            there already; the targets are looked at before the bundle is asked.
    """
    _check_targets(json_file, pictures)
    chosen = keypoints_named(keypoints) if keypoints else None
    estimator = Estimator.load(bundle, device=device, threads=threads, precision=precision)
    own = estimator.bundle.manifest.keypoints
    data = mapped(open_data(spec, chosen), own) if chosen else open_data(spec, own)
    evaluation = evaluate(estimator, data)
    _check_measured(evaluation)
    if json_file:  # before anything is printed: whoever reads stdout may go away
        text = json.dumps(record(evaluation), indent=2, allow_nan=False)
        write_durably(json_file, f"{text}\n".encode())
    if pictures:
        from misgiving.trainer.evaluation.pictures import (
            write_pictures,  # matplotlib takes a second to load
        )

        write_pictures(pictures, evaluation)
    print("\n".join(lines(evaluation)))


def _check_measured(evaluation: Evaluation) -> None:
    """Raise DataError where no label says how good a pose is: the table would be empty."""
    accurate = any(one.persons for one in evaluation.accuracies.values())
    if not (evaluation.failures.measured or accurate or evaluation.precision.persons):
        own = evaluation.bundle.manifest.keypoints
        torso = dict.fromkeys(own.names[index] for pair in own.torso for index in pair)
        raise DataError(
            f"{evaluation.data.spec} has nobody whose torso is labelled, nor a head's box or an "
            f"area; expected labels of {', '.join(torso) or 'a torso'}"
        )


def _check_targets(json_file: Path | None, pictures: Path | None) -> None:
    if json_file and (json_file.is_dir() or not os.access(json_file.parent, os.W_OK)):
        raise DataError(
            f"{json_file} cannot be written; expected --json FILE in a folder that takes files"
        )
    if pictures:
        check_new(pictures)
