"""From a bundle's answers on labelled data to probabilities, thresholds and a reference.

Axes: N persons, F frames.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from misgiving.export import promises
from misgiving.export.outcomes import Outcomes, ask_outcomes, outcomes_of
from misgiving.export.promises import Cut, Sample
from misgiving.export.reference import reference
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.calibration import (
    Calibration,
    CalibrationError,
    FailureProbability,
    Target,
    Threshold,
)
from misgiving.runtime.bundles.manifest import Manifest, write_manifest
from misgiving.runtime.durable import check_new, new_folder
from misgiving.runtime.errors import DataError
from misgiving.runtime.estimator import Estimator
from misgiving.trainer.data import PoseSet, check_apart, shared_persons
from misgiving.trainer.data.spec import without_folders
from misgiving.trainer.evaluation.bundle import Persons
from misgiving.trainer.measures.calibration import recorded, reliability
from misgiving.trainer.progress import print_line

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]

FOLDS = 5
_SEED = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Targets:
    """What thresholds are to promise; see :func:`calibrate_bundle`."""

    flag_rates: tuple[float, ...] = ()
    """Shares of all frames that may be flagged at most. The first is the bundle's default."""
    miss_rates: tuple[float, ...] = ()
    """Shares of the failures that may be missed at most. The first is the default where there is
    no flag rate."""
    confidence: float = 0.9
    """That each of them is kept, for itself."""

    def __post_init__(self) -> None:
        """Check the shares."""
        for name, value in [*self.rates(), ("confidence", self.confidence)]:
            if not 0 < value < 1:
                raise DataError(
                    f"{name.replace('_', ' ')} is {value}; expected between 0 and 1, as in 0.1"
                )

    def rates(self) -> list[tuple[Target, float]]:
        """Each target with its share, the default first."""
        flags: list[tuple[Target, float]] = [("flag_rate", rate) for rate in self.flag_rates]
        return [*flags, *(("miss_rate", rate) for rate in self.miss_rates)]


def calibrate_bundle(
    estimator: Estimator,
    data: PoseSet,
    out: Path | str,
    targets: Targets = Targets(),
    *,
    report_data: PoseSet | None = None,
    unit: str | None = None,
) -> Bundle:
    """Write a bundle with the same graph, calibrated on data that it was not trained on.

    >>> people = open_data("synthetic:3,256")
    >>> targets = Targets(flag_rates=(0.1,), miss_rates=(0.2,))
    >>> bundle = calibrate_bundle(Estimator.load(), people, Path("bundles/mine"), targets)
    >>> [threshold.name for threshold in bundle.manifest.calibration.thresholds]
    ['flag_rate=0.1', 'miss_rate=0.2']

    Args:
        estimator: of the bundle, which stays as it is.
        data: persons that trained nothing, drawn as the promises are to hold for.
        out: the new bundle's folder, which must be new.
        targets: of the thresholds; without any, those of the bundle.
        report_data: to measure the probability on; without it, folds of ``data``, each left out
            of a fit on the others.
        unit: what is drawn independently: image, device or stream; by default device where the
            data names any (``labels:``), else image.

    Raises:
        DataError: training, calibration and report share persons; there are no failures, or
            nobody else; the data is too little for a target; ``out`` is there already.
        BundleError: the bundle defines failures by another measure than PCK@0.2, or answers with
            something that is no number.
    """
    out = Path(out)
    check_new(out)
    manifest = estimator.bundle.manifest
    origin = manifest.provenance
    for one in (data, report_data):
        if one is not None:
            check_unseen(one, origin.training_data, origin.label_count)
    if report_data is not None:
        check_apart(data, report_data)
    check_enough(data, _with_rates(targets, manifest))
    outcomes, persons = ask_outcomes(estimator, data, unit)
    if problem := why_no_probability(outcomes):
        raise DataError(problem)
    reported = None if report_data is None else ask_outcomes(estimator, report_data)[0]
    calibration = calibration_of(manifest, outcomes, persons, targets, reported)
    with new_folder(out) as part:
        for name in manifest.files:
            shutil.copyfile(estimator.bundle.path / name, part / name)
        changes = {"calibration": calibration, "release": this_minute()}
        write_manifest(part, manifest.model_copy(update=changes))
    return Bundle.load(out)


def this_minute() -> int:
    """A release number that rises without a counter: the minute in UTC, as in 202611222153."""
    return int(f"{datetime.now(timezone.utc):%Y%m%d%H%M}")


def calibrate_export(
    manifest: Manifest, data: PoseSet, persons: Persons, targets: Targets
) -> Calibration:
    """The calibration of a bundle that is being made; without a probability where the data does
    not have both failures and others, which one line on stderr says. Errors as above."""
    outcomes = outcomes_of(manifest, data, persons)
    if problem := why_no_probability(outcomes):
        print_line(f"no failure_probability: {problem}")
    return calibration_of(manifest, outcomes, persons, targets)


def check_enough(data: PoseSet, targets: Targets) -> None:
    """Raise DataError where a set is too small for a target even if everybody in it counts."""
    for target, rate in targets.rates():
        if len(data) < promises.needed(rate, targets.confidence):
            count = f"{without_folders(data.spec)} has {len(data)} persons"
            raise _too_little(target, rate, targets.confidence, count)


def calibration_of(
    manifest: Manifest,
    outcomes: Outcomes,
    persons: Persons,
    targets: Targets,
    reported: Outcomes | None = None,
) -> Calibration:
    """Everything that a manifest says of calibration, from what a bundle said of persons.

    Raises:
        DataError: the data is too little for a target, or for folds.
    """
    names = [signal.name for signal in manifest.signals]
    scores = dict(zip(names, persons.signals.T, strict=True))
    return Calibration(
        thresholds=tuple(_thresholds(outcomes, _with_rates(targets, manifest))),
        failure_probability=(
            None if why_no_probability(outcomes) else _probability(outcomes, reported)
        ),
        reference=reference(
            outcomes.data,
            {"predicted_loss": outcomes.predicted_loss, **scores},
            persons.embedding,
            outcomes.weight,
        ),
    )


def fit(score: Floats, failed: Bools, weight: Floats) -> tuple[Floats, Floats]:
    """Isotonic regression of failure on scores (N,): knots, rising, and the probability at each.

    Between them the probability is read from a straight line, beyond them from the nearest: the
    form of Zadrozny & Elkan (KDD 2002), with each level kept by the lowest and highest score that
    has it.
    """
    knots, place = np.unique(score.astype(float), return_inverse=True)
    weights = np.bincount(place, weight)
    rates = np.bincount(place, weight * failed) / weights
    fitted = isotonic_regression(rates, weights=weights)
    ends = np.unique([fitted.blocks[:-1], fitted.blocks[1:] - 1])
    return knots[ends], np.clip(fitted.x[ends], 0.0, 1.0)


def why_no_probability(outcomes: Outcomes) -> str:
    """Why a probability of failure cannot be fitted; empty where it can."""
    known = outcomes.measured()
    measured, failures = len(known.failed), known.failures
    if 0 < failures < measured and len(set(known.group)) > 1:
        return ""
    if failures in (0, measured):
        found = f"{failures} failures among {measured} persons with a labelled torso"
    else:
        found = f"persons of one {outcomes.unit} alone"
    return (
        f"{outcomes.data} has {found}; expected failures and others, of several "
        f"{outcomes.unit}s. Give more, and more varied, labelled data"
    )


def check_unseen(data: PoseSet, trained: Sequence[str], label_count: int) -> None:
    """Raise DataError where persons of a set are known to have trained, and say where they may.

    Args:
        data: the persons.
        trained: specs of the training data, without folders.
        label_count: persons that were trained on. A cycle's checkpoint names its whole pool, of
            which it took these.
    """
    if shared := shared_persons(data, trained, label_count):
        raise DataError(
            f"{data.spec} holds {len(shared)} person(s) of the training data, {shared[0]} for one; "
            "expected none. Give data that trained nothing"
        )
    if possible := shared_persons(data, trained):
        print_line(
            f"{data.spec}: {len(possible)} of its persons may have trained this network, which "
            f"took {label_count} of those in {' + '.join(trained)}; calibration then promises too "
            "much"
        )


def _with_rates(targets: Targets, manifest: Manifest) -> Targets:
    """The targets, with the rates of the bundle where they have none."""
    if targets.flag_rates or targets.miss_rates:
        return targets
    rates: dict[str, list[float]] = {"flag_rate": [], "miss_rate": []}
    for one in manifest.calibration.thresholds:
        rates[one.target].append(one.target_value)
    return replace(
        targets, flag_rates=tuple(rates["flag_rate"]), miss_rates=tuple(rates["miss_rate"])
    )


def _thresholds(outcomes: Outcomes, targets: Targets) -> Iterator[Threshold]:
    frames, failures = _frames(outcomes), _failures(outcomes)
    for target, rate in targets.rates():
        if target == "flag_rate":
            sample, cut = frames, promises.flag_cut(frames, rate, targets.confidence)
        else:
            sample, cut = failures, promises.miss_cut(failures, rate, targets.confidence)
        yield _threshold(target, rate, targets.confidence, outcomes, sample, cut)


def _failures(outcomes: Outcomes) -> Sample:
    failed = outcomes.failed
    return promises.sample_of(
        outcomes.predicted_loss[failed],
        outcomes.weight[failed],
        outcomes.group[failed],
        outcomes.weight.max(),
    )


def _frames(outcomes: Outcomes) -> Sample:
    """Each frame with the highest score of its persons: it is flagged for any of them."""
    names, first, place = np.unique(outcomes.image, return_index=True, return_inverse=True)
    score = np.full(len(names), -np.inf, np.float32)
    np.maximum.at(score, place, outcomes.predicted_loss)
    weight, group = outcomes.weight[first], outcomes.group[first]
    return promises.sample_of(score, weight, group, weight.max())


def _threshold(
    target: Target,
    rate: float,
    confidence: float,
    outcomes: Outcomes,
    sample: Sample,
    cut: Cut | None,
) -> Threshold:
    if cut is None:
        count = f"{outcomes.data} has {len(sample.score)}{_worth(sample, outcomes)}"
        raise _too_little(target, rate, confidence, count)
    return Threshold(
        target=target,
        target_value=rate,
        predicted_loss=cut.value,
        confidence=confidence,
        n=len(sample.score),
        effective_n=sample.effective,
        beyond=cut.beyond,
        failures=outcomes.failures,
        left_out=int((~outcomes.defined).sum()),
        data=outcomes.data,
        unit=outcomes.unit,
        assumes=_assumes(outcomes),
    )


def _too_little(target: str, rate: float, confidence: float, count: str) -> DataError:
    what = "frames" if target == "flag_rate" else "failures"
    return DataError(
        f"{target.replace('_', ' ')} of at most {100 * rate:g} % with {100 * confidence:g} % "
        f"confidence needs {promises.needed(rate, confidence)} independent {what}; {count}. "
        "Give more data, or ask for less"
    )


def _worth(sample: Sample, outcomes: Outcomes) -> str:
    if sample.effective == len(sample.score):
        return ""
    return f", worth {sample.effective} by their weights and {outcomes.unit}s"


def _assumes(outcomes: Outcomes) -> str:
    units = "frames" if outcomes.unit == "image" else f"{outcomes.unit}s"
    kept = ", and that every frame could be kept, with the probability recorded"
    video = ", nor for the correlated frames of a video" if outcomes.unit == "image" else ""
    return (
        f"{units} to come and those of the data are exchangeable, as if drawn independently from "
        f"one source{kept if outcomes.sampled else ''}; there is no guarantee under shift{video}"
    )


def _probability(outcomes: Outcomes, reported: Outcomes | None) -> FailureProbability:
    known = outcomes.measured()
    knots, values = fit(known.predicted_loss, known.failed, known.weight)
    if reported is None:
        said, on = _cross_fitted(known), f"{_folds(known)} folds of {known.data}"
        error = _error(known, said, on)
    else:
        others = reported.measured()
        said = np.interp(others.predicted_loss, knots, values)
        error = _error(others, said, others.data)
    return FailureProbability(
        predicted_loss=tuple(knots.tolist()),
        probability=tuple(values.tolist()),
        data=known.data,
        persons=len(known.failed),
        failures=known.failures,
        left_out=len(outcomes.failed) - len(known.failed),
        error=error,
    )


def _folds(known: Outcomes) -> int:
    return min(FOLDS, len(set(known.group)))


def _cross_fitted(known: Outcomes) -> Floats:
    """Probabilities that each person's own group had no part in, (N,)."""
    names, place = np.unique(known.group, return_inverse=True)
    fold = np.random.default_rng(_SEED).permutation(len(names))[place] % _folds(known)
    said = np.zeros(len(place))
    for one in range(_folds(known)):
        inside, outside = fold == one, fold != one
        columns = known.predicted_loss, known.failed, known.weight
        knots, values = fit(*(column[outside] for column in columns))
        said[inside] = np.interp(known.predicted_loss[inside], knots, values)
    return said


def _error(known: Outcomes, said: Floats, measured_on: str) -> CalibrationError:
    if not len(said):
        raise DataError(
            f"{known.data} has nobody with a labelled torso; expected some to report on"
        )
    measured = reliability(said, known.failed, known.weight, known.group.tolist())
    return recorded(measured, measured_on)
