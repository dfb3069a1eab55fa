"""How good a bundle is on labelled data: its poses, and its scores of them.

Axes: N persons, K keypoints, S signals.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.manifest import Manifest
from misgiving.runtime.errors import BundleError
from misgiving.runtime.estimator import Estimator
from misgiving.trainer.answers.asking import Answers, answer
from misgiving.trainer.answers.reading import BATCH, Person, batches
from misgiving.trainer.data import Collected, PoseSet, check_labelled
from misgiving.trainer.data.base import only
from misgiving.trainer.data.readable import Readable, asked_window
from misgiving.trainer.measures import metrics
from misgiving.trainer.measures.accuracy import Accuracy, accuracies
from misgiving.trainer.measures.calibration import Reliability, reliability
from misgiving.trainer.measures.joints import JointReport, joint_report
from misgiving.trainer.measures.oks import AveragePrecision, average_precision
from misgiving.trainer.progress import counted
from misgiving.trainer.report import (
    FailureReport,
    ScoreRow,
    failure_report,
)

Floats = NDArray[np.floating]

LEARNED = "predicted_loss"
ORACLE = "true error (oracle)"
BY_CONFIDENCE = "mean confidence"
BY_LEARNED = "-predicted_loss"


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
    head_diagonal: Floats
    """(N,), px, of the head's box; NaN where the data set has none."""
    embedding: Floats
    """(N, D)"""
    keypoint_loss: Floats
    """(N, K), or (N, 0) of a bundle that does not tell joints apart."""
    collected: tuple[Collected | None, ...]
    """(N,): how the fleet came to keep them, where it did."""


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
    accuracies: dict[str, Accuracy]
    """The poses by other measures, PCKh among them; see ``accuracy.accuracies``."""
    reliability: Reliability | None
    """Of the bundle's failure probability; None where it has none, or nobody has a torso."""
    joints: JointReport | None
    """None of a bundle that does not tell joints apart, or where no joint is both missed and
    found."""


def evaluate(estimator: Estimator, data: PoseSet) -> Evaluation:
    """Ask a bundle about every person and measure its answers.

    >>> evaluation = evaluate(Estimator.load(), open_data("synthetic:3,24"))
    >>> evaluation.failures.persons, evaluation.failures.row("predicted_loss").name
    (24, 'predicted_loss')

    Failures are told as the manifest defines them. A person's true error is the mean distance of
    the labelled joints in torso lengths: a bundle gives no heatmaps, and so no heatmap loss.

    Raises:
        BundleError: the manifest defines failures by another measure than PCK@0.2.
        DataError: somebody is not labelled, or too many cannot be read.
    """
    manifest = estimator.bundle.manifest
    check_measurable(manifest, data)
    persons = ask_all(estimator, data)
    data = data if len(persons.ids) == len(data) else only(data, persons.ids)
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
        accuracies=accuracies(*truth, persons.head_diagonal, persons.images),
        reliability=_reliability(manifest, persons, found),
        joints=joint_report(persons.keypoint_loss, persons.confidence, found, persons.images),
    )


def risk_scores(manifest: Manifest, persons: Persons) -> dict[str, Floats]:
    """``predicted_loss`` and the free scores, turned so that higher is riskier, by name."""
    risks = {LEARNED: persons.predicted_loss}
    for signal, column in zip(manifest.signals, persons.signals.T, strict=True):
        if signal.higher_is == "safer":
            risks[f"-{signal.name}"] = -column
        else:
            risks[signal.name] = column
    return risks


def _reliability(manifest: Manifest, persons: Persons, found: Floats) -> Reliability | None:
    fit = manifest.calibration.failure_probability
    shares = metrics.person_pck(found)
    known = np.isfinite(shares) & np.isfinite(persons.predicted_loss)
    if fit is None or not known.any():
        return None
    return reliability(
        fit.of(persons.predicted_loss[known]),
        shares[known] < manifest.failure.below,
        np.ones(known.sum()),
        [image for image, keep in zip(persons.images, known, strict=True) if keep],
    )


_Truth = tuple[str, NDArray[np.float32], NDArray[np.bool_], float, float, Collected | None]
_Asked = tuple[Answers, list[_Truth]]
"""What a bundle says of a batch, and what is true of each person."""


def check_measurable(manifest: Manifest, data: PoseSet) -> None:
    """Raise BundleError where a failure is not told by the PCK that is computed here, and
    DataError where somebody is not labelled."""
    check_labelled(data)
    expected = f"PCK@{metrics.PCK_THRESHOLD}"
    if manifest.failure.metric != expected:
        raise BundleError(
            f"{manifest.name} defines a failure by {manifest.failure.metric}; expected {expected}. "
            "Evaluate it with the version of misgiving that exported it"
        )


def ask_all(estimator: Estimator, data: PoseSet) -> Persons:
    """Ask a bundle about every person who can be read; shows progress.

    Errors as :func:`evaluate`.
    """
    rule = estimator.bundle.manifest.crop
    reader = Readable(data, lambda sample: asked_window(sample, rule))
    samples = reader.samples(counted(len(data), "asking"))
    asked = _asked(estimator, batches(samples, rule, BATCH))
    reader.kept()  # before anything is made of them: there may be nobody
    return _persons(asked)


def ask_read(estimator: Estimator, read: Iterable[tuple[Person, ...]]) -> Persons:
    """Ask a bundle about persons who are cut already, in batches; at least one."""
    return _persons(_asked(estimator, read))


def _asked(estimator: Estimator, read: Iterable[tuple[Person, ...]]) -> list[_Asked]:
    return [(answer(estimator, batch), [_truth(person) for person in batch]) for batch in read]


def _persons(asked: list[_Asked]) -> Persons:
    parts = [part for part, _ in asked]
    truths = chain.from_iterable(rows for _, rows in asked)
    images, points, labelled, areas, diagonals, collected = zip(*truths, strict=True)
    return Persons(
        ids=tuple(name for part in parts for name in part.ids),
        images=images,
        points=np.concatenate([part.points for part in parts]),
        confidence=np.concatenate([part.confidence for part in parts]),
        predicted_loss=np.concatenate([part.predicted_loss for part in parts]),
        signals=np.concatenate([part.signals for part in parts]),
        true_points=np.stack(points),
        labelled=np.stack(labelled),
        area=np.array(areas, float),
        head_diagonal=np.array(diagonals, float),
        embedding=np.concatenate([part.embedding for part in parts]),
        keypoint_loss=np.concatenate([part.keypoint_loss for part in parts]),
        collected=collected,
    )


def _truth(person: Person) -> _Truth:
    """All but the crop, which would not fit for everybody."""
    shape = person.area, person.head_diagonal
    return person.image, person.points, person.labelled, *shape, person.collected


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
