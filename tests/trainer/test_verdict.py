"""The verdict of an evaluation, on answers that are made up."""

from dataclasses import replace

import numpy as np
import pytest

from misgiving.runtime import Bundle, Estimator
from misgiving.trainer import open_data
from misgiving.trainer.evaluation import verdict
from misgiving.trainer.evaluation.bundle import LEARNED, Evaluation, evaluate
from misgiving.trainer.evaluation.output import lines
from misgiving.trainer.measures.bootstrap import Estimate


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return evaluate(Estimator.load(threads=1), open_data("synthetic:3,16"))


def made_up(evaluation: Evaluation, losses: list[float], found: list[float]) -> Evaluation:
    """Persons with these losses, of whose joints these shares were found; NaN without a torso."""
    count, joints = len(losses), evaluation.found.shape[1]
    hits = np.repeat(np.array(found)[:, None], joints, axis=1)
    persons = replace(evaluation.persons, predicted_loss=np.array(losses, np.float32))
    assert count == len(found)
    return replace(evaluation, persons=persons, found=hits)


def test_what_the_thresholds_catch(evaluation: Evaluation) -> None:
    manifest = evaluation.bundle.manifest
    thresholds = manifest.calibration.by_name()
    assert list(thresholds)[0] == "likely"
    cut = thresholds["likely"]
    below = float(np.nextafter(np.float32(cut), np.float32(-1)))
    # flagged and failed, flagged at the cut, missed, rightly left alone, NaN, undefined
    losses = [cut + 1, cut, below, below, np.nan, cut + 1]
    found = [0.0, 1.0, 0.0, 1.0, 0.0, np.nan]
    catch = verdict.catches(made_up(evaluation, losses, found))[0]
    assert (catch.flagged, catch.persons, catch.caught, catch.failures) == (3, 5, 2, 3)
    assert (catch.accepted, catch.missed) == (0.4, 0.5)
    assert str(catch) == (
        f"likely (predicted_loss from {cut:.4g} on) flags 60 % of 5 persons, catches 2 of 3 "
        "failures"
    )


@pytest.mark.parametrize(
    ("draws", "answer", "said"),
    [
        (
            [0.01, 0.03],
            "yes",
            "failures better than -mean_peak, the best free score: AUROC difference 0.020 [0.0",
        ),
        (
            [-0.03, -0.01],
            "no",
            "failures worse than -mean_peak, the best free score: AUROC difference -0.020 [",
        ),
        ([-0.01, 0.01], "cannot be told", "an interval that holds 0"),
        ([np.nan, np.nan], "cannot be told", ", without an interval; more failures"),
    ],
)
def test_is_it_better(evaluation: Evaluation, draws: list[float], answer: str, said: str) -> None:
    learned = evaluation.failures.row(LEARNED)
    free = replace(learned, name="-mean_peak", auroc=Estimate(0.5, np.full(1000, 0.5)))
    auroc = Estimate(0.5 + float(np.mean(draws)), 0.5 + np.resize(draws, 1000))
    learned = replace(learned, auroc=auroc)
    rows = tuple(learned if row.name == LEARNED else row for row in evaluation.failures.rows)
    changed = replace(evaluation, best_free=free, failures=replace(evaluation.failures, rows=rows))
    assert verdict.better_than_free(changed) == answer
    sentence = verdict.sentence(changed)
    assert said in sentence
    assert next(lines(changed)) == sentence  # it comes first
    assert verdict.record(changed)["better_than_best_free"] == answer


def test_nothing_to_compare_with(evaluation: Evaluation) -> None:
    alone = replace(evaluation, best_free=None)
    assert verdict.better_than_free(alone) == "cannot be told"
    assert verdict.sentence(alone).endswith("no free score has an AUROC here.")


def test_the_record_has_no_infinity(evaluation: Evaluation) -> None:
    bundle: Bundle = evaluation.bundle
    known = bundle.manifest.calibration
    fit = known.failure_probability
    assert fit is not None
    never = fit.model_copy(update={"probability": tuple(0.4 * p for p in fit.probability)})
    calibration = known.model_copy(update={"failure_probability": never})
    manifest = bundle.manifest.model_copy(update={"calibration": calibration})
    nobody = replace(evaluation, bundle=replace(bundle, manifest=manifest))
    thresholds = verdict.record(nobody)["thresholds"]
    assert thresholds["likely"]["predicted_loss"] is None
    assert thresholds["likely"]["flagged"] == 0
