"""Decisions on the wire: written into a Flag, and read out of one of any release."""

from misgiving.runtime.flags.policy import Decision, Reason
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1 import pose_pb2 as pose

_KEPT = {
    None: pose.KEEP_REASON_NONE,
    Reason.PREDICTED_LOSS: pose.KEEP_REASON_PREDICTED_LOSS,
    Reason.AUDIT: pose.KEEP_REASON_AUDIT,
}
_REASONS = {number: reason for reason, number in _KEPT.items()}


def to_flag(decision: Decision) -> pose.Flag:
    """A decision as the wire has it."""
    raised = decision.raised
    return pose.Flag(
        raised=raised,
        reason=pose.FLAG_REASON_PREDICTED_LOSS if raised else pose.FLAG_REASON_UNSPECIFIED,
        threshold=decision.threshold,
        sampling_probability=decision.sampling_probability,
        kept=_KEPT[decision.kept],
    )


def of_flag(flag: pose.Flag) -> Decision:
    """What a flag means. Before there was ``kept``, an audited person's was raised too."""
    raised, kept = flag.raised, _REASONS.get(flag.kept)
    if flag.kept == pose.KEEP_REASON_UNSPECIFIED and raised:
        kept = Reason.AUDIT if flag.reason == pose.FLAG_REASON_AUDIT else Reason.PREDICTED_LOSS
        raised = kept is Reason.PREDICTED_LOSS
    return Decision(raised, kept, flag.threshold, flag.sampling_probability)


def is_flagged(result: wire.FrameResult) -> bool:
    """Whether the score flags anybody in a frame."""
    return any(of_flag(person.flag).raised for person in result.persons)


def is_kept(result: wire.FrameResult) -> bool:
    """Whether a frame is to be kept for the fleet, for whichever of its persons."""
    return any(of_flag(person.flag).kept for person in result.persons)
