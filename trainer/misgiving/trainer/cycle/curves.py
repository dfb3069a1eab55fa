"""The curves of a cycle's methods over the labels, and how each method is drawn.

Axes: T stages, S seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from misgiving.trainer import page
from misgiving.trainer.cycle.record import CycleRun
from misgiving.trainer.cycle.summary import NUMBERS, by_method, cell, reference, stage_count
from misgiving.trainer.measures.nested import t_interval

DRAWN = ("test_pck", "selected_missed")
FEW = 7
"""Methods whose intervals can still be told apart in one picture."""
# Okabe and Ito's, which the colour-blind tell apart, without the yellow that white swallows. Where
# there are more methods than colours, the lines differ.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_STYLES = ("solid", "dashed", "dotted")
_OTHERS = "#dddddd"
_COLUMNS, _COLUMNS_OF_LEGEND = 4, 2
_ASIDE = 0.4
"""Share of what lies between two stages that the methods' dots take, so that none hides another."""


@dataclass(frozen=True, slots=True)
class Line:
    """How a method is drawn, in words of matplotlib and of CSS."""

    colour: str
    style: str


def lines(methods: Sequence[str]) -> dict[str, Line]:
    """The line of each method; random's is grey."""
    found = {method: Line("#888888", "solid") for method in methods if method == "random"}
    for index, method in enumerate(method for method in methods if method not in found):
        style = _STYLES[index // len(_COLOURS) % len(_STYLES)]
        found[method] = Line(_COLOURS[index % len(_COLOURS)], style)
    return found


def curves(runs: Sequence[CycleRun]) -> list[str]:
    """Test PCK and what was missed of the selected over the labels, as SVGs from 0 to 1: means over
    the repeats, with Student's interval.

    All methods in one picture of each, and where they are more than FEW each apart too.
    """
    with page.styled():
        return [page.svg(figure) for figure in figures(runs)]


def figures(runs: Sequence[CycleRun]) -> list[Figure]:
    """The same before they are SVGs."""
    apart = DRAWN if len(by_method(runs)) > FEW else ()
    together = [_together(runs, name) for name in DRAWN]
    return together + [_apart(runs, name) for name in apart]


def _together(runs: Sequence[CycleRun], name: str) -> Figure:
    grouped = by_method(runs)
    rows = -(-len(grouped) // _COLUMNS_OF_LEGEND)
    figure = Figure(figsize=(5.4, 4 + 0.25 * rows), layout="constrained")
    axes, look = figure.subplots(), lines(list(grouped))
    for index, (method, some) in enumerate(grouped.items()):
        aside = _ASIDE * (index - (len(grouped) - 1) / 2) / len(grouped)
        _draw(axes, some, name, look[method], interval=len(grouped) <= FEW, aside=aside)
    axes.set_title(NUMBERS[name], fontsize=11)
    axes.set_xlabel("people labelled")
    _scale(axes, runs)
    figure.legend(
        frameon=False, ncols=_COLUMNS_OF_LEGEND, handlelength=3, loc="outside lower center"
    )
    return figure


def _apart(runs: Sequence[CycleRun], name: str) -> Figure:
    """A small picture of each method, before the others in pale grey."""
    grouped = by_method(runs)
    rows = -(-len(grouped) // _COLUMNS)
    figure = Figure(figsize=(11, 1.9 * rows + 0.5), layout="constrained")
    figure.suptitle(f"{NUMBERS[name]}, each method in colour, the others pale", fontsize=11)
    grid = figure.subplots(rows, _COLUMNS, sharex=True, sharey=True, squeeze=False)
    look, base = lines(list(grouped)), reference(runs)
    for axes, (method, some) in zip(grid.flat, grouped.items(), strict=False):
        for other in grouped.values():
            _draw(axes, other, name, Line(_OTHERS, "solid"), interval=False)
        _draw(axes, grouped[base], name, look[base], interval=False)
        _draw(axes, some, name, look[method], interval=True)
        axes.set_title(method, fontsize=9)
        _scale(axes, runs)
    for axes in list(grid.flat)[len(grouped) :]:
        axes.set_axis_off()
    return figure


def _draw(
    axes: Axes,
    some: Sequence[CycleRun],
    name: str,
    line: Line,
    *,
    interval: bool,
    aside: float = 0,
) -> None:
    """The runs of one method, beside the others by a share of what lies between two stages."""
    values = np.array([cell(some, stage, name).values for stage in range(stage_count(some))])
    labels = np.array(_labels(some)) + aside * _step(some)
    (drawn,) = axes.plot(labels, values.mean(axis=1), marker="o", markersize=4, linewidth=0.8)
    drawn.set(color=line.colour, linestyle=line.style, label=some[0].method)
    if interval:
        bounds = [t_interval(row) for row in values]  # of (T, S)
        known = np.isfinite(bounds).all(axis=1)
        low, high = np.reshape(bounds, (-1, 2))[known].T
        axes.vlines(labels[known], low, high, color=line.colour, linewidth=1.5)


def _scale(axes: Axes, runs: Sequence[CycleRun]) -> None:
    """The whole range of a share, so that a small difference looks small."""
    axes.set_ylim(0, 1)
    axes.set_xticks(_labels(runs))


def _step(runs: Sequence[CycleRun]) -> int:
    first, *rest = _labels(runs)
    return rest[0] - first if rest else 1


def _labels(runs: Sequence[CycleRun]) -> list[int]:
    return [runs[0].stages[stage].labels for stage in range(stage_count(runs))]
