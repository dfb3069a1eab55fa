"""How a score becomes a decision: probabilities, thresholds and what they promise.

The part of a manifest that ``misgiving calibrate`` makes, and how it is read. Axes: N persons,
D embedding.
"""

import math
from bisect import bisect_right
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

Floats = NDArray[np.floating]

Unit = Literal["image", "device", "stream"]
"""What is drawn independently of its like: single frames, devices, or the streams of devices."""


Target = Literal["flag_rate", "miss_rate"]
"""What a threshold keeps low: the share of all frames that have a flagged person, or the share of
the persons that failed who are not flagged."""


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False
    )


LIKELY = "likely"
"""The threshold from which on failure is more likely than not, as ``--threshold`` takes it."""

_QUANTILES = (np.arange(2000) + 0.5) / 2000


class Threshold(_Part):
    """A value of ``predicted_loss`` from which on a person is flagged, and what that promises."""

    target: Target
    target_value: float = Field(gt=0, lt=1)
    """The share, at most."""
    predicted_loss: float
    confidence: float = Field(gt=0, lt=1)
    """Share of data sets like ``data`` whose threshold keeps the promise."""
    n: int = Field(gt=0)
    """Frames (flag rate) or failures (miss rate) that the threshold was read from."""
    effective_n: int = Field(gt=0)
    """Independent, equally likely ones that they are worth, by their weights and ``unit``."""
    beyond: int = Field(ge=0)
    """How many of the n it flags (flag rate) or misses (miss rate)."""
    failures: int = Field(ge=0)
    """Persons of ``data`` that failed."""
    left_out: int = Field(ge=0)
    """Persons of ``data`` whose failure is not defined: part of its frames, not of its failures."""
    data: str
    unit: Unit
    assumes: str
    """What must hold for the promise, in words."""

    @property
    def name(self) -> str:
        """As ``--threshold`` takes it, for example ``miss_rate=0.05``."""
        return f"{self.target}={self.target_value:g}"

    def __str__(self) -> str:
        """The promise in words."""
        share, counts = _percent(self.target_value), f"{self.beyond} of {self.n}"
        if self.target == "flag_rate":
            promise = f"flags at most {share} of the frames"
            read = f"{counts} frames ({self.failures} failures)"
        else:
            promise = f"misses at most {share} of the failures"
            read = f"{counts} failures ({self.left_out} persons undefined)"
        worth = "" if self.effective_n == self.n else f", worth {self.effective_n} independent ones"
        return (
            f"{promise} with {_percent(self.confidence)} confidence: {read} in {self.data}{worth}. "
            f"Assumes that {self.assumes}"
        )


class CalibrationError(_Part):
    """How far the probability is from the rate of failures, on persons that did not fit it.

    The mean over persons of |mean probability − rate of failures| of their bin, ten bins of about
    equally many persons. Chance alone makes it positive, the more so the fewer persons; the
    interval, rather too wide than too narrow, allows for that.
    """

    value: float
    low: float
    """The interval's lower end; see ``level``."""
    high: float
    level: float
    measured_on: str
    persons: int
    failures: int


class FailureProbability(_Part):
    """From ``predicted_loss`` to the probability of failure: straight lines between knots."""

    predicted_loss: tuple[float, ...] = Field(min_length=1)
    """The knots, rising. Outside of them the nearest one counts."""
    probability: tuple[float, ...]
    """Of failure at each knot, never falling."""
    data: str
    persons: int
    """That it was fitted to: those whose failure is defined."""
    failures: int
    left_out: int
    """Persons of ``data`` whose failure is not defined."""
    error: CalibrationError

    @model_validator(mode="after")
    def _check(self) -> "FailureProbability":
        knots, values = np.array(self.predicted_loss), np.array(self.probability)
        if len(knots) != len(values):
            raise ValueError(
                f"{len(knots)} knots have {len(values)} probabilities; expected one each"
            )
        if (np.diff(knots) <= 0).any() or (np.diff(values) < 0).any():
            raise ValueError("knots must rise, and their probabilities never fall")
        if values[0] < 0 or values[-1] > 1:
            raise ValueError("a probability is not between 0 and 1")
        return self

    def of(self, predicted_loss: Floats) -> Floats:
        """Probabilities of failure, of the same shape as the scores; NaN for NaN."""
        return np.interp(predicted_loss, self.predicted_loss, self.probability)

    def at(self, predicted_loss: float) -> float:
        """The same of one score that is a number: without arrays, since each person pays for it."""
        knots, values = self.predicted_loss, self.probability
        above = bisect_right(knots, predicted_loss)
        if above in (0, len(knots)):
            return values[min(above, len(knots) - 1)]
        slope = (values[above] - values[above - 1]) / (knots[above] - knots[above - 1])
        return slope * (predicted_loss - knots[above - 1]) + values[above - 1]

    @property
    def likely(self) -> float:
        """The lowest ``predicted_loss``, in a graph's float32, whose probability of failure is
        above one half: minus infinity where every one's is, infinity where none's is."""
        above = np.array(self.probability) > 0.5
        if above.all() or not above.any():
            return -math.inf if above.any() else math.inf
        last = int(above.argmax())
        low, high = (_ordered(self.predicted_loss[at]) for at in (last - 1, last))
        while low < high:  # the lowest of the float32 between the two knots
            middle = (low + high) // 2
            if self.of(np.asarray(_float32(middle))) > 0.5:
                high = middle
            else:
                low = middle + 1
        return float(_float32(high))


class Histogram(_Part):
    """How a number was distributed: bins between its quantiles."""

    name: str
    edges: tuple[float, ...]
    """Between the bins, rising. A value at an edge belongs to the bin above it."""
    shares: tuple[float, ...]
    """Of the persons in each bin, one more than edges; equal but where many values are equal."""

    @model_validator(mode="after")
    def _check(self) -> "Histogram":
        if len(self.shares) != len(self.edges) + 1 or (np.diff(self.edges) <= 0).any():
            raise ValueError("edges must rise, and have one more share than edges")
        return self


class EmbeddingReference(_Part):
    """Where embeddings were, so that it can be told how far off another one is."""

    mean: tuple[float, ...]
    """(D,)"""
    deviation: tuple[float, ...]
    """(D,): standard deviation; 0 for a number that never changed, which then does not count."""

    def distance(self, embedding: Floats) -> Floats:
        """Root mean square over (N, D) of the distances from the mean in deviations, (N,)."""
        alive = np.array(self.deviation) > 0
        if not alive.any():
            return np.zeros(len(embedding))
        away = (embedding - self.mean)[:, alive] / np.array(self.deviation)[alive]
        root: Floats = np.sqrt((away**2).mean(axis=1))
        return root


class Reference(_Part):
    """What the bundle said of data that it was made for; drift is told by comparing with it."""

    data: str
    persons: int
    histograms: tuple[Histogram, ...]
    """Of ``predicted_loss``, of each signal, and of ``embedding_distance``."""
    embedding: EmbeddingReference


class Calibration(_Part):
    """How a score becomes a decision."""

    thresholds: tuple[Threshold, ...] = Field(min_length=1)
    """That keep a promise. The first one is the default where there is no probability."""
    failure_probability: FailureProbability | None
    """Null where the data did not have both failures and others."""
    reference: Reference

    def by_name(self) -> dict[str, float]:
        """Thresholds in units of ``predicted_loss``; the first one is the default of a runtime."""
        fit = self.failure_probability
        likely = {} if fit is None else {LIKELY: fit.likely}
        return likely | {one.name: one.predicted_loss for one in self.thresholds}

    def said(self, threshold: float) -> str:
        """What a threshold costs and misses, in words; nothing without a probability."""
        if (fit := self.failure_probability) is None:
            return "what it misses is not known, the bundle has no probability of failure"
        flagged, missed = self.cost(threshold)
        return (
            f"of persons like those of {fit.data} ({fit.failures} of {fit.persons} failed), the "
            f"calibration expects it to flag {100 * flagged:.0f} % and to miss {100 * missed:.0f} "
            "% of the failures"
        )

    def cost(self, threshold: float) -> tuple[float, float]:
        """Shares of the persons that a threshold flags and of the failures that it misses.

        As the calibration has it: the reference's scores, which fail with its probabilities.
        Both are NaN without a probability.
        """
        if (fit := self.failure_probability) is None:
            return math.nan, math.nan
        score = self._scores(fit)
        failing, kept = fit.of(score), score < threshold
        missed = failing[kept].sum() / failing.sum() if failing.any() else 0.0
        return float(1 - kept.mean()), float(missed)

    def _scores(self, fit: FailureProbability) -> Floats:
        """Quantiles of ``predicted_loss`` in the reference; the outer bins end at outer knots."""
        known = next(h for h in self.reference.histograms if h.name == "predicted_loss")
        first, last = fit.predicted_loss[0], fit.predicted_loss[-1]
        edges = np.clip([first, *known.edges, last], first, last)
        score: Floats = np.interp(_QUANTILES, np.cumsum([0.0, *known.shares]), edges)
        return score

    def probability(self, predicted_loss: float) -> float | None:
        """Of failure; None without a fit, or for a score that is no number."""
        if self.failure_probability is None or math.isnan(predicted_loss):
            return None
        return self.failure_probability.at(predicted_loss)


def _ordered(value: float) -> int:
    """The place of a value's float32 among all of them."""
    bits = int(np.float32(value).view(np.int32))
    return bits if bits >= 0 else -(bits & 0x7FFFFFFF)


def _float32(place: int) -> np.float32:
    value: np.float32 = np.int32(abs(place)).view(np.float32)
    return value if place >= 0 else -value


def _percent(share: float) -> str:
    return f"{100 * share:g} %"
