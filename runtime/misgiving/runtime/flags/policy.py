"""From a score to a decision: is a person flagged, and is it kept, why, and with which probability.

Pure. Flagged is what the score says; kept is what the fleet gets to see.
"""

import math
from dataclasses import dataclass
from enum import Enum

from misgiving.runtime.errors import InvalidInput


class Reason(Enum):
    """Why a person is kept; the strongest first."""

    PREDICTED_LOSS = "predicted_loss"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class Decision:
    """What is done with one person."""

    raised: bool
    """Flagged: the score has reached the threshold."""
    kept: Reason | None
    """None where it is not kept."""
    threshold: float
    sampling_probability: float
    """Probability with which this person would be kept; weight by its inverse."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FlagPolicy:
    """Whoever reaches the threshold is flagged and kept; of the rest, a random sample is kept.

    The audit sample is what allows anybody to measure what the threshold misses.
    """

    threshold: float
    """In units of ``predicted_loss``; infinite flags nobody."""
    audit_rate: float
    """Share of the persons below the threshold that is kept at random, in [0, 1]."""

    def __post_init__(self) -> None:
        if math.isnan(self.threshold):
            raise InvalidInput("threshold is nan; expected a number in units of predicted_loss")
        if not 0 <= self.audit_rate <= 1:
            raise InvalidInput(
                f"audit rate is {self.audit_rate:g}; expected a share from 0 to 1, for example 0.01"
            )

    def decide(self, predicted_loss: float, draw: float) -> Decision:
        """Decide on one person.

        Args:
            predicted_loss: NaN is flagged: a score that says nothing never passes as good.
            draw: a fresh uniform random number in [0, 1).
        """
        if not predicted_loss < self.threshold:
            return Decision(True, Reason.PREDICTED_LOSS, self.threshold, 1.0)
        kept = Reason.AUDIT if draw < self.audit_rate else None
        return Decision(False, kept, self.threshold, self.audit_rate)
