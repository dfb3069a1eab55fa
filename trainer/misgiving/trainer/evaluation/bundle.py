"""How good a bundle is on labelled data: its poses, and its scores of them.

Axes: N persons, K keypoints, S signals.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.bundle import Bundle, Manifest
from misgiving.runtime.durable import check_new, write_durably
from misgiving.runtime.errors import BundleError, DataError
from misgiving.runtime.estimator import Estimator
from misgiving.trainer import metrics
from misgiving.trainer.asking import ask
from misgiving.trainer.data import PoseSet, Sample, check_labelled, open_data
from misgiving.trainer.data.spec import without_folders
from misgiving.trainer.evaluation import bootstrap, oks
from misgiving.trainer.evaluation.bootstrap import Estimate
from misgiving.trainer.evaluation.oks import NUMBERS, AveragePrecision, average_precision
from misgiving.trainer.progress import counted
from misgiving.trainer.report import (
    COVERAGES,
    FailureReport,
    ScoreRow,
    differences,
    failure_lines,
    failure_report,
    table_line,
)

Floats = NDArray[np.floating]

LEARNED = "predicted_loss"
ORACLE = "true error (oracle)"
BY_CONFIDENCE = "mean confidence"
BY_LEARNED = "−predicted_loss"


@dataclass(frozen=True, kw_only=True)
class Persons:
    """What a bundle says of the persons of a data set, and what is true of them; no images.

    See :func:`evaluate`.
    """

    ids: tuple[str, ...]
    images: tuple[str, ...]
    """(N,): the file that each person is in, or the person's own id."""
    points: Floats
    """(N, K, 2) predicted, image px."""
    confidence: Floats
    """(N, K)"""
    predicted_loss: Floats
    """(N,)"""
    signals: Floats
    """(N, S)"""
    true_points: Floats
    labelled: NDArray[np.bool_]
    area: Floats
    """(N,), px²; NaN where the data set has none."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A bundle measured on a data set; see :func:`evaluate`."""

    bundle: Bundle
    data: PoseSet
    persons: Persons
    found: Floats
    """(N, K); see ``metrics.hits``."""
    failures: FailureReport
    best_free: ScoreRow | None
    """The free score with the highest AUROC on this data; None where none has one."""
    precision: AveragePrecision


def evaluate(estimator: Estimator, data: PoseSet) -> Evaluation:
    """Ask a bundle about every person and measure its answers.

    >>> evaluation = evaluate(Estimator.load(), open_data("synthetic:3,24"))
    >>> evaluation.failures.persons, evaluation.failures.row("predicted_loss").name
    (24, 'predicted_loss')

    Failures are told as the manifest defines them. A person's true error is the mean distance of
    the labelled joints in torso lengths: a bundle gives no heatmaps, and so no heatmap loss.

    Raises:
        BundleError: the manifest defines failures by another measure than PCK@0.2.
        DataError: somebody is not labelled.
        ImageError: an image cannot be read.
    """
    manifest = estimator.bundle.manifest
    _check_failure(manifest)
    check_labelled(data)
    persons = _ask_all(estimator, data)
    truth = persons.points, persons.true_points, persons.labelled, manifest.keypoints
    found = metrics.hits(*truth)
    risks = risk_scores(manifest, persons)
    failures = failure_report(
        risks,
        found,
        metrics.person_error(*truth),
        persons.images,
        oracle=ORACLE,
        failure_below=manifest.failure.below,
    )
    free = [row for row in failures.rows if row.name in risks.keys() - {LEARNED}]
    ordered = [row for row in free if np.isfinite(row.auroc.value)]
    return Evaluation(
        bundle=estimator.bundle,
        data=data,
        persons=persons,
        found=found,
        failures=failures,
        best_free=max(ordered, key=lambda row: row.auroc.value, default=None),
        precision=_average_precision(manifest, persons),
    )


def risk_scores(manifest: Manifest, persons: Persons) -> dict[str, Floats]:
    """``predicted_loss`` and the free scores, turned so that higher is riskier, by name."""
    risks = {LEARNED: persons.predicted_loss}
    for signal, column in zip(manifest.signals, persons.signals.T, strict=True):
        if signal.higher_is == "safer":
            risks[f"−{signal.name}"] = -column
        else:
            risks[signal.name] = column
    return risks


def _check_failure(manifest: Manifest) -> None:
    """Raise BundleError where a failure is not told by the PCK that is computed here."""
    expected = f"PCK@{metrics.PCK_THRESHOLD}"
    if manifest.failure.metric != expected:
        raise BundleError(
            f"{manifest.name} defines a failure by {manifest.failure.metric}; expected {expected}. "
            "Evaluate it with the version of misgiving that exported it"
        )


def _ask_all(estimator: Estimator, data: PoseSet) -> Persons:
    truths: list[tuple[str, NDArray[np.float32], NDArray[np.bool_], float]] = []

    def samples() -> Iterator[Sample]:
        for index in counted(len(data), "asking"):
            sample = data[index]
            area = np.nan if sample.area is None else sample.area
            truths.append((str(sample.path or sample.id), sample.points, sample.labelled, area))
            yield sample

    parts = list(ask(estimator, samples()))
    images, points, labelled, areas = zip(*truths, strict=True)
    return Persons(
        ids=data.ids,
        images=images,
        points=np.concatenate([part.points for part in parts]),
        confidence=np.concatenate([part.confidence for part in parts]),
        predicted_loss=np.concatenate([part.predicted_loss for part in parts]),
        signals=np.concatenate([part.signals for part in parts]),
        true_points=np.stack(points),
        labelled=np.stack(labelled),
        area=np.array(areas, float),
    )


def _average_precision(manifest: Manifest, persons: Persons) -> AveragePrecision:
    return average_precision(
        persons.points,
        persons.true_points,
        persons.labelled,
        persons.area,
        manifest.keypoints.oks_sigmas,
        persons.images,
        {BY_CONFIDENCE: persons.confidence.mean(1), BY_LEARNED: -persons.predicted_loss},
    )


def lines(evaluation: Evaluation) -> Iterator[str]:
    """The evaluation as text."""
    bundle, manifest = evaluation.bundle, evaluation.bundle.manifest
    yield f"data     {without_folders(evaluation.data.spec)}"
    yield f"bundle   {manifest.name} {manifest.version}, digest {bundle.digest[:12]}"
    yield f"trained  {' + '.join(manifest.provenance.training_data)}"
    yield f"failure  {manifest.failure}"
    yield ""
    yield from failure_lines(evaluation.failures)
    yield from _comparison_lines(evaluation)
    yield ""
    yield from _precision_lines(evaluation.precision)


def _comparison_lines(evaluation: Evaluation) -> Iterator[str]:
    if free := evaluation.best_free:
        yield f"{LEARNED} less {free.name}, the free score with the highest AUROC on this data"
        learned = evaluation.failures.row(LEARNED)
        yield table_line("difference (paired)", differences(learned, free).values())


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
        "scores": {row.name: _row_record(row) for row in report.rows},
        "best_free": free.name if free else None,
        "difference": _records(differences(report.row(LEARNED), free)) if free else None,
        "average_precision": _precision_record(evaluation.precision),
    }


def _row_record(row: ScoreRow) -> dict[str, Any]:
    pairs = zip(COVERAGES.tolist(), row.curve, strict=True)
    curve = [{"coverage": c, "failed": r if np.isfinite(r) else None} for c, r in pairs]
    return {**_records(row.numbers()), "risk_coverage": curve}


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
    json_file: Path | None,
    pictures: Path | None,
    device: str,
    threads: int,
) -> None:
    """The verb: evaluate, print, and write what was asked for.

    Raises:
        MisgivingError: the bundle or the data cannot be used, or a target is not writable or is
            there already; the targets are looked at before the bundle is asked.
    """
    _check_targets(json_file, pictures)
    estimator = Estimator.load(bundle, device=device, threads=threads)
    evaluation = evaluate(estimator, open_data(spec, estimator.bundle.manifest.keypoints))
    print("\n".join(lines(evaluation)))
    if json_file:
        text = json.dumps(record(evaluation), indent=2, allow_nan=False)
        write_durably(json_file, f"{text}\n".encode())
    if pictures:
        from misgiving.trainer.evaluation.pictures import (
            write_pictures,  # matplotlib takes a second to load
        )

        write_pictures(pictures, evaluation)


def _check_targets(json_file: Path | None, pictures: Path | None) -> None:
    if json_file and (json_file.is_dir() or not json_file.parent.is_dir()):
        raise DataError(f"{json_file} cannot be written; expected --json FILE in a folder there is")
    if pictures:
        check_new(pictures)
