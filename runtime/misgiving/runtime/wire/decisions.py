"""Decisions on the wire: written into a Flag, and read out of one of any release."""

from misgiving.runtime.nouns import Decision, Reason
from misgiving.v1 import pose_pb2 as pose

_KEPT = {
    None: pose.KEEP_REASON_NONE,
    Reason.PREDICTED_LOSS: pose.KEEP_REASON_PREDICTED_LOSS,
    Reason.AUDIT: pose.KEEP_REASON_AUDIT,
}
_REASONS = {number: reason for reason, number in _KEPT.items()}


def fill_flag(message: pose.Flag, decision: Decision) -> None:
    """Write a decision into an empty message."""
    message.raised = decision.raised
    if decision.raised:
        message.reason = pose.FLAG_REASON_PREDICTED_LOSS
    message.threshold = decision.threshold
    message.sampling_probability = decision.sampling_probability
    message.kept = _KEPT[decision.kept]


def to_decision(flag: pose.Flag) -> Decision:
    """What a flag means. Before there was ``kept``, an audited person's was raised too."""
    raised, kept = flag.raised, _REASONS.get(flag.kept)
    if flag.kept == pose.KEEP_REASON_UNSPECIFIED and raised:
        kept = Reason.AUDIT if flag.reason == pose.FLAG_REASON_AUDIT else Reason.PREDICTED_LOSS
        raised = kept is Reason.PREDICTED_LOSS
    return Decision(raised, kept, flag.threshold, flag.sampling_probability)
