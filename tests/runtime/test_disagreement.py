"""How far two answers are apart, and what is decided of it: pure."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from misgiving.collector.annotations.coco_export import frame_probability
from misgiving.runtime.flags.budgets import DAY, Budget
from misgiving.runtime.flags.disagreement import Agreement, Shared, compared
from misgiving.runtime.flags.policy import FlagPolicy, FlagState, decide, decide_again
from misgiving.runtime.keypoints import COCO, LSP, MPII, KeypointSet
from misgiving.runtime.nouns import Answer, Decision, Frame, Person, Reason, Withheld
from runtime.flagging import NEVER, person
from runtime.test_budgets import Step, policies, properties, steps

NAN, INF = math.nan, math.inf
HIP, SHOULDER = LSP.names.index("right_hip"), LSP.names.index("left_shoulder")


def standing(confidence: float = 1.0) -> Person:
    """Joints in one place, but for a torso of 100 px."""
    points = np.full((14, 3), 50, np.float32)
    points[SHOULDER, 1] = 150
    points[:, 2] = confidence
    flag = Decision(False, None, 0.5, 0.0)
    return replace(person(0.4), keypoints=points, flag=flag)


def moved(joints: int, px: float, one: Person) -> Person:
    points = one.keypoints.copy()
    others = [i for i in range(14) if i not in (HIP, SHOULDER)]
    points[others[:joints], 0] += px
    return replace(one, keypoints=points)


@pytest.mark.parametrize(
    ("joints", "px", "flag_from", "apart", "said"),
    [
        (0, 0.0, 0.5, 0.0, Agreement.AGREE),
        # at 0.2 of the torso a joint is found, as PCK has it
        (12, 20.0, 0.5, 0.0, Agreement.AGREE),
        (12, 20.1, 0.5, 12 / 14, Agreement.KEYPOINTS),
        # at the limit they agree
        (7, 500.0, 0.5, 0.5, Agreement.AGREE),
        (8, 500.0, 0.5, 8 / 14, Agreement.KEYPOINTS),
        # the shadow flags from its own threshold on
        (0, 0.0, 0.4, 0.0, Agreement.FLAGS),
        (8, 500.0, 0.4, 8 / 14, Agreement.BOTH),
        # its threshold is not known
        (0, 0.0, None, 0.0, Agreement.AGREE),
    ],
)
def test_two_answers(
    joints: int, px: float, flag_from: float | None, apart: float, said: Agreement
) -> None:
    found = compared(standing(), moved(joints, px, standing()), Shared.of(LSP, LSP), flag_from)
    assert found.apart == pytest.approx(apart)
    assert found.agreement(0.5) is said


def test_only_joints_count_of_which_the_answer_is_sure() -> None:
    half = standing()
    half.keypoints[:7, 2] = 0.29
    shifted = replace(half, keypoints=half.keypoints + np.float32([30, 0, 0]))
    shifted.keypoints[7:, 0] -= 30
    assert compared(half, shifted, Shared.of(LSP, LSP), None).apart == 0
    unsure = standing(confidence=0.0)
    found = compared(unsure, moved(12, 500.0, unsure), Shared.of(LSP, LSP), None)
    assert found.agreement(0.5) is Agreement.UNKNOWN
    assert compared(unsure, unsure, Shared.of(LSP, LSP), 0.5).agreement(0.5) is Agreement.AGREE


def test_joints_are_compared_by_name() -> None:
    """In any order, in any set; without a torso there is no measure."""
    order = np.random.default_rng(0).permutation(14)
    names = tuple(LSP.names[i] for i in order)
    mixed = KeypointSet(name="mixed", names=names, skeleton=(), torso=())
    other = replace(standing(), keypoints=standing().keypoints[order])
    assert compared(standing(), other, Shared.of(LSP, mixed), None).apart == 0
    assert math.isnan(compared(other, other, Shared.of(mixed, mixed), None).apart)
    assert len(Shared.of(LSP, COCO).places) == 12
    assert len(Shared.of(LSP, MPII).places) == 13


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_joint_that_is_nowhere_is_apart(value: float) -> None:
    broken = moved(1, value, standing())
    assert compared(standing(), broken, Shared.of(LSP, LSP), None).apart == 1
    assert math.isnan(compared(standing(), broken, Shared.of(LSP, LSP), None).distance)


def test_the_distance_is_in_torsos() -> None:
    found = compared(standing(), moved(12, 50.0, standing()), Shared.of(LSP, LSP), None)
    assert found.distance == pytest.approx(0.5)


def again(
    state: FlagState, step: Step, draw: float, now_s: float, *, apart: bool
) -> tuple[FlagState, Decision, Decision, Withheld | None]:
    """A frame of one person is decided, and once more where they are apart; with nobody, once."""
    frame = Frame(bytes(step.size), stream_id=step.stream)
    persons = () if step.score is None else (person(step.score),)
    answer = Answer("", persons, "")
    state, decisions = decide(state, frame, answer, now_s, [draw])
    if not persons:
        return state, decisions[0], decisions[0], None
    answer = answer.decided(decisions)
    state, after, rule = decide_again(state, frame, answer, [apart], now_s)
    return state, decisions[0], after[0], rule


people = st.lists(
    st.tuples(st.sampled_from([0.1, 0.4, 0.9]), st.booleans()), min_size=1, max_size=3
)
"""Of one frame: their scores, and whether the two disagree about them."""


@properties
@given(policies, steps, people)
def test_inverse_probabilities_undo_the_selection(
    policy: FlagPolicy, steps: list[Step], people: list[tuple[float, bool]]
) -> None:
    """Whatever was before, and given that the shadow looks: a frame counts once on average."""
    state, frame = FlagState(policy), Frame(b" ")
    for at, step in enumerate(steps):
        state, *_ = again(state, step, step.draw, float(at), apart=step.draw < 0.5)
    answer = Answer("", tuple(person(score) for score, _ in people), "")
    apart = [one for _, one in people]

    def said(audited: Sequence[bool]) -> tuple[Answer, Answer]:
        draws = [0.0 if one else NEVER for one in audited]
        after, decisions = decide(state, frame, answer, len(steps), draws)
        first = answer.decided(decisions)
        _, decisions, _ = decide_again(after, frame, first, apart, len(steps))
        return first, answer.decided(decisions)

    first, _ = said([False] * len(people))
    rate = min(one.flag.sampling_probability for one in first.persons)
    weight = 0.0
    for audited in itertools.product((True, False), repeat=len(people)):
        odds = math.prod(rate if one else 1 - rate for one in audited)
        first, second = said(audited)
        assert second.kept or not first.kept
        if odds and second.kept:
            weight += odds / frame_probability(second.decisions)
    assert weight == pytest.approx(1) or rate == weight == 0


@properties
@given(policies, steps)
def test_disagreements_exceed_no_budget(policy: FlagPolicy, steps: list[Step]) -> None:
    state, now, kept = FlagState(policy), 0.0, []
    for step in steps:
        now += max(0.0, step.after_s)
        state, _, said, rule = again(state, step, step.draw, now, apart=True)
        assert not (rule and said.kept is Reason.SHADOW)
        if said.kept:
            kept.append((now, step.size))
    for budget, (end, _) in itertools.product(policy.budgets, kept):
        window = [size for at, size in kept if end - budget.seconds < at <= end]
        assert sum(budget.cost(size) for size in window) <= budget.amount


def calm(stream: str = "a", score: float = 0.1) -> Step:
    return Step(0.0, stream, 1, score, NEVER, restart=False)


def test_a_disagreement_waits_for_the_flags_and_they_do_not_wait_for_it() -> None:
    state = FlagState(FlagPolicy(threshold=0.5, audit_rate=0.0, interval_s=10.0))

    def step(score: float, now_s: float, *, apart: bool) -> tuple[Reason | None, Withheld | None]:
        nonlocal state
        state, _, said, rule = again(state, calm(score=score), NEVER, now_s, apart=apart)
        return said.kept, rule

    assert step(0.1, 0.0, apart=True) == (Reason.SHADOW, None)
    assert step(0.1, 5.0, apart=True) == (None, Withheld.TOO_SOON)
    assert step(0.9, 6.0, apart=True) == (Reason.PREDICTED_LOSS, None)
    assert step(0.1, 15.0, apart=True) == (None, Withheld.TOO_SOON)
    assert step(0.1, 16.0, apart=False) == (None, None)
    assert step(0.1, 17.0, apart=True) == (Reason.SHADOW, None)


def test_an_event_that_is_kept_is_not_kept_again_for_a_disagreement() -> None:
    state = FlagState(FlagPolicy(threshold=0.5, audit_rate=0.0, release=0.5))
    state, *_, said, _ = again(state, calm(score=0.9), NEVER, 0.0, apart=False)
    assert said.kept is Reason.PREDICTED_LOSS
    state, *_, said, rule = again(state, calm(score=0.9), NEVER, 1.0, apart=True)
    assert (said.kept, said.withheld, rule) == (None, Withheld.NOT_RISING, Withheld.NOT_RISING)


def test_what_the_audit_has_taken_is_paid_for_once() -> None:
    policy = FlagPolicy(threshold=0.5, audit_rate=0.5, budgets=(Budget(10, "frames", DAY),))
    state, first, said, _ = again(FlagState(policy), calm(), 0.0, 0.0, apart=True)
    assert (first.kept, said.kept) == (Reason.AUDIT, Reason.SHADOW)
    assert (first.sampling_probability < 1, said.sampling_probability) == (True, 1.0)
    (bucket,) = state.buckets.values()
    assert (bucket.taken, bucket.audited) == (1, 1)
