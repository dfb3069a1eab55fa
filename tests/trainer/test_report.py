"""The table of scores: every learned score beside the free ones, random and the oracle."""

import math

import numpy as np
import pytest

from misgiving.trainer.answers.scoring import Scores
from misgiving.trainer.report import (
    COLUMNS,
    COVERAGES,
    NUMBERS,
    FailureReport,
    differences,
    failure_lines,
    failure_report,
    picked,
    score_table,
)
from shared.training import scores_of

FAR = 500.0
NAN = math.nan


def report_of(scores: Scores, images: list[str] | None = None) -> FailureReport:
    risks = scores.risk_scores()
    return failure_report(risks, scores.found, scores.true_loss, images or scores.ids)


@pytest.mark.parametrize(
    ("risk", "share", "expected"),
    [
        ([1, 5, 3, 4], 0.5, [1, 3]),  # riskiest first
        ([1, 5, 3, 4], 0.01, [1]),  # at least one
        ([2, 2, 2, 2], 0.5, [0, 1]),  # equals in their order
        ([7], 0.1, [0]),
        ([], 0.1, []),  # nobody
    ],
)
def test_picked(risk: list[float], share: float, expected: list[int]) -> None:
    assert picked(np.array(risk, float), share) == expected


def test_rows_by_hand() -> None:
    """Twenty people, the last four wrong; the head knows, the oracle of course as well."""
    moved = [0.0] * 16 + [FAR] * 4
    report = report_of(scores_of(list(range(20)), moved_px=moved))
    names = [row.name for row in report.rows]
    assert names[0] == "random"
    assert names[1:3] == ["conv-kl", "gap-margin"]
    assert names[-1] == "true loss (oracle)"
    assert (report.persons, report.measured, report.failures) == (20, 20, 4)
    assert report.pck.value == pytest.approx(0.8)
    for name in ("conv-kl", "true loss (oracle)"):
        row = report.row(name)
        numbers = {key: estimate.value for key, estimate in row.numbers().items()}
        assert numbers == pytest.approx(
            {
                "auroc": 1,
                "auprc": 1,
                # of the four failures, those among the 1, 1, 2 and 4 riskiest
                "recall_1": 1 / 4,
                "recall_5": 1 / 4,
                "recall_10": 2 / 4,
                "recall_20": 1,
                "spearman": 1,
                "kendall": 1,
                "pearson": 1,
                "picked_pck": 0,
                # the two with the highest errors, 18 and 19
                "picked_error": 18.5,
                "picked_error_sd": 0.5,
                # silent failures rise from 0 to .2 over the last fifth accepted
                "augrc": 0.2 * 0.2 / 2,
                "aurc": (1 / 17 + 2 / 18 + 3 / 19 + 4 / 20) / 20,
            }
        )
        curve = dict(zip(COVERAGES.round(2).tolist(), row.curve, strict=True))
        assert curve[0.8] == 0
        assert curve[0.9] == pytest.approx(2 / 18)
    assert report.row("-mean_peak").auroc.value == 0.0  # its signals rise with the index: "safer"


@pytest.mark.parametrize("name", ["random", "gap-margin"])
def test_a_constant_is_worth_what_random_is(name: str) -> None:
    row = report_of(scores_of(list(range(20)), moved_px=[FAR] * 5 + [0.0] * 15)).row(name)
    assert row.auroc.value == 0.5
    assert row.picked_pck.value == pytest.approx(0.75)  # though the first two have failed
    assert row.augrc.value == pytest.approx(0.125)
    assert row.aurc.value == pytest.approx(0.25)
    assert row.curve == pytest.approx([0.25] * 20)
    shares = [row.recall_1, row.recall_5, row.recall_10, row.recall_20]
    assert [share.value for share in shares] == pytest.approx([0.05, 0.05, 0.1, 0.2])
    assert row.picked_error.value == pytest.approx(9.5)  # everybody's mean and spread
    assert row.picked_error_sd.value == pytest.approx(math.sqrt((20**2 - 1) / 12))
    assert all(math.isnan(one.value) for one in (row.spearman, row.kendall, row.pearson))


def test_persons_without_torso_are_left_out() -> None:
    scores = scores_of([1.0, 2.0, 3.0], moved_px=[0.0, FAR, FAR])
    scores.labelled[2, 8] = False
    report = report_of(scores)
    assert report.row("conv-kl").auroc.value == 1.0
    text = score_table(scores)
    assert "over 3 persons; 1 failures and 1 others among the 2 whose torso is labelled" in text
    assert sum(line.startswith(row.name) for row in report.rows for line in text.splitlines()) == 8


def test_another_definition_of_failure() -> None:
    scores = scores_of([1.0, 2.0], moved_px=[0.0, 0.0])
    scores.points[1, :4] += FAR  # 10 of 14 joints are left
    arguments = scores.risk_scores(), scores.found, scores.true_loss, scores.ids
    assert failure_report(*arguments).failures == 0
    assert failure_report(*arguments, failure_below=0.8).failures == 1


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """Scores of a known AUROC: 19 of 20 samples' intervals hold it, give or take."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(20):
        failed = rng.random(150) < 0.3
        risk = rng.normal(failed * 1.0, 1.0)  # AUROC = Φ(1/√2) = .7602
        found = np.repeat(~failed[:, None], 2, axis=1).astype(float)
        names = [str(i) for i in range(150)]
        low, high = failure_report({"s": risk}, found, risk, names).row("s").auroc.interval
        held += low <= 0.7602 <= high
    assert 17 <= held <= 20


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(1)
    moved = rng.choice([0.0, FAR], 200, p=[0.7, 0.3])
    scores = scores_of((moved + rng.normal(0, FAR, 200)).tolist(), moved_px=moved.tolist())
    report = report_of(scores)
    row = report.row("conv-kl")
    itself = differences(row, row)
    assert {estimate.value for estimate in itself.values()} == {0.0}
    assert math.isnan(itself.pop("kendall").interval[0])  # of the sample alone
    assert {estimate.interval for estimate in itself.values()} == {(0.0, 0.0)}
    against_random = differences(row, report.row("random"))["auroc"]
    assert against_random.value == pytest.approx(row.auroc.value - 0.5)
    assert against_random.interval[0] > 0


def test_persons_of_an_image_hang_together() -> None:
    rng = np.random.default_rng(2)
    moved = np.repeat(rng.choice([0.0, FAR], 50), 4)
    scores = scores_of(rng.random(200).tolist(), moved_px=moved.tolist())
    low, high = report_of(scores, [f"{i // 4}" for i in range(200)]).pck.interval
    low_apart, high_apart = report_of(scores).pck.interval
    assert high - low > 1.6 * (high_apart - low_apart)


@pytest.mark.parametrize(
    ("predicted", "moved", "torso", "said"),
    [
        ([], [], True, "–: no person with a labelled torso"),
        ([1.0], [0.0], True, "–: 1 person with a labelled torso"),
        ([1.0, 2.0, 3.0], [0.0] * 3, False, "–: no person with a labelled torso"),
        ([1.0, 2.0, 3.0], [0.0] * 3, True, "–: nobody failed"),
        ([1.0, 2.0, 3.0], [FAR] * 3, True, "–: everybody failed"),
        ([4.0] * 3, [0.0, FAR, FAR], True, "everybody has the same: random, conv-kl, gap-margin"),
    ],
)
def test_what_cannot_be_told_is_a_dash_with_its_reason(
    predicted: list[float], moved: list[float], torso: bool, said: str
) -> None:
    scores = scores_of(predicted, moved_px=moved)
    scores.labelled[:, 8] &= torso
    report = report_of(scores)
    text = "\n".join(failure_lines(report))
    assert said in text
    assert "nan" not in text
    assert all(len(row.curve) == len(COVERAGES) for row in report.rows)


@pytest.mark.parametrize(
    ("predicted", "error", "expected"),
    [
        # a predicted loss that is no number is the riskiest, and correlates with nothing
        ([1.0, 2.0, NAN, 0.0], [1.0, 2.0, 3.0, 0.0], (1.0, NAN, 3.0)),
        # a true error that is no number is the worst, and has no mean
        ([1.0, 2.0, 3.0, 0.0], [1.0, 2.0, NAN, 0.0], (1.0, NAN, NAN)),
        ([1.0, 2.0, 3.0, 0.0], [1.0, 2.0, math.inf, 0.0], (1.0, NAN, NAN)),
        # everybody the same
        ([1.0, 2.0, 3.0, 0.0], [2.0] * 4, (NAN, NAN, 2.0)),
        ([7.0] * 4, [1.0, 2.0, 3.0, 0.0], (NAN, NAN, 1.5)),
    ],
)
def test_losses_that_are_no_numbers_or_all_equal(
    predicted: list[float], error: list[float], expected: tuple[float, float, float]
) -> None:
    row = report_of(scores_of(predicted, error, [0.0, 0.0, FAR, 0.0])).row("conv-kl")
    got = (row.kendall.value, row.pearson.value, row.picked_error.value)
    assert got == pytest.approx(expected, nan_ok=True)
    assert row.spearman.value == pytest.approx(expected[0], nan_ok=True)
    assert row.auroc.value == (0.5 if predicted[0] == 7 else 1.0)
    assert [e.record() for e in row.numbers().values()]  # JSON: no number is NaN or infinite


def test_one_image_and_no_labels_at_all() -> None:
    scores = scores_of([1.0, 2.0, 3.0], moved_px=[0.0, 0.0, FAR])
    row = report_of(scores, ["one"] * 3).row("conv-kl")
    assert (row.auprc.value, row.recall_10.value) == (1.0, 1.0)
    assert all(math.isnan(e.interval[0]) for e in row.numbers().values())
    scores.labelled[:] = False
    report = report_of(scores)
    assert (report.measured, report.failures, report.images) == (0, 0, 0)
    assert all(math.isnan(e.value) for row in report.rows for e in row.numbers().values())


def test_the_table_shows_some_and_the_row_has_all() -> None:
    report = report_of(scores_of([1.0, 2.0, 3.0], moved_px=[0.0, FAR, FAR]))
    assert set(COLUMNS) < set(NUMBERS)
    assert set(report.rows[0].numbers()) == set(NUMBERS)
    widths = {len(line) for line in failure_lines(report) if line.startswith(("score", "random"))}
    assert widths == {22 + 22 * len(COLUMNS)}
