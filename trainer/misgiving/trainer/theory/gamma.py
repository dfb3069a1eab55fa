"""Pairs of images whose losses follow one Gamma distribution: Eqs 5 and 6 of the paper.

The paper leaves both closed forms to its supplement, which was not to be found; these were derived
anew, and docs/method.md says how. Losses and gaps are in one unit, any; beta is in its inverse.
Predicted losses have no unit. In a pair i is the image with the lower loss, j the other:

- gap = l_j − l_i, at least 0;
- lead = l̂_j − l̂_i, above 0 where the two are predicted in their true order;
- coefficient = ∂L/∂l̂_i = −∂L/∂l̂_j, which all gradients of a pair are multiples of: descent
  lowers l̂_i where it is above 0.

Gaps and leads may have any shape, and broadcast; the results have theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, factorial, isfinite

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from misgiving.runtime.errors import InvalidInput

Floats = NDArray[np.float64]

_LARGEST = 60  # alpha: beyond it, terms begin to leave the range of floats


@dataclass(frozen=True, slots=True)
class GammaLosses:
    """Losses of images, drawn independently from one Gamma distribution.

    >>> losses = GammaLosses(alpha=4, beta=15.0)
    >>> print(f"{losses.close_pairs(0.1):.3f}")  # of all pairs, their losses differ by 0.1 or less
    0.437
    >>> print(f"{losses.expected_share(0.1):.2f}")
    0.39

    Raises:
        InvalidInput: alpha or beta is not above 0, or alpha is above 60.
    """

    alpha: float
    """Shape; the closed forms of Eqs 5 and 6 need a whole number."""
    beta: float
    """Rate, in 1 / unit of loss: the mean loss is alpha / beta."""

    def __post_init__(self) -> None:
        if not (0 < self.alpha <= _LARGEST and self.beta > 0 and isfinite(self.beta)):
            raise InvalidInput(
                f"alpha is {self.alpha}, beta {self.beta}; expected an alpha above 0 and at most "
                f"{_LARGEST}, and a finite beta above 0"
            )

    @property
    def mode(self) -> float:
        """The most likely loss."""
        return max(self.alpha - 1, 0) / self.beta

    def density(self, loss: ArrayLike) -> Floats:
        """Of one image's loss, in 1 / unit of loss."""
        return np.asarray(
            stats.gamma.pdf(np.asarray(loss, np.float64), self.alpha, scale=1 / self.beta)
        )

    def gap_density(self, gap: ArrayLike) -> Floats:
        """Of ``|l_i − l_j|``, in 1 / unit of loss, for any alpha, whole or not.

        With ν = alpha − ½, z = beta · gap and K the modified Bessel function of the second kind:
        2 beta / (Γ(alpha) √π) · (z / 2)^ν K_ν(z). At gap 0 it is infinite for alpha ≤ ½.
        """
        nu, z = self.alpha - 0.5, self._scaled(gap)
        bessel = special.kv(nu, z)
        finite = np.isfinite(bessel)  # near a tie it is not, and the product is at its limit
        product = np.where(finite, z / 2, 1.0) ** nu * np.where(finite, bessel, 0.0)
        tied = special.gamma(nu) / 2 if nu > 0 else np.inf
        scale = 2 * self.beta / (special.gamma(self.alpha) * np.sqrt(np.pi))
        return np.asarray(scale * np.where(finite, product, tied))

    def mixture(self) -> list[float]:
        """Eq 5: ``|l_i − l_j|`` is drawn from Gamma(m + 1, beta) with the m-th of these weights.

        The weights, m from 0 to alpha − 1, are C(2 alpha − 2 − m, alpha − 1) / 2^(2 alpha − 2 − m).

        Raises:
            InvalidInput: alpha is not whole.
        """
        last = self._whole() - 1
        return [comb(2 * last - m, last) / 2 ** (2 * last - m) for m in range(last + 1)]

    def close_pairs(self, gap: ArrayLike) -> Floats:
        """Eq 5: the probability that the losses of two images differ by ``gap`` at most.

        Raises:
            InvalidInput: a gap is negative, or alpha is not whole.
        """
        z = self._scaled(gap)
        parts = [weight * special.gammainc(m + 1, z) for m, weight in enumerate(self.mixture())]
        return np.asarray(np.sum(parts, axis=0))

    def expected_share(self, gap: ArrayLike) -> Floats:
        """Eq 6: what LearningLoss++ aims at on average, E[l_i / (l_i + l_j) | l_j − l_i = gap].

        With n = alpha − 1, z = beta · gap and E_m the exponential integrals, it is ½ (1 − S), where
        S is the mean of z e^z E_(alpha + k)(z) with weights ∝ (n + k)! / (k! (n − k)!) · (2z)^−k,
        k from 0 to n. No term is negative, so that no digits are lost.

        Raises:
            InvalidInput: a gap is negative, or alpha is not whole.
        """
        last, z = self._whole() - 1, self._scaled(gap)
        above = np.where(z > 0, z, 1.0)  # for alpha = 1, E_1(0) is infinite
        power = np.where(above < 0.5, last, 0)  # either way none grows beyond 1
        weights = [_bessel_ratio(last, k) * (2 * above) ** (power - k) for k in range(last + 1)]
        parts = [_scaled_expn(last + 1 + k, above) for k in range(last + 1)]
        mean = np.sum(np.multiply(weights, parts), axis=0) / np.sum(weights, axis=0)
        return np.asarray((1 - z * mean) / 2)

    def expected_coefficient(self, gap: ArrayLike, lead: ArrayLike) -> Floats:
        """Eq 6: the coefficient of LearningLoss++, q_i − p_i, averaged over pairs of this gap."""
        return np.asarray(special.expit(-np.asarray(lead)) - self.expected_share(gap))

    def balanced_lead(self, gap: ArrayLike) -> Floats:
        """The lead at which pairs of this gap have no gradient on average: LearningLoss++ pulls
        together what is further apart."""
        return np.asarray(special.logit(1 - self.expected_share(gap)))

    def inside_margin(self, margin: float = 1.0) -> float:
        """Share of random pairs that Learning Loss still pushes apart where l̂ is exactly log l,
        which is what LearningLoss++ would have it be: P(``|log l_i − log l_j|`` < margin)."""
        return float(1 - 2 * special.betainc(self.alpha, self.alpha, special.expit(-margin)))

    def _whole(self) -> int:
        if self.alpha % 1:
            raise InvalidInput(
                f"alpha is {self.alpha}; the closed form holds for whole numbers. Round it"
            )
        return int(self.alpha)

    def _scaled(self, gap: ArrayLike) -> Floats:
        """beta · gap."""
        z = self.beta * np.asarray(gap, np.float64)
        if not np.all(np.isfinite(z) & (z >= 0)):
            raise InvalidInput(f"gap is {gap!r}; expected finite numbers from 0: l_j − l_i ≥ 0")
        return z


def margin_coefficient(lead: ArrayLike, margin: float = 1.0) -> Floats:
    """Of Learning Loss, for any gap above 0: a step that does not know how large the gap is."""
    return np.where(np.asarray(lead) < margin, 1.0, 0.0)


def fit_gamma(gaps: Sequence[float], probabilities: Sequence[float], alpha: int) -> GammaLosses:
    """The beta with the smallest of the largest errors in a table of ``close_pairs``.

    Args:
        gaps: (N,), above 0.
        probabilities: (N,), between 0 and 1, of each gap.
        alpha: the whole shape to fit with.

    Raises:
        InvalidInput: a gap, a probability or alpha is not what is expected.

    >>> losses = fit_gamma([0.02, 0.1], [0.094, 0.437], alpha=4)
    >>> print(f"{losses.beta:.2f}")
    15.02
    """
    if len(gaps) != len(probabilities) or not len(gaps):
        raise InvalidInput(
            f"there are {len(gaps)} gaps and {len(probabilities)} probabilities; expected as many "
            "of both, at least one"
        )
    target = np.asarray(probabilities)

    def worst(beta: float) -> float:
        return float(np.abs(GammaLosses(alpha, beta).close_pairs(gaps) - target).max())

    # Each error grows on both sides of the rate that makes its entry exact. The largest of them
    # therefore has one valley, which lies between those rates.
    exact = [rate_of(*entry, alpha) for entry in zip(gaps, probabilities, strict=True)]
    ends = (min(exact), max(exact))
    found = optimize.minimize_scalar(worst, bounds=ends, method="bounded", options={"xatol": 1e-9})
    return GammaLosses(alpha, float(found.x))


def rate_of(gap: float, probability: float, alpha: int) -> float:
    """The beta with which ``close_pairs(gap)`` is this probability; all as in fit_gamma."""
    if not (gap > 0 and 0 < probability < 1):
        raise InvalidInput(
            f"gap is {gap}, probability {probability}; expected a gap above 0 and a probability "
            "between 0 and 1"
        )
    unit = GammaLosses(alpha, 1.0)
    # Gamma(alpha) lies above every part of the mixture, hence its quantile above the mixture's.
    end = 2 * float(special.gammaincinv(alpha, probability))
    return float(optimize.brentq(lambda z: float(unit.close_pairs(z)) - probability, 0, end)) / gap


def _bessel_ratio(last: int, k: int) -> float:
    """(n + k)! / (k! (n − k)!), the coefficients of K_(n + ½), over that of k = n."""
    top = factorial(last + k) * factorial(last)
    return top / (factorial(k) * factorial(last - k) * factorial(2 * last))


def _scaled_expn(order: int, z: Floats) -> Floats:
    """e^z E_order(z); Tricomi's U is the same, and beyond 500, where the parts of the product
    leave the range of floats, SciPy's is as exact."""
    near = np.minimum(z, 500)
    return np.where(
        z < 500, np.exp(near) * special.expn(order, near), special.hyperu(1, 2 - order, z)
    )
