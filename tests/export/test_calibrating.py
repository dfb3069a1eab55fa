"""A bundle calibrated anew: what is fitted, promised, written and refused."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from misgiving.export.calibrating import (
    Targets,
    calibrate_bundle,
    calibration_of,
    check_unseen,
    fit,
)
from misgiving.export.outcomes import Outcomes, ask_outcomes
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.calibration import Calibration
from misgiving.runtime.engines.base import Prediction
from misgiving.runtime.errors import BundleError, DataError
from misgiving.runtime.estimator import Estimator
from misgiving.trainer.data import Collected, PoseSet, Sample
from misgiving.trainer.data.synthetic import open_synthetic
from shared.training import JOINTS, people, pose_set

TARGETS = Targets(flag_rates=(0.2,), miss_rates=(0.3,))
COUNT = 120


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return Estimator.load(threads=1)


@pytest.fixture(scope="module")
def data() -> PoseSet:
    return people(4, COUNT, high=1.0)


@pytest.fixture(scope="module")
def made(estimator: Estimator, data: PoseSet, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("calibrated") / "bundle"
    return calibrate_bundle(estimator, data, out, TARGETS)


def test_the_graph_and_all_else_stay(made: Bundle, estimator: Estimator) -> None:
    before = estimator.bundle.manifest
    changed = {name: getattr(before, name) for name in ("calibration", "release")}
    assert made.manifest.model_copy(update=changed) == before
    assert made.manifest.release >= before.release
    assert made.manifest.calibration != before.calibration
    assert made.model.read_bytes() == estimator.bundle.model.read_bytes()
    again = Bundle.load(estimator.bundle.path)
    assert again.digest == estimator.bundle.digest != made.digest


def test_what_it_says_holds_for_its_data(made: Bundle, data: PoseSet) -> None:
    """Asked once more, the new bundle's own answers are those that it counts."""
    outcomes, _ = ask_outcomes(Estimator.load(made.path, threads=1), data)
    said = made.manifest.calibration
    flags, misses = said.thresholds
    assert [one.name for one in said.thresholds] == ["flag_rate=0.2", "miss_rate=0.3"]
    flagged = outcomes.predicted_loss >= flags.predicted_loss
    assert (flags.n, flags.effective_n, flags.beyond) == (COUNT, COUNT, flagged.sum())
    missed = outcomes.failed & (outcomes.predicted_loss < misses.predicted_loss)
    failures = outcomes.failures
    assert (misses.n, misses.effective_n, misses.beyond) == (failures, failures, missed.sum())
    assert 0 < missed.sum() < 0.3 * failures
    assert {one.failures for one in said.thresholds} == {failures}
    assert {one.data for one in said.thresholds} == {data.spec}
    assert "no guarantee under shift, nor for the correlated frames of a video" in flags.assumes
    fitted = said.failure_probability
    assert fitted is not None
    assert (fitted.persons, fitted.failures, fitted.left_out) == (COUNT, failures, 0)
    assert fitted.of(outcomes.predicted_loss).mean() == pytest.approx(failures / COUNT, abs=0.02)
    assert fitted.error.measured_on == f"5 folds of {data.spec}"
    assert 0 <= fitted.error.low <= fitted.error.value <= fitted.error.high <= 1


def test_the_reference_is_of_everybody(made: Bundle, data: PoseSet) -> None:
    said = made.manifest.calibration.reference
    assert (said.data, said.persons) == (data.spec, COUNT)
    signals = [signal.name for signal in made.manifest.signals]
    names = ["predicted_loss", *signals, "embedding_distance"]
    assert [one.name for one in said.histograms] == names
    assert all(sum(one.shares) == pytest.approx(1, abs=1e-4) for one in said.histograms)
    assert len(said.embedding.mean) == made.manifest.embedding_size
    assert (made.path / "manifest.json").stat().st_size < 20_000


def test_a_second_set_measures_the_probability(
    estimator: Estimator, data: PoseSet, tmp_path: Path
) -> None:
    others = people(5, 40, high=1.0)
    again = calibrate_bundle(
        estimator, data, tmp_path / "bundle", Targets(miss_rates=(0.3,)), report_data=others
    )
    (only,) = again.manifest.calibration.thresholds
    assert only.name == "miss_rate=0.3"
    fitted = again.manifest.calibration.failure_probability
    assert fitted is not None
    assert (fitted.error.measured_on, fitted.error.persons) == (others.spec, 40)


def test_without_rates_the_bundle_s_own_are_kept(
    made: Bundle, data: PoseSet, tmp_path: Path
) -> None:
    surer = Targets(confidence=0.95)
    again = calibrate_bundle(Estimator.load(made.path, threads=1), data, tmp_path / "b", surer)
    before, after = (one.manifest.calibration.thresholds for one in (made, again))
    assert [one.name for one in before] == [one.name for one in after]
    assert after[0].beyond < before[0].beyond


def outcomes_of(
    score: Sequence[float],
    failed: Sequence[bool],
    defined: Sequence[bool] | None = None,
    image: Sequence[int] | None = None,
    **changes: Any,
) -> Outcomes:
    count = len(score)
    names = np.array(image or range(count)).astype(str)
    given = Outcomes(
        data="made",
        predicted_loss=np.array(score, np.float32),
        failed=np.array(failed, bool),
        defined=np.ones(count, bool) if defined is None else np.array(defined, bool),
        weight=np.ones(count),
        image=names,
        group=names,
        unit="image",
        sampled=False,
    )
    return replace(given, **changes)


class Silent:
    """Persons of whom calibration needs no more than this."""

    def __init__(self, count: int) -> None:
        self.signals = np.zeros((count, 4))
        self.embedding = np.zeros((count, 8))


def calibrated(estimator: Estimator, outcomes: Outcomes, **targets: Any) -> Calibration:
    persons: Any = Silent(len(outcomes.failed))
    return calibration_of(estimator.bundle.manifest, outcomes, persons, Targets(**targets))


FAILING = [i % 2 == 0 for i in range(100)]


def test_persons_without_a_torso_count_for_the_flag_rate_alone(estimator: Estimator) -> None:
    """Half of the persons, those with the highest scores."""
    outcomes = outcomes_of(range(200), FAILING + [False] * 100, [True] * 100 + [False] * 100)
    said = calibrated(estimator, outcomes, flag_rates=(0.1,), miss_rates=(0.1,))
    flags, misses = said.thresholds
    assert (flags.n, flags.beyond) == (200, 14)
    assert 185 < flags.predicted_loss < 186
    assert (misses.n, misses.predicted_loss) == (50, 2 * misses.beyond)
    assert flags.left_out == misses.left_out == 100
    assert said.failure_probability is not None
    assert (said.failure_probability.persons, said.failure_probability.left_out) == (100, 100)
    assert said.reference.persons == 200


def test_a_frame_is_flagged_for_any_of_its_persons(estimator: Estimator) -> None:
    """Two in each: the first 50 have the low scores, the last 50 the high ones."""
    image = [*range(50), *range(50)]
    outcomes = outcomes_of(range(100), FAILING, image=image)
    (flags,) = calibrated(estimator, outcomes, flag_rates=(0.2,)).thresholds
    assert (flags.n, flags.effective_n, flags.beyond) == (50, 50, 5)
    assert 94 < flags.predicted_loss < 95


def test_weights_and_devices_make_fewer_of_many(estimator: Estimator) -> None:
    """Forty devices with five persons each; of the heaviest, three weigh 5 and two 1: 17 of 600."""
    weight = np.repeat([5.0, 1.0], 100)
    device = np.tile(np.arange(40), 5).astype(str)
    outcomes = outcomes_of(
        range(200), FAILING * 2, weight=weight, group=device, unit="device", sampled=True
    )
    (flags,) = calibrated(estimator, outcomes, flag_rates=(0.2,)).thresholds
    assert (flags.n, flags.effective_n, flags.unit) == (200, 35, "device")
    assert "that every frame could be kept, with the probability recorded" in flags.assumes
    assert "worth 35 independent ones" in str(flags)
    with pytest.raises(DataError, match=r"made has 100, worth 17 by their weights and devices"):
        calibrated(estimator, outcomes, miss_rates=(0.1,))


def pool_adjacent_violators(values: list[float]) -> list[float]:
    """Isotonic regression of equally heavy numbers, slowly: join neighbours that fall."""
    blocks = [[value] for value in values]
    falling = True
    while falling:
        falling = False
        for i in range(len(blocks) - 1):
            if np.mean(blocks[i]) > np.mean(blocks[i + 1]):
                blocks[i : i + 2] = [blocks[i] + blocks[i + 1]]
                falling = True
                break
    return [float(np.mean(block)) for block in blocks for _ in block]


@pytest.mark.parametrize("count", [1, 2, 40])
def test_the_fit_is_isotonic_regression(count: int) -> None:
    rng = np.random.default_rng(count)
    score = rng.permutation(count).astype(np.float32)
    failed = rng.random(count) < score / count
    knots, values = fit(score, failed, np.ones(count))
    order = np.argsort(score)
    expected = pool_adjacent_violators(failed[order].astype(float).tolist())
    np.testing.assert_allclose(np.interp(score[order], knots, values), expected, atol=1e-12)
    assert len(knots) <= 2 * len(set(expected))


def test_equal_scores_and_weights_in_the_fit() -> None:
    score, failed = np.array([1.0, 1.0, 2.0, 2.0]), np.array([False, True, False, True])
    knots, values = fit(score, failed, np.array([3.0, 1.0, 1.0, 3.0]))
    assert (knots.tolist(), values.tolist()) == ([1, 2], [0.25, 0.75])
    falling = fit(np.array([1.0, 2.0]), np.array([True, False]), np.array([3.0, 1.0]))
    assert falling[1].tolist() == [0.75, 0.75]


def test_folds_keep_groups_together(estimator: Estimator) -> None:
    """Twins share score and fate. Told by its twin, each person would be known for sure."""
    rng = np.random.default_rng(0)
    score = np.repeat(rng.random(100), 2)
    failed = np.repeat(rng.random(100) < 0.5, 2)
    names = np.repeat(np.arange(100), 2).astype(str)
    apart = outcomes_of(score, failed, group=names, image=range(200))
    told = replace(apart, group=np.arange(200).astype(str))
    errors = []
    for outcomes in (apart, told):
        fitted = calibrated(estimator, outcomes, flag_rates=(0.5,)).failure_probability
        assert fitted is not None
        errors.append(fitted.error)
    # an order that says nothing: fitted to the persons themselves, the error would be 0
    assert errors[0].value > 1.5 * errors[1].value > 0.03


@pytest.mark.parametrize(
    ("failed", "group", "said"),
    [
        ([False] * 40, None, "made has 0 failures among 40 persons with a labelled torso"),
        ([True] * 40, None, "made has 40 failures among 40 persons with a labelled torso"),
        (FAILING[:40], ["one"] * 40, "made has persons of one image alone"),
    ],
)
def test_nothing_to_fit(
    failed: list[bool],
    group: list[str] | None,
    said: str,
    estimator: Estimator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bundle that is being exported then has no probability; calibrate refuses."""
    outcomes = outcomes_of(range(40), failed)
    if group:
        outcomes = replace(outcomes, group=np.array(group))
    flags = 0.99 if group else 0.1  # one group is one observation
    assert calibrated(estimator, outcomes, flag_rates=(flags,)).failure_probability is None
    module = "misgiving.export.calibrating.ask_outcomes"
    monkeypatch.setattr(module, lambda *_: (outcomes, Silent(40)))
    with pytest.raises(DataError) as raised:
        calibrate_bundle(estimator, people(4, 40), tmp_path / "out", Targets(flag_rates=(0.1,)))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def altered(data: PoseSet, change: Callable[[int, Sample], Sample]) -> PoseSet:
    return pose_set([change(i, data[i]) for i in range(len(data))], data.spec)


def torsoless(index: int, sample: Sample) -> Sample:
    return replace(sample, labelled=np.arange(JOINTS) != 8)


def of_two_cars(index: int, sample: Sample) -> Sample:
    kept = Collected(0.5, f"car-{index % 2}", f"camera-{index % 3}", None)
    return replace(sample, collected=kept)


def test_nobody_with_a_torso(estimator: Estimator, tmp_path: Path) -> None:
    data = altered(people(4, 24), torsoless)
    with pytest.raises(DataError, match=r"has 0 failures among 0 persons with a labelled torso"):
        calibrate_bundle(estimator, data, tmp_path / "out", Targets(flag_rates=(0.2,)))


def test_units(estimator: Estimator) -> None:
    plain, fleet = people(4, 6), altered(people(4, 6), of_two_cars)
    cases: list[tuple[PoseSet, str | None, str, NDArray[np.str_] | list[str], float]] = [
        (plain, None, "image", list(plain.ids), 1.0),
        (fleet, None, "device", ["car-0", "car-1"], 2.0),
        (fleet, "image", "image", list(plain.ids), 2.0),
        (fleet, "stream", "stream", [f"car-{i % 2}/camera-{i % 3}" for i in range(6)], 2.0),
    ]
    for data, asked, unit, groups, weight in cases:
        outcomes, _ = ask_outcomes(estimator, data, asked)
        assert (outcomes.unit, outcomes.sampled) == (unit, data is fleet)
        assert set(outcomes.group) == set(groups)
        assert set(outcomes.weight) == {weight}
    with pytest.raises(DataError, match=r"unit is 'device'; expected one that .* knows: image$"):
        ask_outcomes(estimator, plain, "device")
    with pytest.raises(DataError, match=r"unit is 'drive'; .* image, device, stream$"):
        ask_outcomes(estimator, fleet, "drive")


class Speechless:
    """An engine whose third person has no score."""

    provider = "speechless"

    def __init__(self, estimator: Estimator) -> None:
        self._engine = estimator.engine

    def infer(self, images: NDArray[np.uint8]) -> Prediction:
        prediction = self._engine.infer(images)
        prediction.predicted_loss[2] = np.nan
        return prediction


def test_scores_that_are_no_numbers(estimator: Estimator) -> None:
    spoiled = Estimator(estimator.bundle, Speechless(estimator))
    with pytest.raises(BundleError, match=r"lite-lsp answers 1 of 6 persons with .*/00002 for one"):
        ask_outcomes(spoiled, people(4, 6))


def trained_on(estimator: Estimator, *specs: str) -> Estimator:
    bundle = estimator.bundle
    provenance = bundle.manifest.provenance.model_copy(update={"training_data": specs})
    manifest = bundle.manifest.model_copy(update={"provenance": provenance})
    return Estimator(replace(bundle, manifest=manifest), estimator.engine)


def test_persons_who_are_in_two_places(
    estimator: Estimator,
    data: PoseSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = "misgiving.export.calibrating.ask_outcomes"
    monkeypatch.setattr(asked, lambda *_: pytest.fail("asked before it was refused"))
    trained = trained_on(estimator, "lsp:lsp#1-9 + synthetic:4,5,0-0.5")
    others = open_synthetic(5, 40)
    cases: list[tuple[Estimator, PoseSet, PoseSet | None, str]] = [
        (trained, data, None, "holds 5 person(s) of the training data, synthetic/4/00000 for one"),
        (trained, others, data, "holds 5 person(s) of the training data"),
        (estimator, data, data, "share 120 person(s)"),
    ]
    for one, persons, report, said in cases:
        with pytest.raises(DataError) as raised:
            calibrate_bundle(one, persons, tmp_path / "out", TARGETS, report_data=report)
        assert said in str(raised.value)
    with pytest.raises(DataError, match=r"needs 460 independent failures; synthetic:5,40.* has 40"):
        calibrate_bundle(estimator, others, tmp_path / "out", Targets(miss_rates=(0.005,)))
    # a cycle names its whole pool, and took a part of it
    check_unseen(data, ["synthetic:4,9000"], 500)
    said = capsys.readouterr().err
    assert "120 of its persons may have trained this network, which took 500 of those in" in said
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept").touch()
    with pytest.raises(DataError, match=r"is there already"):
        calibrate_bundle(estimator, data, tmp_path / "out", TARGETS)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 20.0, float("nan")])
def test_rates_are_shares(rate: float) -> None:
    for name in ("flag_rates", "miss_rates"):
        said = rf"{name[:4]} rate is .*; expected between 0 and 1, as in 0.1"
        with pytest.raises(DataError, match=said):
            Targets(**{name: (rate,)})
    with pytest.raises(DataError, match=r"confidence is .*; expected between 0 and 1"):
        Targets(confidence=rate)
