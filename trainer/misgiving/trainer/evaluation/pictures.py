"""What an evaluation looks like: its worst mistakes, its best catches, its risk–coverage curves.

They show the people of the data set, so their folder carries a ``.gitignore`` of its own.
"""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from misgiving.runtime.draw import BOXES, SIDES, Drawn
from misgiving.runtime.durable import new_folder
from misgiving.runtime.geometry import Region
from misgiving.trainer import page
from misgiving.trainer.data.spec import without_folders
from misgiving.trainer.evaluation import verdict
from misgiving.trainer.evaluation.bundle import LEARNED, ORACLE, Evaluation
from misgiving.trainer.measures import metrics
from misgiving.trainer.report import COVERAGES, RANDOM
from misgiving.trainer.views import as_labelled, views

SHOWN = 12
_COLUMNS = 3
_HEIGHT = 300  # px of one view of a person
_FREE = ("#2869b0", "#e08a1e", "#3a8f4f", "#8a5fb0", "#7a5230")
_STYLES: dict[str, dict[str, Any]] = {
    LEARNED: {"color": "#c8352f", "linewidth": 2.5},
    RANDOM: {"color": "#999999", "linestyle": ":"},
    ORACLE: {"color": "#333333", "linestyle": "--"},
}


def write_pictures(folder: Path, evaluation: Evaluation) -> None:
    """Write ``mistakes.png``, ``catches.png`` and ``risk_coverage.png`` into a new folder.

    Raises:
        DataError: the folder is there already, or cannot be written.
    """
    mistakes, catches = mistakes_and_catches(evaluation)
    figures = {
        "mistakes": _sheet(evaluation, mistakes, "lowest"),
        "catches": _sheet(evaluation, catches, "highest"),
        "risk_coverage": risk_coverage(evaluation),
    }
    with new_folder(folder) as new:
        (new / ".gitignore").write_text("*\n", encoding="utf-8")
        for name, figure in figures.items():
            figure.savefig(new / f"{name}.png")


def mistakes_and_catches(evaluation: Evaluation) -> tuple[list[int], list[int]]:
    """Positions of the failures with the lowest predicted loss, lowest first, and of those with the
    highest, highest first; SHOWN of each at most."""
    below = evaluation.bundle.manifest.failure.below
    failed = np.flatnonzero(metrics.person_pck(evaluation.found) < below)
    risk = evaluation.persons.predicted_loss[failed]
    calm_first: list[int] = failed[np.argsort(risk, kind="stable")].tolist()
    return calm_first[:SHOWN], calm_first[::-1][:SHOWN]


def _sheet(evaluation: Evaluation, chosen: list[int], which: str) -> Figure:
    """Persons side by side, each as predicted and as labelled."""
    shares = metrics.person_pck(evaluation.found)
    nobody = "nobody failed" if np.isfinite(shares).any() else "who failed is not known: no torso"
    persons, manifest = evaluation.persons, evaluation.bundle.manifest
    rows = max(1, -(-len(chosen) // _COLUMNS))
    figure = Figure(figsize=(_COLUMNS * 4.6, rows * 2.8 + 0.9), dpi=100, layout="constrained")
    figure.suptitle(
        f"{_subject(evaluation)}: the failures with the {which} predicted loss"
        f"{'' if chosen else f' ({nobody})'}\nEach as predicted and as labelled: the person's "
        f"{SIDES}.\n{BOXES}. "
        f"Rank 1 of {len(persons.ids)} has the highest predicted loss",
        fontsize=11,
        parse_math=False,
    )
    ranks = stats.rankdata(-persons.predicted_loss, "min")
    grid = figure.subplots(rows, _COLUMNS, squeeze=False)
    for axes, index in zip(grid.flat, chosen, strict=False):
        sample = evaluation.data[index]
        predicted = as_predicted(evaluation, index, sample.asked_region)
        drawn = (predicted, as_labelled(sample))
        axes.imshow(views(sample, manifest.crop, manifest.keypoints, drawn, _HEIGHT))
        axes.set_title(
            f"{persons.ids[index]}: {predicted.label}, rank {ranks[index]}, "
            f"PCK {shares[index]:.2f}",
            fontsize=8,
            parse_math=False,
        )
    for axes in grid.flat:
        axes.set_axis_off()
    return figure


def as_predicted(evaluation: Evaluation, index: int, region: Region | None) -> Drawn:
    """A person's answer about a region, flagged as by the bundle's default threshold."""
    persons, calibration = evaluation.persons, evaluation.bundle.manifest.calibration
    loss = float(persons.predicted_loss[index])
    threshold = next(iter(calibration.by_name().values()))
    return Drawn(
        np.column_stack([persons.points[index], persons.confidence[index]]),
        persons.keypoint_loss[index],
        region,
        loss,
        calibration.probability(loss),
        flagged=not loss < threshold,  # NaN is flagged, as on the vehicle
    )


def risk_coverage(evaluation: Evaluation) -> Figure:
    """Share that failed among those accepted, against the share accepted, for each score."""
    figure = Figure(figsize=(9, 5), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.set_prop_cycle(color=_FREE)
    for row in evaluation.failures.rows:
        axes.plot(100 * COVERAGES, row.curve, label=row.name, **_STYLES.get(row.name, {}))
    axes.set_xlabel("persons accepted, those with the lowest score first, %")
    axes.set_ylabel("share of failures among them (lower is better)")
    _mark_threshold(axes, verdict.catches(evaluation)[0])
    title = f"{textwrap.fill(verdict.sentence(evaluation), 110)}\n{_subject(evaluation)}"
    figure.suptitle(title, fontsize=10, parse_math=False)
    axes.set_xlim(0, 100)
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside right center")
    return figure


def _mark_threshold(axes: Axes, catch: verdict.Catch) -> None:
    """Whom the threshold in force accepts, and the share of them that failed."""
    if np.isfinite(catch.missed):
        at = 100 * catch.accepted
        label = f"threshold {catch.name}:\naccepts {at:.0f} %,\n{catch.missed:.3f} of them failed"
        axes.axvline(at, color=page.INK, linewidth=0.8)
        axes.plot(at, catch.missed, "o", color=page.INK, label=label, zorder=3)


def _subject(evaluation: Evaluation) -> str:
    return f"{evaluation.bundle.manifest.name} on {without_folders(evaluation.data.spec)}"
