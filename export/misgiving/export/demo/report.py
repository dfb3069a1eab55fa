"""The demo's page: one HTML file with its pictures inside."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from misgiving.export.demo import outcome
from misgiving.export.demo.outcome import Replies
from misgiving.runtime.draw import BOXES, SIDES, draw_figures
from misgiving.trainer import page
from misgiving.trainer.answers.scoring import Floats, Scores
from misgiving.trainer.data import PoseSet
from misgiving.trainer.measures import metrics

PICTURES = 12
PICTURE_PX = 320
_LEARNED, _FREE, _RANDOM, _ORACLE = "#c8352f", "#2869b0", "#999999", "#3a8f4f"
_COLOURS = {
    "predicted loss": _LEARNED,
    "− mean heatmap peak": _FREE,
    "random": _RANDOM,
    "true PCK (oracle)": _ORACLE,
}


def write_report(
    path: Path,
    summary: dict[str, Any],
    replies: Replies,
    truth: Scores,
    streamed: PoseSet,
) -> None:
    """Write ``report.html``: the table, what was flagged and what was not, and two charts."""
    order = np.argsort(-replies.predicted_loss, kind="stable")
    shares = metrics.person_pck(outcome.found_by_vehicle(replies, truth))
    text = page.render(
        "misgiving.export.demo",
        "report.html.j2",
        summary=summary,
        verdict=outcome.verdict(summary["picks"]),
        look=f"{SIDES}. {BOXES}",
        synthetic=streamed.spec.startswith("synthetic:"),
        highest=_pictures(order[:PICTURES], replies, truth, shares, streamed),
        lowest=_pictures(order[::-1][:PICTURES], replies, truth, shares, streamed),
        scatter=_scatter(replies, 1 - shares),
        curves=_curves(outcome.budget_curves(replies, truth)),
    )
    path.write_text(text, encoding="utf-8")


def _pictures(
    chosen: NDArray[np.intp],
    replies: Replies,
    truth: Scores,
    shares: Floats,
    streamed: PoseSet,
) -> list[dict[str, str]]:
    return [
        {
            "image": _drawn(int(index), replies, truth, streamed),
            "score": replies.drawn[index].label,
            "found": "no torso label" if np.isnan(shares[index]) else f"{shares[index]:.0%} found",
        }
        for index in chosen
    ]


def _drawn(index: int, replies: Replies, truth: Scores, streamed: PoseSet) -> str:
    image = streamed[index].image
    scale = PICTURE_PX / max(image.shape[:2])
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    picture = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    draw_figures(picture, [replies.drawn[index].moved((scale, scale))], truth.keypoints)
    return page.jpeg(picture, 85)


def _scatter(replies: Replies, missed: Floats) -> str:
    with page.styled():
        figure = Figure(figsize=(5.2, 3.8), layout="constrained")
        axes = figure.subplots()
        for mask, colour, label in (
            (~replies.flagged, _RANDOM, "not flagged"),
            (replies.flagged, _LEARNED, "flagged"),
        ):
            axes.scatter(
                missed[mask],
                replies.predicted_loss[mask],
                9,
                colour,
                label=label,
                alpha=0.6,
                linewidths=0,
            )
        axes.set_xlabel("share of joints missed")
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylabel("predicted loss (unitless)")
        axes.legend(frameon=False)
        return page.svg(figure)


def _curves(curves: dict[str, list[float]]) -> str:
    with page.styled():
        figure = Figure(figsize=(5.2, 3.8), layout="constrained")
        axes = figure.subplots()
        budgets = [100 * budget for budget in outcome.BUDGETS]
        for name, values in curves.items():
            axes.plot(budgets, values, marker="o", markersize=3, color=_COLOURS[name], label=name)
        axes.set_xlabel("frames picked, %")
        axes.set_ylabel("PCK@0.2 of the picked (lower finds more)")
        axes.set_ylim(0, 1)
        axes.legend(frameon=False)
        return page.svg(figure)
