"""Whatever comes in whichever order: what the flag policy promises of budgets and of the audit."""

import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from misgiving.runtime.errors import DataError
from misgiving.runtime.flags.budgets import DAY, HOUR, MINUTE, Bucket, Budget
from misgiving.runtime.flags.policy import MAX_STREAMS, FlagPolicy, FlagState
from misgiving.runtime.flags.saving import Moment, restored, saved
from misgiving.runtime.nouns import Decision, Reason
from runtime.flagging import NEVER, Device

YEAR = 365 * DAY
NOW = Moment(5.0)

properties = settings(max_examples=40)


@dataclass(frozen=True)
class Step:
    """A frame, some time after the one before by a clock that may jump back."""

    after_s: float
    stream: str
    size: int
    score: float | None
    """None where nobody is found."""
    draw: float
    restart: bool


steps = st.lists(
    st.builds(
        Step,
        st.sampled_from([0.0, 0.0, 0.3, 0.6, 20.0, 59.2, 61.0, 3_540.0, -5.0, -YEAR]),
        st.sampled_from("abc"),
        st.integers(1, 100),
        st.sampled_from([0.1, 0.4, 0.9, None]),
        st.sampled_from([0.0, 0.001, 0.1, NEVER]) | st.floats(0, NEVER),
        st.sampled_from([False] * 9 + [True]),
    ),
    max_size=120,
)
policies = st.builds(
    FlagPolicy,
    threshold=st.just(0.5),
    audit_rate=st.sampled_from([0.0, 0.01, 0.5, 1.0]),
    release=st.sampled_from([None, 0.3]),
    interval_s=st.sampled_from([0.0, 2.0]),
    budgets=st.tuples(
        st.builds(Budget, st.integers(2, 5), st.just("frames"), st.just(MINUTE)),
        st.builds(Budget, st.integers(50, 300), st.just("bytes"), st.just(MINUTE)),
        st.builds(Budget, st.integers(2, 30), st.just("frames"), st.just(HOUR)),
    ),
    audit_reserve=st.sampled_from([0.01, 0.2, 0.9]),
)


def run(policy: FlagPolicy, steps: list[Step]) -> list[tuple[float, Step, Decision]]:
    """Each step with the time that had passed, and what was decided."""
    device, now, passed, decided = Device(policy), 0.0, 0.0, []
    for step in steps:
        if step.restart:  # in no time; the next process has a clock of its own
            device.state = restored(FlagState(policy), saved(device.state, NOW), NOW)
            now = 0.0
            device.one(0.1, now)
        now += step.after_s
        passed += max(0.0, step.after_s)
        decision = device.one(step.score, now, step.draw, step.stream, step.size)
        decided.append((passed, step, decision))
    return decided


@properties
@given(policies, steps)
def test_no_budget_is_exceeded_in_any_window(policy: FlagPolicy, steps: list[Step]) -> None:
    kept = [(at, step, one.kept) for at, step, one in run(policy, steps) if one.kept]
    for budget in policy.budgets:
        for end, _, _ in kept:
            window = [(x, why) for at, x, why in kept if end - budget.seconds < at <= end]
            costs = [(budget.cost(step.size), why) for step, why in window]
            assert sum(cost for cost, _ in costs) <= budget.amount
            audit = sum(cost for cost, why in costs if why is Reason.AUDIT)
            assert audit <= budget.reserve(policy.reserve)


@properties
@given(policies, steps)
def test_a_draw_keeps_exactly_with_the_recorded_probability(
    policy: FlagPolicy, steps: list[Step]
) -> None:
    """So an audited frame is never discarded, and no rule keeps what its probability denies."""
    for _, step, decision in run(policy, steps):
        assert bool(decision.kept) == (step.draw < decision.sampling_probability)
        assert bool(decision.kept) != bool(decision.withheld)
        assert decision.raised == (step.score == 0.9)
        assert decision.raised or decision.sampling_probability <= policy.audit_rate


@properties
@given(policies, steps, st.floats(0, NEVER))
def test_a_probability_depends_on_nothing_but_what_was_before(
    policy: FlagPolicy, steps: list[Step], other: float
) -> None:
    device = Device(policy)
    for i, step in enumerate(steps):
        before = device.state
        one = device.one(step.score, float(i), other, step.stream, step.size)
        device.state = before
        two = device.one(step.score, float(i), step.draw, step.stream, step.size)
        assert one.sampling_probability == two.sampling_probability


@properties
@given(policies, steps)
def test_a_replay_gives_the_same_decisions(policy: FlagPolicy, steps: list[Step]) -> None:
    assert run(policy, steps) == run(policy, steps)


def test_the_audit_is_lowered_to_what_the_reserve_pays() -> None:
    """Twice what would last for an hour: 2 × 20 frames of 36,000 of each stream."""
    policy = FlagPolicy(threshold=0.5, audit_rate=0.01, budgets=(Budget(100, "frames", HOUR),))
    device = Device(policy)
    for i in range(600):
        alone = device.one(0.1, i / 10, stream="a")
    assert alone.sampling_probability == pytest.approx(40 / 36_000, rel=0.05)
    for i in range(600):
        shared = [device.one(0.1, 60 + i / 10, stream=one) for one in "ab"]
    assert [one.sampling_probability for one in shared] == pytest.approx(
        [20 / 36_000] * 2, rel=0.05
    )


def test_a_frame_that_the_reserve_cannot_pay_stands_for_nobody() -> None:
    policy = FlagPolicy(threshold=0.5, audit_rate=1, budgets=(Budget(100, "bytes", HOUR),))
    device = Device(policy)
    assert device.one(0.1, 0.0, draw=0.0, size=21).sampling_probability == 0
    assert device.one(0.1, 0.0, draw=0.0, size=20).sampling_probability > 0


def test_weights_undo_the_selection_although_the_audit_runs_short() -> None:
    """How many persons there were, and how many failed, from the kept ones alone."""
    rng = random.Random(5)
    budgets = (Budget(80, "frames", MINUTE), Budget(2_000, "frames", HOUR))
    policy = FlagPolicy(
        threshold=0.9, audit_rate=0.3, release=0.5, budgets=budgets, audit_reserve=0.5
    )
    device, frames, persons, failed, low = Device(policy), 10_000, 0.0, 0.0, 0
    for i in range(frames):
        score = rng.random()
        decision = device.one(score, i / 10, rng.random())
        low += decision.sampling_probability < 0.3
        if decision.kept:
            persons += 1 / decision.sampling_probability
            failed += (score >= 0.9) / decision.sampling_probability
    assert low > frames / 2  # the reserve would have been spent otherwise
    assert persons == pytest.approx(frames, rel=0.15)  # three standard errors
    assert failed == pytest.approx(frames / 10, rel=0.45)


@pytest.mark.parametrize(("amount", "flood"), [(3, 100), (10, 100), (40, 1_000)])
def test_a_flood_starves_nobody(amount: int, flood: int) -> None:
    """A stream that comes late is kept at once, and has its part in the long run."""
    policy = FlagPolicy(threshold=0.5, audit_rate=0.2, budgets=(Budget(amount, "frames", MINUTE),))
    device = Device(policy)
    first = [device.one(0.9, i / 30, stream="flood").code for i in range(flood)]
    own = amount - policy.budgets[0].reserve(policy.reserve)
    assert first.count("predicted_loss") == max(1, own * 4 // 5)
    assert device.one(0.9, flood / 30, stream="late").code == "predicted_loss"


def test_each_stream_has_its_part_in_the_long_run() -> None:
    """30 frames a second beside one, for four minutes."""
    rng = random.Random(1)
    budgets = (Budget(20, "frames", MINUTE),)
    device = Device(FlagPolicy(threshold=0.5, audit_rate=0.5, budgets=budgets, audit_reserve=0.5))
    kept = {(one, why): 0 for one in ("many", "few") for why in ("predicted_loss", "audit")}
    for i in range(7_200):
        for stream in ["many", *(["few"] if i % 30 == 0 else [])]:
            score = rng.choice([0.1, 0.9])
            decision = device.one(score, i / 30, rng.random(), stream)
            if decision.kept:
                kept[stream, decision.kept.value] += 1
    assert sum(kept.values()) <= 20 * 5
    for why in ("predicted_loss", "audit"):
        assert kept["few", why] >= kept["many", why] / 3 > 3


def spend(device: Device, now_s: float) -> int:
    """How many frames are kept of a flood that takes no time."""
    return sum(bool(device.one(0.9, now_s).kept) for _ in range(20))


@pytest.mark.parametrize("jump_s", [-YEAR, YEAR])
def test_a_clock_that_jumps_yields_one_bucket_and_blocks_for_no_longer(jump_s: float) -> None:
    policy = FlagPolicy(threshold=0.5, audit_rate=0, budgets=(Budget(10, "frames", HOUR),))
    device = Device(policy)
    assert (spend(device, YEAR), spend(device, YEAR)) == (8, 0)
    assert spend(device, YEAR + jump_s) == (8 if jump_s > 0 else 0)
    assert spend(device, YEAR + jump_s + 1.1 * HOUR) == 8


@pytest.mark.parametrize(
    ("away_s", "at_once"),
    [(0, 0), (HOUR / 2, 0), (1.1 * HOUR, 8), (YEAR, 8), (-YEAR, 0)],
)
def test_a_restart_does_not_fill_the_budgets(away_s: float, at_once: int) -> None:
    policy = FlagPolicy(threshold=0.5, audit_rate=0, budgets=(Budget(10, "frames", HOUR),))
    before, after = Device(policy), Device(policy)
    assert spend(before, 77.0) == 8
    after.state = restored(after.state, saved(before.state, Moment(YEAR)), Moment(YEAR + away_s))
    assert spend(after, 3.0) == at_once
    assert spend(after, 3.0 + 1.1 * HOUR) == 8


@pytest.mark.parametrize("jump_s", [-YEAR, 0.0, YEAR])
@pytest.mark.parametrize(("away_s", "at_once"), [(0, 0), (HOUR / 2, 0), (1.1 * HOUR, 8)])
def test_between_two_starts_of_the_system_the_wall_clock_says_nothing(
    away_s: float, at_once: int, jump_s: float
) -> None:
    policy = FlagPolicy(threshold=0.5, audit_rate=0, budgets=(Budget(10, "frames", HOUR),))
    before, after = Device(policy), Device(policy)
    assert spend(before, 77.0) == 8
    text = saved(before.state, Moment(YEAR, "one", 100.0))
    state = restored(after.state, text, Moment(YEAR + jump_s, "one", 100.0 + away_s))
    after.state = state
    assert spend(after, 3.0) == at_once


def test_after_a_start_of_the_system_the_wall_clock_counts() -> None:
    """The other clock began anew."""
    before = Moment(YEAR, "one", 100.0)
    assert Moment(YEAR + 5.0, "two", 200.0).since(before) == 5.0
    assert Moment(YEAR - 5.0, "two", 200.0).since(before) == 0.0
    assert Moment(YEAR + 5.0).since(Moment(YEAR)) == 5.0


def test_what_an_earlier_release_wrote_is_read() -> None:
    state = FlagState(FlagPolicy(threshold=0.5, audit_rate=0))
    text = b'{"version": 1, "saved_unix_s": 0, "buckets": []}'
    assert restored(state, text, Moment(5.0, "one", 5.0)) == state


def test_another_policy_takes_over_what_was_spent() -> None:
    def policy(*budgets: Budget) -> FlagPolicy:
        return FlagPolicy(threshold=0.5, audit_rate=0, budgets=budgets)

    device = Device(policy(Budget(10, "frames", HOUR)))
    assert spend(device, 0.0) == 8
    more = policy(Budget(20, "frames", HOUR), Budget(900, "bytes", MINUTE))
    device.state = device.state.under(more)
    device.policy = more
    assert spend(device, 1.0) == 8


def test_what_was_taken_returns_a_period_later_and_not_sooner() -> None:
    policy = FlagPolicy(threshold=0.5, audit_rate=0, budgets=(Budget(10, "frames", MINUTE),))
    device = Device(policy)
    device.one(0.1, 0.0)
    assert spend(device, 0.9) == 8
    assert (spend(device, 60.8), spend(device, 61.9)) == (0, 8)


def test_a_reserve_opened_late_takes_from_what_is_left() -> None:
    hour = Budget(10, "frames", HOUR)
    full = Bucket().took(hour, 0.0, "a", False, 9)
    assert (full.left_to_audit(hour, 0.2), full.took(hour, 0.0, "b", False, 1).taken) == (1, 10)


@pytest.mark.parametrize("text", [b"", b"{}", b'{"version": 2, "saved_unix_s": 0, "buckets": []}'])
def test_other_files_are_refused(text: bytes) -> None:
    state = FlagState(FlagPolicy(threshold=0.5, audit_rate=0))
    with pytest.raises(DataError, match="expected what 'saved' wrote"):
        restored(state, text, NOW)


def test_streams_of_ever_new_names_take_bounded_memory_and_no_more_than_the_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("misgiving.runtime.flags.budgets.MAX_LOTS", most := 50)
    budget = Budget(1_000, "frames", MINUTE)
    device = Device(FlagPolicy(threshold=0.5, audit_rate=0.1, budgets=(budget,)))
    names, decided = 2_000, []
    for number in range(names):
        decided.append(device.one(0.9, number * MINUTE / names, 0.05, f"stream {number}"))
        assert len(device.state.buckets[budget].lots) <= most + 2 * 61
    assert len(device.state.streams) <= MAX_STREAMS
    kept = sum(one.kept is not None for one in decided)
    assert kept == device.state.buckets[budget].taken
    assert 700 < kept <= 1_000
    device.one(0.1, 3 * MINUTE)
    assert device.state.buckets[budget].lots == ()
