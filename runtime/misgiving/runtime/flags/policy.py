"""From a score to a decision: is a person flagged, and is it kept, why, and with which probability.

Pure. Flagged is what the score says; kept is what the fleet gets to see.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.nouns import Answer, Decision, Frame, Reason


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


@dataclass(frozen=True, slots=True)
class FlagState:
    """What deciding carries from frame to frame: the policy in force."""

    policy: FlagPolicy


def decide(
    state: FlagState, frame: Frame, answer: Answer, now_s: float, draws: Sequence[float]
) -> tuple[FlagState, tuple[Decision, ...]]:
    """Decide on a frame, once all of it is answered.

    Args:
        state: that the decision before left.
        frame: names the stream.
        answer: with the score and the embedding of each person. A NaN is flagged: a score that
            says nothing never passes as good.
        now_s: monotonic.
        draws: a fresh uniform random number in [0, 1) for each person.

    Returns:
        The state for the next frame, and a decision for each person.
    """
    policy = state.policy
    pairs = zip(answer.persons, draws, strict=True)
    return state, tuple(_of_one(policy, one.predicted_loss, draw) for one, draw in pairs)


def _of_one(policy: FlagPolicy, predicted_loss: float, draw: float) -> Decision:
    if not predicted_loss < policy.threshold:
        return Decision(True, Reason.PREDICTED_LOSS, policy.threshold, 1.0)
    kept = Reason.AUDIT if draw < policy.audit_rate else None
    return Decision(False, kept, policy.threshold, policy.audit_rate)
