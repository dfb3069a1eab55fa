"""The flag policy, decision by decision."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest

from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.flags.budgets import Budget
from misgiving.runtime.flags.policy import FlagPolicy, FlagState, decide
from misgiving.runtime.geometry import Region
from misgiving.runtime.nouns import Answer, Decision, Frame, Person, Reason, Withheld
from runtime.flagging import Device, person

NAN, INF = math.nan, math.inf
NOTHING = np.empty(0, np.float32)


def decided(policy: FlagPolicy, scores: list[float], draws: list[float]) -> tuple[Decision, ...]:
    """What is decided about one frame's persons; the policy stays in force."""
    persons = (Person(Region(0, 0, 9, 9), NOTHING, one, None, NOTHING, NOTHING) for one in scores)
    answer = Answer("f", tuple(persons), "")
    state, decisions = decide(FlagState(policy), Frame(b""), answer, 0.0, draws)
    assert state.policy is policy
    return decisions


def of_one(policy: FlagPolicy, score: float, draw: float) -> Decision:
    (decision,) = decided(policy, [score], [draw])
    return decision


def test_each_person_has_its_own_decision() -> None:
    decisions = decided(
        FlagPolicy(threshold=0.5, audit_rate=0.1), [0.9, 0.1, 0.1], [0.5, 0.05, 0.5]
    )
    assert [one.kept for one in decisions] == [Reason.PREDICTED_LOSS, Reason.AUDIT, None]


@pytest.mark.parametrize(
    ("score", "draw", "raised", "kept", "probability"),
    [
        # above the threshold: always, whatever the draw
        (0.9, 0.99, True, Reason.PREDICTED_LOSS, 1.0),
        # exactly at the threshold counts as above
        (0.5, 0.99, True, Reason.PREDICTED_LOSS, 1.0),
        # above, and the audit would have taken it as well: one reason, the certain one
        (0.9, 0.0, True, Reason.PREDICTED_LOSS, 1.0),
        # just below, audited: kept without a flag
        (math.nextafter(0.5, 0), 0.09, False, Reason.AUDIT, 0.1),
        # just below, not audited; the probability is recorded all the same
        (math.nextafter(0.5, 0), 0.1, False, None, 0.1),
        # far below
        (-3.0, 0.5, False, None, 0.1),
        # a score that says nothing never passes as good
        (NAN, 0.99, True, Reason.PREDICTED_LOSS, 1.0),
        # infinities are numbers
        (INF, 0.99, True, Reason.PREDICTED_LOSS, 1.0),
        (-INF, 0.99, False, None, 0.1),
    ],
)
def test_decisions(
    score: float, draw: float, raised: bool, kept: Reason | None, probability: float
) -> None:
    policy = FlagPolicy(threshold=0.5, audit_rate=0.1)
    withheld = None if kept else Withheld.BELOW_THRESHOLD
    assert of_one(policy, score, draw) == Decision(raised, kept, 0.5, probability, withheld)


def test_an_audit_rate_of_zero_and_of_one() -> None:
    assert not of_one(FlagPolicy(threshold=0.5, audit_rate=0), 0.1, 0.0).kept
    assert of_one(FlagPolicy(threshold=0.5, audit_rate=1), 0.1, math.nextafter(1, 0)).kept


def test_an_infinite_threshold_leaves_the_audit() -> None:
    policy = FlagPolicy(threshold=INF, audit_rate=0.5)
    assert of_one(policy, 1e30, 0.4).kept is Reason.AUDIT
    assert not of_one(policy, 1e30, 0.6).kept


def test_inverse_probability_weights_undo_the_selection() -> None:
    """The mean over everybody, from the kept ones alone; that is what the probability is for."""
    rng = random.Random(3)
    policy = FlagPolicy(threshold=0.8, audit_rate=0.05)
    scores = [rng.random() for _ in range(40_000)]
    kept = [(s, of_one(policy, s, rng.random())) for s in scores]
    kept = [(s, d) for s, d in kept if d.kept]
    weights = [1 / d.sampling_probability for _, d in kept]
    estimate = sum(s * w for (s, _), w in zip(kept, weights, strict=True)) / sum(weights)
    assert estimate == pytest.approx(sum(scores) / len(scores), abs=0.02)  # 5 standard errors


@pytest.mark.parametrize(("threshold", "rate"), [(NAN, 0.1), (0.5, -0.1), (0.5, 1.1), (0.5, NAN)])
def test_a_policy_that_means_nothing_is_refused(threshold: float, rate: float) -> None:
    with pytest.raises(InvalidInput, match="expected"):
        FlagPolicy(threshold=threshold, audit_rate=rate)


def test_without_rules_it_decides_as_with_one_that_withholds_nothing() -> None:
    rng = np.random.default_rng(0)
    plain = FlagPolicy(threshold=0.5, audit_rate=0.2)
    short = Device(plain)
    long = Device(replace(plain, budgets=(Budget(10**9, "frames", 60.0),)))
    for frame in range(200):
        scores = [*rng.random(rng.integers(4)), math.nan]
        persons = [person(score) for score in scores]
        draws = [*rng.random(len(scores))]
        stream = f"camera {frame % 3}"
        said = short.all(persons, frame, draws, stream)
        assert said == long.all(persons, frame, draws, stream)
    assert short.state.streams == {}


@pytest.mark.parametrize("budgets", [(), (Budget(10**9, "frames", 60.0),)])
def test_a_frame_without_persons_is_audited_as_one(budgets: tuple[Budget, ...]) -> None:
    """Whom a detector misses is in no other sample; a threshold below every score flags nobody."""
    device = Device(FlagPolicy(threshold=-INF, audit_rate=0.2, budgets=budgets))
    kept, left = (device.one(None, 0.0, draw) for draw in (0.1, 0.3))
    assert kept == Decision(False, Reason.AUDIT, -INF, 0.2)
    assert left == Decision(False, None, -INF, 0.2, Withheld.BELOW_THRESHOLD)


def test_a_repeat_of_events_that_never_end_is_refused() -> None:
    with pytest.raises(InvalidInput, match="repeat is 60 s and there is no release"):
        FlagPolicy(threshold=0.5, audit_rate=0.0, repeat_s=60.0)


def test_what_may_not_be_kept_spends_nothing_and_begins_no_event() -> None:
    policy = FlagPolicy(
        threshold=1.0,
        audit_rate=0.0,
        release=0.5,
        interval_s=5.0,
        near_duplicate=0.1,
        budgets=(Budget(2, "frames", 3600),),
    )
    device = Device(policy)
    for now_s in (0.0, 1.0, 2.0):
        before = device.state
        (decision,) = device.all([person(2.0, [1, 0])], now_s)
        assert decision.kept is Reason.PREDICTED_LOSS
        device.state = device.state.unspent(before, "")
        assert device.state.clock_s == now_s
    (kept,) = device.all([person(2.0, [1, 0])], 3.0)
    (same,) = device.all([person(2.0, [1, 0])], 4.0)
    assert (kept.kept, same.withheld) == (Reason.PREDICTED_LOSS, Withheld.NOT_RISING)
    before = device.state
    device.all([person(0.0)], 5.0)
    device.state = device.state.unspent(before, "")
    (after,) = device.all([person(2.0, [1, 0])], 6.0)
    assert after.withheld is Withheld.TOO_SOON  # the event is over, and was kept 3 s ago


def test_where_there_are_no_rules_nothing_comes_back() -> None:
    device = Device(FlagPolicy(threshold=1.0, audit_rate=0.0))
    before = device.state
    device.one(2.0, 0.0)
    assert device.state.unspent(before, "") is device.state
