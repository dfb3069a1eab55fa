"""Flags on the wire: what is written, and what frames of any release meant."""

import pytest

from misgiving.runtime.flags.policy import Decision, Reason
from misgiving.runtime.wire.decisions import is_flagged, is_kept, of_flag, to_flag
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1 import pose_pb2 as pose

LOSS, AUDIT = pose.FLAG_REASON_PREDICTED_LOSS, pose.FLAG_REASON_AUDIT


@pytest.mark.parametrize(
    ("raised", "kept", "reason"),
    [
        (True, Reason.PREDICTED_LOSS, LOSS),
        (False, Reason.AUDIT, 0),
        # flagged, and drawn by an audit before any other rule
        (True, Reason.AUDIT, LOSS),
        # flagged, and a budget was spent
        (True, None, LOSS),
        (False, None, 0),
    ],
)
def test_what_is_written_is_read(raised: bool, kept: Reason | None, reason: int) -> None:
    decision = Decision(raised, kept, 0.5, 0.25)
    flag = to_flag(decision)
    assert (flag.raised, flag.reason) == (raised, reason)
    assert of_flag(pose.Flag.FromString(flag.SerializeToString())) == decision


@pytest.mark.parametrize(
    ("flag", "raised", "kept"),
    [
        (pose.Flag(raised=True, reason=LOSS), True, Reason.PREDICTED_LOSS),
        # an audited person was "raised": it was kept, and never flagged
        (pose.Flag(raised=True, reason=AUDIT), False, Reason.AUDIT),
        (pose.Flag(), False, None),
    ],
)
def test_flags_of_before(flag: pose.Flag, raised: bool, kept: Reason | None) -> None:
    decision = of_flag(flag)
    assert (decision.raised, decision.kept) == (raised, kept)
    result = wire.FrameResult(persons=[pose.Person(flag=pose.Flag()), pose.Person(flag=flag)])
    assert (is_flagged(result), is_kept(result)) == (raised, kept is not None)
