"""Flags on the wire: what is written, and what frames of any release meant."""

import pytest

from misgiving.runtime.nouns import Decision, Reason, Withheld
from misgiving.runtime.wire.decisions import fill_flag, to_decision
from misgiving.runtime.wire.results import to_answer
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1 import pose_pb2 as pose

LOSS, AUDIT = pose.FLAG_REASON_PREDICTED_LOSS, pose.FLAG_REASON_AUDIT


@pytest.mark.parametrize(
    ("raised", "kept", "withheld", "reason"),
    [
        (True, Reason.PREDICTED_LOSS, None, LOSS),
        (False, Reason.AUDIT, None, 0),
        (False, Reason.SHADOW, None, 0),
        # flagged, and drawn by an audit before any other rule
        (True, Reason.AUDIT, None, LOSS),
        # whichever rule withholds it
        *((True, None, one, LOSS) for one in Withheld if one is not Withheld.BELOW_THRESHOLD),
        (False, None, Withheld.BELOW_THRESHOLD, 0),
        # nobody has decided
        (False, None, None, 0),
    ],
)
def test_what_is_written_is_read(
    raised: bool, kept: Reason | None, withheld: Withheld | None, reason: int
) -> None:
    decision = Decision(raised, kept, 0.5, 0.25, withheld)
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
        # of a later release: kept for a reason that is not known here
        (pose.Flag(kept=99), False, None),
    ],
)
def test_flags_of_before(flag: pose.Flag, raised: bool, kept: Reason | None) -> None:
    decision = to_decision(flag)
    assert (decision.raised, decision.kept) == (raised, kept)
    result = wire.FrameResult(persons=[pose.Person(flag=pose.Flag()), pose.Person(flag=flag)])
    answer = to_answer(result)
    assert (answer.flagged, answer.kept) == (raised, kept is not None)
