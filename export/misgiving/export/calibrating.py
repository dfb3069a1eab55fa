"""From a bundle's answers on labelled data to probabilities, thresholds and a reference.

Axes: N persons, F frames.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from misgiving.export import promises
from misgiving.export.outcomes import Outcomes, ask_outcomes
from misgiving.export.promises import Cut, Sample
from misgiving.export.reference import reference
from misgiving.runtime.bundle import Bundle, Manifest, write_manifest
from misgiving.runtime.calibration import Calibration, FailureProbability, Threshold
from misgiving.runtime.durable import check_new, new_folder
from misgiving.runtime.errors import DataError
from misgiving.runtime.estimator import Estimator
from misgiving.trainer.data import PoseSet, check_apart, shared_persons
from misgiving.trainer.evaluation.bundle import Persons
from misgiving.trainer.evaluation.calibration import Reliability, reliability
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
        named = [("flag rate", rate) for rate in self.flag_rates]
        named += [("miss rate", rate) for rate in self.miss_rates]
        for name, value in [*named, ("confidence", self.confidence)]:
            if not 0 < value < 1:
                raise DataError(f"{name} is {value}; expected between 0 and 1, as in 0.1")


def calibrate_bundle(
    estimator: Estimator,
    data: PoseSet,
    out: Path,
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
    check_new(out)
    manifest = estimator.bundle.manifest
    for one in (data, report_data):
        if one is not None:
            _check_unseen(manifest, one)
    if report_data is not None:
        check_apart(data, report_data)
    outcomes, persons = ask_outcomes(estimator, data, unit)
    if problem := why_no_probability(outcomes):
        raise DataError(problem)
    reported = None if report_data is None else ask_outcomes(estimator, report_data, unit)[0]
    calibration = calibration_of(manifest, outcomes, persons, targets, reported)
    with new_folder(out) as part:
        for name in manifest.files:
            shutil.copyfile(estimator.bundle.path / name, part / name)
        write_manifest(part, manifest.model_copy(update={"calibration": calibration}))
    return Bundle.load(out)


def calibrate_export(estimator: Estimator, data: PoseSet, targets: Targets) -> Calibration:
    """The calibration of a bundle that is being made; without a probability where the data does
    not have both failures and others, which one line on stderr says. Errors as above."""
    outcomes, persons = ask_outcomes(estimator, data, None)
    if problem := why_no_probability(outcomes):
        print_line(f"no failure_probability: {problem}")
    return calibration_of(estimator.bundle.manifest, outcomes, persons, targets)


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
    measured, failures = int(outcomes.defined.sum()), outcomes.failures
    if 0 < failures < measured and len(set(outcomes.group[outcomes.defined])) > 1:
        return ""
    if failures in (0, measured):
        found = f"{failures} failures among {measured} persons with a labelled torso"
    else:
        found = f"persons of one {outcomes.unit} alone"
    return (
        f"{outcomes.data} has {found}; expected failures and others, of several "
        f"{outcomes.unit}s. Give more, and more varied, labelled data"
    )


def _check_unseen(manifest: Manifest, data: PoseSet) -> None:
    if shared := shared_persons(data, manifest.provenance.training_data):
        raise DataError(
            f"{data.spec} holds {len(shared)} person(s) that {manifest.name} was trained on, "
            f"{shared[0]} for one; expected none. Give data that trained nothing"
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
    confidence = targets.confidence
    for rate in targets.flag_rates:
        cut = promises.flag_cut(frames, rate, confidence)
        yield _threshold("flag_rate", rate, confidence, outcomes, frames, cut)
    for rate in targets.miss_rates:
        cut = promises.miss_cut(failures, rate, confidence)
        yield _threshold("miss_rate", rate, confidence, outcomes, failures, cut)


def _failures(outcomes: Outcomes) -> Sample:
    failed = outcomes.failed & outcomes.defined
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
    target: Literal["flag_rate", "miss_rate"],
    rate: float,
    confidence: float,
    outcomes: Outcomes,
    sample: Sample,
    cut: Cut | None,
) -> Threshold:
    what = "frames" if target == "flag_rate" else "failures"
    if cut is None:
        raise DataError(
            f"{target.replace('_', ' ')} of at most {100 * rate:g} % with {100 * confidence:g} % "
            f"confidence needs {promises.needed(rate, confidence)} independent {what}; "
            f"{outcomes.data} has {len(sample.score)}{_worth(sample, outcomes)}. Give more data, "
            "or ask for less"
        )
    return Threshold(
        target=target,
        target_value=rate,
        predicted_loss=cut.value,
        confidence=confidence,
        n=len(sample.score),
        effective_n=sample.effective,
        beyond=cut.beyond,
        failures=outcomes.failures,
        data=outcomes.data,
        unit=outcomes.unit,
        assumes=_assumes(outcomes),
    )


def _worth(sample: Sample, outcomes: Outcomes) -> str:
    if sample.effective == len(sample.score):
        return ""
    return f", worth {sample.effective} by their weights and {outcomes.unit}s"


def _assumes(outcomes: Outcomes) -> str:
    units = "frames" if outcomes.unit == "image" else f"{outcomes.unit}s"
    weighted = (outcomes.weight != outcomes.weight[0]).any()
    kept = ", that every frame could be kept, with the probability recorded" if weighted else ""
    video = ", nor for the correlated frames of a video" if outcomes.unit == "image" else ""
    return (
        f"{units} to come and those of the data are exchangeable, as if drawn independently from "
        f"one source{kept}; there is no guarantee under shift{video}"
    )


def _probability(outcomes: Outcomes, reported: Outcomes | None) -> FailureProbability:
    known = outcomes.defined
    score, failed = outcomes.predicted_loss[known], outcomes.failed[known]
    knots, values = fit(score, failed, outcomes.weight[known])
    if reported is None:
        error = _cross_fitted(outcomes).record(f"{_folds(outcomes)} folds of {outcomes.data}")
    else:
        said = np.interp(reported.predicted_loss, knots, values)
        error = _reliability(reported, said).record(reported.data)
    return FailureProbability(
        predicted_loss=tuple(knots.tolist()),
        probability=tuple(values.tolist()),
        data=outcomes.data,
        persons=len(score),
        failures=outcomes.failures,
        left_out=int((~known).sum()),
        error=error,
    )


def _folds(outcomes: Outcomes) -> int:
    return min(FOLDS, len(set(outcomes.group[outcomes.defined])))


def _cross_fitted(outcomes: Outcomes) -> Reliability:
    """Of probabilities that each person's own group had no part in."""
    names, place = np.unique(outcomes.group, return_inverse=True)
    fold = np.random.default_rng(_SEED).permutation(len(names))[place] % _folds(outcomes)
    said = np.zeros(len(place))
    for one in np.unique(fold):
        inside = outcomes.defined & (fold != one)
        columns = outcomes.predicted_loss, outcomes.failed, outcomes.weight
        knots, values = fit(*(column[inside] for column in columns))
        said[fold == one] = np.interp(outcomes.predicted_loss[fold == one], knots, values)
    return _reliability(outcomes, said)


def _reliability(outcomes: Outcomes, said: Floats) -> Reliability:
    known = outcomes.defined
    if not known.any():
        raise DataError(
            f"{outcomes.data} has nobody with a labelled torso; expected some to report on"
        )
    groups = outcomes.group[known].tolist()
    return reliability(said[known], outcomes.failed[known], outcomes.weight[known], groups)
