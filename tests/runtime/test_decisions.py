"""Flags on the wire: what is written, and what frames of any release meant."""

import pytest

from misgiving.runtime.nouns import Decision, Reason
from misgiving.runtime.wire.decisions import fill_flag, to_decision
from misgiving.runtime.wire.results import to_answer
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
    fill_flag(flag := pose.Flag(), decision)
    assert (flag.raised, flag.reason) == (raised, reason)
    assert to_decision(pose.Flag.FromString(flag.SerializeToString())) == decision


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
    decision = to_decision(flag)
    assert (decision.raised, decision.kept) == (raised, kept)
    result = wire.FrameResult(persons=[pose.Person(flag=pose.Flag()), pose.Person(flag=flag)])
    answer = to_answer(result)
    assert (answer.flagged, answer.kept) == (raised, kept is not None)
