"""The paper's Figures 1 to 3 and its Table 2, drawn from the numbers that are computed here."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from misgiving.trainer.theory import examples
from misgiving.trainer.theory.examples import OBSERVED, PREDICTED, THETA, WEIGHTS, Step
from misgiving.trainer.theory.gamma import Floats, GammaLosses, margin_coefficient
from misgiving.trainer.theory.tables import TABLE_2

SAMPLES = 200_000
SEED = 0
_GAP = 0.1  # whose share of pairs Figure 3 shades
_MARGIN, _KL, _INK, _PALE = "#2869b0", "#c8352f", "#333333", "#c9d3dc"
_PARTS = ("#e08a1e", "#3a8f4f", "#8a5fb0", "#7a5230")


def figures(losses: GammaLosses) -> dict[str, Figure]:
    """The pictures by file name."""
    return {
        "figure1": _figure_1(),
        "figure2": _figure_2(),
        "figure3": _figure_3(losses),
        "table2": _table_2(losses),
    }


def _canvas(title: str, height: float) -> tuple[Figure, Axes, Axes]:
    figure = Figure(figsize=(10, height), dpi=120, layout="constrained")
    figure.suptitle(title, fontsize=12)
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure, left, right


def _figure_1() -> Figure:
    figure, left, right = _canvas("Similar and different losses, predicted alike", 4)
    for pair, colour in zip(examples.PAPER_COEFFICIENTS, _PARTS, strict=False):
        ends = [OBSERVED[image] for image in pair], [PREDICTED[image] for image in pair]
        left.plot(*ends, color=colour, linewidth=2, label=f"pair ({', '.join(pair)})")
    left.scatter([*OBSERVED.values()], [*PREDICTED.values()], s=50, color=_INK, zorder=3)
    for image, x in OBSERVED.items():
        above = 8 if image == "b" else -14
        left.annotate(image, (x, PREDICTED[image]), (6, above), textcoords="offset points")
    left.set(xlabel="true loss", ylabel="predicted loss", xlim=(0, 3.1), ylim=(1.4, 1.7))
    left.legend(frameon=False, loc="upper left")
    _coefficient_bars(right)
    return figure


def _coefficient_bars(axes: Axes) -> None:
    pairs = examples.figure_1()
    series = {
        "Learning Loss": (_MARGIN, [one.margin for one in pairs]),
        "LearningLoss++": (_KL, [one.kl for one in pairs]),
    }
    for shift, (name, (colour, values)) in zip((-0.2, 0.2), series.items(), strict=True):
        bars = axes.bar(np.arange(len(pairs)) + shift, values, 0.38, color=colour, label=name)
        axes.bar_label(bars, fmt="%.3f", padding=2)
    axes.set_xticks(range(len(pairs)), [f"pair ({', '.join(one.pair)})" for one in pairs])
    axes.set(
        ylabel=r"coefficient of the gradient, $\partial L / \partial \hat{l}_a$", ylim=(0, 1.3)
    )
    axes.legend(frameon=False, loc="upper center", ncols=2)


def _figure_2() -> Figure:
    predicted = np.asarray(THETA) @ np.asarray(WEIGHTS)
    title = (
        "Learning Loss on images that differ in one component of θ; predicted losses "
        rf"$\hat{{l}}_i$ = {predicted[0]:g}, $\hat{{l}}_j$ = {predicted[1]:g}"
    )
    figure, *both = _canvas(title, 4.8)
    for axes, step in zip(both, examples.figure_2(), strict=True):
        _vectors(axes, step)
    return figure


def _vectors(axes: Axes, step: Step) -> None:
    """The first two components; the third is the same for both images, and 0 in w."""
    for name, vector, colour in (
        ("θ_i", THETA[0], _PARTS[0]),
        ("θ_j", THETA[1], _PARTS[1]),
        ("w", WEIGHTS, _INK),
    ):
        _arrow(axes, (0, 0), vector, colour)
        axes.annotate(
            f"${name}$", (vector[0], vector[1]), (5, 3), textcoords="offset points", fontsize=13
        )
    if any(step.gradient):
        start = WEIGHTS[0] - 0.12, WEIGHTS[1]
        end = start[0] - step.gradient[0], start[1] - step.gradient[1]
        _arrow(axes, start, end, _KL)
        axes.annotate("$-∇_w L$", end, (-46, 12), textcoords="offset points", color=_KL)
    gradient = ", ".join(f"{value:g}" for value in step.gradient)
    axes.set_title(f"${step.order}$:   $L$ = {step.loss:g},   $∇_w L$ = [{gradient}]", fontsize=11)
    axes.set(xlabel="first component", ylabel="second component", xlim=(-1, 2), ylim=(0, 3.4))
    axes.set_aspect("equal")


def _arrow(axes: Axes, start: Sequence[float], end: Sequence[float], colour: str) -> None:
    style: dict[str, Any] = {"arrowstyle": "-|>", "color": colour, "linewidth": 2}
    style |= {"shrinkA": 0, "shrinkB": 0, "mutation_scale": 16}
    axes.annotate("", (end[0], end[1]), (start[0], start[1]), arrowprops=style)


def _figure_3(losses: GammaLosses) -> Figure:
    name = f"Γ({losses.alpha:g}, rate {losses.beta:.2f})"
    figure, left, right = _canvas(f"Losses that follow {name}, and how far two of them differ", 4.2)
    scale = 1 / losses.beta
    drawn = np.random.default_rng(SEED).gamma(losses.alpha, scale, (SAMPLES, 2))
    _histogram(left, drawn[:, 0])
    _histogram(right, np.abs(drawn[:, 0] - drawn[:, 1]))
    _loss_curve(left, losses)
    _gap_curves(right, losses)
    return figure


def _histogram(axes: Axes, values: Floats) -> None:
    label = f"{SAMPLES:,} random draws"
    axes.hist(values, bins=80, range=(0, 0.8), density=True, color=_PALE, label=label)


def _loss_curve(axes: Axes, losses: GammaLosses) -> None:
    x = np.linspace(0, 0.8, 400)
    axes.plot(x, losses.density(x), color=_KL, linewidth=2, label="density")
    peak = float(losses.density(losses.mode))
    axes.plot([losses.mode] * 2, [0, peak], color=_INK, linestyle=":", linewidth=1)
    text = f"mode {losses.mode:.3f}, peak {peak:.2f}"
    place: dict[str, Any] = {"textcoords": "offset points", "ha": "center"}
    axes.annotate(text, (losses.mode, peak), (0, 7), **place)
    axes.set(xlabel="true loss", ylabel="density", xlim=(0, 0.8), ylim=(0, 1.2 * peak))
    axes.legend(frameon=False)


def _gap_curves(axes: Axes, losses: GammaLosses) -> None:
    """The density of the gap, and the Gamma distributions that it is a mixture of."""
    x = np.linspace(0, 0.8, 400)
    near = x <= _GAP
    share = float(losses.close_pairs(_GAP))
    axes.fill_between(
        x[near],
        losses.gap_density(x[near]),
        color=_KL,
        alpha=0.25,
        linewidth=0,
        label=f"at most {_GAP}: {100 * share:.1f} % of pairs",
    )
    axes.plot(x, losses.gap_density(x), color=_KL, linewidth=2, label="density")
    for m, (weight, colour) in enumerate(zip(losses.mixture(), _PARTS, strict=False)):
        part = weight * GammaLosses(m + 1, losses.beta).density(x)
        axes.plot(x, part, color=colour, linestyle="--", label=f"{weight:.4g} · Γ({m + 1})")
    axes.set(xlabel="difference of two true losses", xlim=(0, 0.8), ylim=(0, None))
    axes.legend(frameon=False)


def _table_2(losses: GammaLosses) -> Figure:
    """What Table 2 abbreviates: the expected coefficient over all leads, for each of its gaps."""
    figure = Figure(figsize=(8.5, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    leads = np.linspace(-2.5, 3, 600)
    axes.axhline(0, color=_INK, linewidth=0.8)
    for gap, shade in zip(TABLE_2, np.linspace(0.25, 1, len(TABLE_2)), strict=True):
        curve = losses.expected_coefficient(gap, leads)
        axes.plot(leads, curve, color=_KL, alpha=shade, label=f"LearningLoss++, gap {gap:g}")
    label = "Learning Loss,\nany gap above 0"
    axes.plot(leads, margin_coefficient(leads), color=_MARGIN, linewidth=2, label=label)
    axes.set(
        xlabel=r"lead of the worse image, $\hat{l}_j - \hat{l}_i$ where $l_j = l_i$ + gap",
        ylabel=r"expected $\partial L / \partial \hat{l}_i$",
        xlim=(leads[0], leads[-1]),
    )
    axes.set_title("Above 0 a step raises the lead, below 0 it lowers it", fontsize=12)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside right center")
    return figure
