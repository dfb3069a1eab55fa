"""Tables of a run: every learned score beside the free ones, random and the oracle.

Axes: N persons, K keypoints, R weightings.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
from numpy.typing import NDArray

from misgiving.trainer.answers.scoring import Floats, Scores
from misgiving.trainer.measures import metrics, ranking
from misgiving.trainer.measures.bootstrap import LEVEL, RESAMPLES, Estimate, Key, estimates
from misgiving.trainer.measures.ranking import Failures, Ranking

PICKED_SHARE = 0.1
COVERAGES = np.arange(1, 21) / 20
"""Shares of persons, those with the lowest scores, that the risk–coverage curve is given for."""
BUDGETS = {"recall_1": 0.01, "recall_5": 0.05, "recall_10": 0.1, "recall_20": 0.2}
"""Shares of persons, those with the highest scores, among whom failures are looked for."""
RANDOM = "random"
_PCK = "pck"


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """How well one score finds the persons that a pose net fails on; see :func:`evaluate`."""

    name: str
    auroc: Estimate
    auprc: Estimate
    """Of a score without order about the rate of failures."""
    recall_1: Estimate
    """Share of the failures that is among the riskiest hundredth; as the next three, see BUDGETS.
    No score reaches more than the budget holds."""
    recall_5: Estimate
    recall_10: Estimate
    recall_20: Estimate
    spearman: Estimate
    """Rank correlation with the true error."""
    kendall: Estimate
    """Tau-b with the true error, without resamples."""
    pearson: Estimate
    """Linear correlation with the true error."""
    picked_pck: Estimate
    """PCK@0.2 of the share with the highest score; lower is better."""
    picked_error: Estimate
    """Mean true error of the same; higher is better."""
    picked_error_sd: Estimate
    """Standard deviation of the true error among them; of equal scores each counts in part."""
    augrc: Estimate
    """Lower is better, as for ``aurc``; see ``ranking.Failures``."""
    aurc: Estimate
    curve: tuple[float, ...]
    """Share that failed among the persons with the lowest scores, at each of COVERAGES."""

    def numbers(self) -> dict[str, Estimate]:
        """All but the curve, by name."""
        return {name: getattr(self, name) for name in NUMBERS}


NUMBERS = tuple(field.name for field in fields(ScoreRow) if field.name not in ("name", "curve"))
COLUMNS = {
    "auroc": "AUROC ↑",
    "spearman": "Spearman ↑",
    "picked_pck": "PCK of top 10 % ↓",
    "augrc": "AUGRC ↓",
    "aurc": "AURC ↓",
}
"""The numbers of the printed table; all of them would not fit a screen."""


@dataclass(frozen=True, slots=True)
class FailureReport:
    """How good the poses of some persons are, and how well scores tell which of them failed.

    See :func:`evaluate`.
    """

    persons: int
    measured: int
    """Persons whose torso is labelled; every number rests on these."""
    failures: int
    """Of the measured."""
    images: int
    """That the measured are in, and that are resampled."""
    pck: Estimate
    rows: tuple[ScoreRow, ...]
    """Random first, the oracle last."""

    def row(self, name: str) -> ScoreRow:
        """The row of a score."""
        return next(row for row in self.rows if row.name == name)


def failure_report(
    risks: Mapping[str, Floats],
    found: Floats,
    error: Floats,
    images: Sequence[str],
    *,
    oracle: str = "true loss (oracle)",
    failure_below: float = metrics.FAILURE_BELOW,
) -> FailureReport:
    """Measure scores over the persons whose torso is labelled, with intervals.

    Args:
        risks: scores (N,) by name, higher is riskier.
        found: (N, K), as ``metrics.hits`` gives it.
        error: (N,), how wrong each person truly is; the score that the oracle has.
        images: (N,), the image of each person: those of one image are resampled together.
        oracle: the name of ``error`` in the table.
        failure_below: share of joints found, below which a person has failed.
    """
    failed, defined = metrics.failed(found, failure_below)
    columns = {RANDOM: np.zeros(len(defined)), **risks, oracle: error}
    measured = {name: risk[defined].astype(float) for name, risk in columns.items()}
    rankings = {name: Ranking.of(risk) for name, risk in measured.items()}
    kept = [image for image, keep in zip(images, defined, strict=True) if keep]
    numbers = estimates(partial(_measure, measured, rankings, oracle, found[defined], failed), kept)
    for name, one in rankings.items():
        numbers[name, "kendall"] = Estimate(ranking.kendall(one, rankings[oracle]), np.empty(0))
    return FailureReport(
        persons=len(defined),
        measured=len(failed),
        failures=int(failed.sum()),
        images=len(set(kept)),
        pck=numbers[_PCK],
        rows=tuple(_row(name, one, failed, numbers) for name, one in rankings.items()),
    )


def _measure(
    risks: Mapping[str, Floats],
    rankings: Mapping[str, Ranking],
    oracle: str,
    found: Floats,
    failed: NDArray[np.bool_],
    weights: Floats,
) -> dict[Key, Floats]:
    numbers: dict[Key, Floats] = {_PCK: metrics.weighted_pck(found, weights)}
    for name, one in rankings.items():
        counts = Failures.of(one, failed, weights)
        numbers[name, "auroc"] = counts.auroc()
        numbers[name, "auprc"] = counts.auprc()
        for number, share in BUDGETS.items():
            numbers[name, number] = counts.recall_at(share)
        numbers[name, "augrc"] = counts.augrc()
        numbers[name, "aurc"] = counts.aurc()
        numbers[name, "spearman"] = ranking.spearman(one, rankings[oracle], weights)
        numbers[name, "pearson"] = ranking.pearson(risks[name], risks[oracle], weights)
        picked_weights = one.riskiest(PICKED_SHARE, weights)
        numbers[name, "picked_pck"] = metrics.weighted_pck(found, picked_weights)
        mean, deviation = ranking.mean_and_deviation(risks[oracle], picked_weights)
        numbers[name, "picked_error"] = mean
        numbers[name, "picked_error_sd"] = deviation
    return numbers


def _row(
    name: str, one: Ranking, failed: NDArray[np.bool_], numbers: Mapping[Key, Estimate]
) -> ScoreRow:
    counts = Failures.of(one, failed, np.ones((len(failed), 1)))
    curve = tuple(counts.risk_at(COVERAGES).tolist())
    return ScoreRow(name, **{number: numbers[name, number] for number in NUMBERS}, curve=curve)


def differences(first: ScoreRow, second: ScoreRow) -> dict[str, Estimate]:
    """First less second, resample by resample, of each number; both of one report."""
    pairs = zip(first.numbers().items(), second.numbers().values(), strict=True)
    return {name: one - other for (name, one), other in pairs}


def picked(risk: Floats, share: float) -> list[int]:
    """Positions of the riskiest share, at least one, riskiest first."""
    count = max(1, round(share * len(risk)))
    return [int(i) for i in np.argsort(-risk, kind="stable")[:count]]


def score_table(scores: Scores) -> str:
    """Every score of a network as text, with the numbers that they rest on.

    >>> network, recipe, _ = load_checkpoint(Path("runs/first"))
    >>> device = Compute(device="cpu", threads=1).prepare()
    >>> print(score_table(score(network, recipe, open_data("synthetic:3,20"), device)))
    PCK@0.2 ... over 20 persons; ... failures and ... others among the 20 whose torso is labelled
    score ...
    random ...
    true loss (oracle) ...
    """
    report = failure_report(scores.risk_scores(), scores.found, scores.true_loss, scores.ids)
    return "\n".join(failure_lines(report))


def failure_lines(report: FailureReport) -> Iterator[str]:
    """The report as lines of text, and why a number is a dash where one is."""
    others = report.measured - report.failures
    yield (
        f"PCK@0.2 {report.pck} over {report.persons} persons; {report.failures} failures and "
        f"{others} others among the {report.measured} whose torso is labelled"
    )
    yield table_line("score", COLUMNS.values())
    for row in report.rows:
        yield row_line(row.name, row.numbers())
    yield from _reasons(report)
    yield (
        f"[ ]: {LEVEL:.0%} interval from {RESAMPLES} resamples of {report.images} images; "
        "none for a single image, or where many resamples lack failures or others"
    )


def table_line(name: str, cells: Iterable[object]) -> str:
    """A name and its cells, in columns."""
    return f"{name:22}" + "".join(f" {cell!s:>21}" for cell in cells)


def row_line(name: str, numbers: Mapping[str, Estimate]) -> str:
    """A row of the table of scores: those of the numbers that it shows."""
    return table_line(name, [numbers[column] for column in COLUMNS])


def _reasons(report: FailureReport) -> Iterator[str]:
    """One line for each kind of dash in the table."""
    others = report.measured - report.failures
    if report.measured < 2:
        yield f"–: {report.measured or 'no'} person with a labelled torso; nothing to order"
        return
    if not report.failures or not others:
        who = "everybody" if report.failures else "nobody"
        yield f"–: {who} failed, so that there are no failures to tell from others"
    if constant := [row.name for row in report.rows if np.isnan(row.spearman.value)]:
        yield f"–: no order, everybody has the same: {', '.join(constant)}"
