"""Decisions on the wire: written into a Flag, and read out of one of any release."""

from misgiving.runtime.nouns import Decision, Reason, Withheld
from misgiving.v1 import pose_pb2 as pose

KEPT = {
    None: pose.KEEP_REASON_NONE,
    Reason.PREDICTED_LOSS: pose.KEEP_REASON_PREDICTED_LOSS,
    Reason.SHADOW: pose.KEEP_REASON_SHADOW,
    Reason.AUDIT: pose.KEEP_REASON_AUDIT,
}
REASONS = {number: reason for reason, number in KEPT.items()}
_WITHHELD = {
    None: pose.WITHHELD_REASON_UNSPECIFIED,
    Withheld.BELOW_THRESHOLD: pose.WITHHELD_REASON_BELOW_THRESHOLD,
    Withheld.NOT_RISING: pose.WITHHELD_REASON_NOT_RISING,
    Withheld.TOO_SOON: pose.WITHHELD_REASON_TOO_SOON,
    Withheld.NEAR_DUPLICATE: pose.WITHHELD_REASON_NEAR_DUPLICATE,
    Withheld.BUDGET: pose.WITHHELD_REASON_BUDGET,
}
_RULES = {number: rule for rule, number in _WITHHELD.items()}


def fill_flag(message: pose.Flag, decision: Decision) -> None:
    """Write a decision into an empty message."""
    message.raised = decision.raised
    if decision.raised:
        message.reason = pose.FLAG_REASON_PREDICTED_LOSS
    message.threshold = decision.threshold
    message.sampling_probability = decision.sampling_probability
    message.kept = KEPT[decision.kept]
    message.withheld = _WITHHELD[decision.withheld]


def to_decision(flag: pose.Flag) -> Decision:
    """What a flag means. Before there was ``kept``, an audited person's was raised too."""
    raised, kept = flag.raised, REASONS.get(flag.kept)
    if flag.kept == pose.KEEP_REASON_UNSPECIFIED and raised:
        kept = Reason.AUDIT if flag.reason == pose.FLAG_REASON_AUDIT else Reason.PREDICTED_LOSS
        raised = kept is Reason.PREDICTED_LOSS
    withheld = _RULES.get(flag.withheld)  # None also for a rule of a later release
    return Decision(raised, kept, flag.threshold, flag.sampling_probability, withheld)
