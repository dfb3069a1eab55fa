"""The paper's Tables 1 and 2, as printed and as computed, and the Gamma distribution behind them.

The paper does not print the distribution's parameters: they are fitted here to its Table 1.
"""

from dataclasses import dataclass

from misgiving.trainer.theory.gamma import GammaLosses, fit_gamma, rate_of

TABLE_1 = {
    0.02: "0.094",
    0.04: "0.185",
    0.06: "0.274",
    0.08: "0.358",
    0.1: "0.437",
    0.125: "0.527",
    0.15: "0.607",
}
"""Gap → probability that the losses of two images differ by that much at most, as printed."""
TABLE_2 = {0.0: "0.5", 0.1: "0.39", 0.2: "0.30", 0.3: "0.25", 0.4: "0.21", 0.5: "0.18"}
"""Gap → what is subtracted from q_i in the expected coefficient of LearningLoss++, as printed."""
ALPHAS = range(1, 11)
"""Shapes that are tried."""


@dataclass(frozen=True, slots=True)
class Fit:
    """The best beta for one alpha."""

    losses: GammaLosses
    largest_error: float
    """Over the entries of Table 1."""
    beta_range: tuple[float, float] | None
    """Where every entry of Table 1 is rounded to what is printed; None: nowhere."""


def rounded_as(value: float, printed: str) -> str:
    """To as many places as the paper printed."""
    return f"{value:.{_places(printed)}f}"


def fits() -> list[Fit]:
    """To Table 1, for each of ALPHAS."""
    return [_fit(alpha) for alpha in ALPHAS]


def best_of(found: list[Fit]) -> Fit:
    """The one with the smallest of the largest errors."""
    return min(found, key=lambda one: one.largest_error)


def _fit(alpha: int) -> Fit:
    printed = [float(text) for text in TABLE_1.values()]
    losses = fit_gamma([*TABLE_1], printed, alpha)
    errors = abs(losses.close_pairs([*TABLE_1]) - printed)
    return Fit(losses, float(errors.max()), _beta_range(alpha))


def _beta_range(alpha: int) -> tuple[float, float] | None:
    """A probability grows with beta, so each entry admits one interval; what they share."""
    lows, highs = [], []
    for gap, text in TABLE_1.items():
        half = 0.5 * 10 ** -_places(text)
        lows.append(rate_of(gap, float(text) - half, alpha))
        highs.append(rate_of(gap, float(text) + half, alpha))
    return (max(lows), min(highs)) if max(lows) < min(highs) else None


def _places(printed: str) -> int:
    return len(printed.partition(".")[2])
