"""The closed forms for Gamma losses, against quadrature, random draws and the objectives."""

from collections.abc import Callable
from itertools import product
from math import comb

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats
from torch import Tensor

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer.heads.objectives import margin_ranking, pairwise_kl
from misgiving.trainer.theory.gamma import (
    Floats,
    GammaLosses,
    fit_gamma,
    margin_coefficient,
    rate_of,
)

DRAWS = 1_000_000
BAND = 0.004  # half of it: gaps within count as one
GRID = [*product((1, 2, 4, 8), (1.0, 15.0), (0.01, 0.1, 0.5, 2.0))]


def integral(function: Callable[[float], float], *, upto: float = np.inf) -> float:
    return float(integrate.quad(function, 0, upto, epsabs=0, epsrel=1e-12, limit=500)[0])


@pytest.fixture(scope="module")
def pairs() -> Floats:
    """Losses, (DRAWS, 2), of Gamma(4, 15); the lower one of a pair stands first."""
    drawn = np.random.default_rng(0).gamma(4, 1 / 15, (DRAWS, 2))
    return np.column_stack([drawn.min(axis=1), drawn.max(axis=1)])


def of_gap(pairs: Floats, gap: float) -> Floats:
    return pairs[np.abs(pairs[:, 1] - pairs[:, 0] - gap) < BAND]


@pytest.mark.parametrize(
    ("alpha", "weights"),
    [
        (1, [1.0]),  # exponential losses: their difference is exponential
        (2, [1 / 2, 1 / 2]),
        (4, [20 / 64, 10 / 32, 4 / 16, 1 / 8]),  # the paper's
    ],
)
def test_mixture_by_hand(alpha: int, weights: list[float]) -> None:
    assert GammaLosses(alpha, 3.0).mixture() == weights


@pytest.mark.parametrize("alpha", [1, 5, 30, 60])
def test_mixture_sums_to_one(alpha: int) -> None:
    assert sum(GammaLosses(alpha, 1.0).mixture()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("alpha", "beta", "gap"), GRID)
def test_equation_5_against_quadrature(alpha: int, beta: float, gap: float) -> None:
    one = stats.gamma(alpha, scale=1 / beta)

    def inside(x: float) -> float:
        return float(one.pdf(x) * (one.cdf(x + gap) - one.cdf(x - gap)))

    end = float(one.isf(1e-17))
    parts = integrate.quad(inside, 0, end, points=[min(gap, end)], epsabs=1e-13, limit=500)
    assert float(GammaLosses(alpha, beta).close_pairs(gap)) == pytest.approx(parts[0], abs=1e-12)


@pytest.mark.parametrize("gap", [0.02, 0.1, 0.15, 0.5])
def test_equation_5_against_draws(gap: float, pairs: Floats) -> None:
    drawn = np.mean(pairs[:, 1] - pairs[:, 0] <= gap)
    error = np.sqrt(drawn * (1 - drawn) / DRAWS)
    assert float(GammaLosses(4, 15.0).close_pairs(gap)) == pytest.approx(drawn, abs=4 * error)


@pytest.mark.parametrize(
    ("alpha", "gap"),
    # below and above 1, halves, whole
    [*product((0.8, 1, 1.5, 2.5, 4, 7.3), (0.001, 0.1, 0.7))],
)
def test_gap_density_against_quadrature(alpha: float, gap: float) -> None:
    """The product of both densities over all places of a pair; substituting x = t^4 makes what is
    infinite at 0 finite."""
    one = stats.gamma(alpha, scale=1 / 15)
    expected = 2 * integral(
        lambda t: float(one.pdf(t**4) * one.pdf(t**4 + gap)) * 4 * t**3, upto=3.0
    )
    assert float(GammaLosses(alpha, 15.0).gap_density(gap)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("alpha", [1, 2, 4, 20, 60])
def test_gap_density_is_that_of_the_mixture(alpha: int) -> None:
    """Down to ties, where the Bessel function overflows."""
    gaps = np.array([0.0, 1e-300, 1e-90, 1e-6, 1e-4, 0.01, 0.1, 1.0, 100.0])
    losses = GammaLosses(alpha, 15.0)
    parts = [w * GammaLosses(m + 1, 15.0).density(gaps) for m, w in enumerate(losses.mixture())]
    np.testing.assert_allclose(losses.gap_density(gaps), np.sum(parts, axis=0), rtol=1e-8)


@pytest.mark.parametrize(("alpha", "at_tie"), [(0.3, np.inf), (0.5, np.inf), (1, 15.0)])
def test_gap_density_of_ties(alpha: float, at_tie: float) -> None:
    assert float(GammaLosses(alpha, 15.0).gap_density(0)) == pytest.approx(at_tie)


@pytest.mark.parametrize(("alpha", "beta", "gap"), GRID)
def test_equation_6_against_quadrature(alpha: int, beta: float, gap: float) -> None:
    """As the paper has it: x / (2x + gap) over the places x of pairs with this gap."""

    def weight(x: float) -> float:
        return float((x * (x + gap)) ** (alpha - 1) * np.exp(-2 * beta * x))

    shares = integral(lambda x: weight(x) * x / (2 * x + gap))
    expected = shares / integral(weight)
    share = float(GammaLosses(alpha, beta).expected_share(gap))
    assert share == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("z", [0.3, 1.5, 7.5])
@pytest.mark.parametrize("alpha", [1, 2, 4, 5])
def test_equation_6_against_incomplete_gammas(alpha: int, z: float) -> None:
    """The other closed form: ½ (1 − z N / D), sums of alternating signs."""

    def total(first: int) -> float:
        return float(
            sum(
                comb(alpha - 1, j) * (-(z**2)) ** (alpha - 1 - j) * upper_gamma(2 * j + first)
                for j in range(alpha)
            )
        )

    def upper_gamma(a: int) -> float:
        return float(special.gammaincc(a, z) * special.gamma(a) if a else special.exp1(z))

    share = float(GammaLosses(alpha, 1.0).expected_share(z))
    assert share == pytest.approx((1 - z * total(0) / total(1)) / 2, abs=1e-9)


@pytest.mark.parametrize("gap", [0.05, 0.2, 0.5])
def test_equation_6_against_draws(gap: float, pairs: Floats) -> None:
    near = of_gap(pairs, gap)
    shares = near[:, 0] / near.sum(axis=1)
    error = shares.std() / np.sqrt(len(shares))
    assert error < 0.002
    expected = pytest.approx(shares.mean(), abs=4 * error)
    assert float(GammaLosses(4, 15.0).expected_share(gap)) == expected


@pytest.mark.parametrize(
    ("objective", "gap"), [*product((pairwise_kl, margin_ranking), (0.1, 0.4))]
)
@pytest.mark.parametrize("lead", [-2.0, 0.0, 0.5, 1.5])
def test_coefficients_are_those_of_the_objectives(
    objective: Callable[[Tensor, Tensor], Tensor], gap: float, lead: float, pairs: Floats
) -> None:
    """Autograd's, averaged over drawn pairs of nearly one gap."""
    near = torch.from_numpy(of_gap(pairs, gap))
    predicted = torch.tensor([0.0, lead], dtype=torch.float64).repeat_interleave(len(near))
    predicted.requires_grad_()
    objective(predicted, near.T.reshape(-1)).backward()
    assert predicted.grad is not None
    found = predicted.grad[: len(near)]  # of a mean: each is 1 / len(near) of its coefficient
    expected = (
        GammaLosses(4, 15.0).expected_coefficient(gap, lead)
        if objective is pairwise_kl
        else margin_coefficient(lead)
    )
    error = float(found.std()) * np.sqrt(len(near))
    assert float(found.sum()) == pytest.approx(float(expected), abs=4 * error + 1e-12)


@pytest.mark.parametrize(
    ("lead", "margin", "coefficient"),
    [
        (-9.0, 1.0, 1.0),  # the wrong order
        (0.99, 1.0, 1.0),  # the right order, within the margin
        (1.0, 1.0, 0.0),  # at the kink, as torch has it
        (1.01, 1.0, 0.0),
        (1.01, 2.0, 1.0),  # another margin
    ],
)
def test_margin_coefficient(lead: float, margin: float, coefficient: float) -> None:
    assert float(margin_coefficient(lead, margin)) == coefficient


@pytest.mark.parametrize("alpha", [1, 2, 4, 30, 60])
def test_expected_share_from_ties_to_gulfs(alpha: int) -> None:
    losses = GammaLosses(alpha, 1.0)
    z = np.array([0.0, 1e-12, 0.1, 1.0, 10.0, 499.999, 500.001, 5000.0, 1e5])
    shares = losses.expected_share(z)
    assert shares[0] == 0.5
    assert (np.diff(shares) < 0).all()
    assert shares[-1] == pytest.approx(alpha / (2 * z[-1]), rel=0.02)  # l_i: Gamma(alpha, 2 beta)
    assert shares[5] == pytest.approx(shares[6], rel=5e-6)  # where the formula changes


@pytest.mark.parametrize("alpha", [2, 4, 8])
def test_slope_of_the_expected_share_at_a_tie(alpha: int) -> None:
    losses, step = GammaLosses(alpha, 15.0), 1e-6
    slope = (float(losses.expected_share(step)) - 0.5) / step
    assert slope == pytest.approx(-15 / (4 * (alpha - 1)), rel=1e-3)


def test_balanced_lead_has_no_gradient() -> None:
    losses, gaps = GammaLosses(4, 15.0), np.array([0.0, 0.1, 0.5, 3.0])
    leads = losses.balanced_lead(gaps)
    np.testing.assert_allclose(losses.expected_coefficient(gaps, leads), 0, atol=1e-15)
    assert (np.diff(leads) > 0).all()


def test_inside_margin_against_draws(pairs: Floats) -> None:
    ideal = np.log(pairs)
    for margin in (0.2, 1.0):
        drawn = np.mean(np.abs(ideal[:, 0] - ideal[:, 1]) < margin)
        assert GammaLosses(4, 15.0).inside_margin(margin) == pytest.approx(drawn, abs=0.0015)


def test_density_of_one_loss(pairs: Floats) -> None:
    losses = GammaLosses(4, 15.0)
    assert losses.mode == pytest.approx(3 / 15)
    grid = np.linspace(0.01, 1, 991)
    assert grid[int(np.argmax(losses.density(grid)))] == pytest.approx(losses.mode)
    share = integral(lambda x: float(losses.density(x)), upto=0.2)
    assert share == pytest.approx(np.mean(pairs < 0.2), abs=0.0015)
    assert GammaLosses(0.5, 15.0).mode == 0


def test_shapes_broadcast() -> None:
    losses = GammaLosses(4, 15.0)
    gaps, leads = np.zeros((2, 3)), np.zeros((5, 1, 1))
    for method in (losses.close_pairs, losses.expected_share, losses.gap_density):
        assert method(gaps).shape == (2, 3)
        assert method([]).shape == (0,)
        assert method(0.1).shape == ()
    assert losses.expected_coefficient(gaps, leads).shape == (5, 2, 3)


@pytest.mark.parametrize(
    ("alpha", "beta"), [(0, 1.0), (-1, 1.0), (4, 0.0), (np.nan, 1.0), (4, np.inf), (61, 1.0)]
)
def test_parameters_that_are_none(alpha: float, beta: float) -> None:
    with pytest.raises(
        InvalidInput, match=r"^alpha is .*; expected an alpha above 0 and at most 60"
    ):
        GammaLosses(alpha, beta)


def test_closed_forms_want_a_whole_alpha() -> None:
    for method in (GammaLosses(2.5, 1.0).close_pairs, GammaLosses(2.5, 1.0).expected_share):
        with pytest.raises(InvalidInput, match=r"alpha is 2.5; the closed form holds for whole"):
            method(0.1)


@pytest.mark.parametrize("gap", [-0.1, [0.1, -0.1], np.nan, np.inf])
def test_gaps_that_are_none(gap: float) -> None:
    losses = GammaLosses(4, 15.0)
    for method in (losses.close_pairs, losses.expected_share, losses.gap_density):
        with pytest.raises(InvalidInput, match=r"^gap is .*; expected finite numbers from 0"):
            method(gap)


@pytest.mark.parametrize("alpha", [1, 4, 9])
def test_a_fit_finds_what_made_the_table(alpha: int) -> None:
    gaps = [0.02, 0.1, 0.3]
    table = GammaLosses(alpha, 12.5).close_pairs(gaps)
    assert fit_gamma(gaps, table.tolist(), alpha).beta == pytest.approx(12.5, rel=1e-6)


def test_a_fit_has_the_smallest_of_the_largest_errors() -> None:
    gaps, table, grid = [0.02, 0.1, 0.3], [0.15, 0.4, 0.8], np.linspace(10, 15, 5_001)
    worst = [np.abs(GammaLosses(3, b).close_pairs(gaps) - table).max() for b in grid]
    assert fit_gamma(gaps, table, 3).beta == pytest.approx(grid[int(np.argmin(worst))], abs=0.001)


@pytest.mark.parametrize(("alpha", "probability"), [(1, 1e-9), (1, 0.5), (4, 0.437), (8, 1 - 1e-9)])
def test_the_rate_of_one_entry(alpha: int, probability: float) -> None:
    beta = rate_of(0.1, probability, alpha)
    found = float(GammaLosses(alpha, beta).close_pairs(0.1))
    assert found == pytest.approx(probability, abs=1e-11)


@pytest.mark.parametrize(("gap", "probability"), [(0.0, 0.5), (0.1, 0.0), (0.1, 1.0), (0.1, -0.5)])
def test_entries_that_are_none(gap: float, probability: float) -> None:
    with pytest.raises(InvalidInput, match=r"expected a gap above 0 and a probability"):
        fit_gamma([gap], [probability], 4)


@pytest.mark.parametrize(("gaps", "probabilities"), [([], []), ([0.1, 0.2], [0.4])])
def test_tables_that_are_none(gaps: list[float], probabilities: list[float]) -> None:
    with pytest.raises(InvalidInput, match=r"expected as many of both, at least one"):
        fit_gamma(gaps, probabilities, 4)
