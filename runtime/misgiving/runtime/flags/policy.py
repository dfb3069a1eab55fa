"""From a score to a decision: is a person flagged, and is it kept, why, and with which probability.

Pure. Flagged is what the score says; kept is what the fleet gets to see. See docs/flags.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.flags.budgets import Bucket, Budget
from misgiving.runtime.flags.drift import DriftWatch
from misgiving.runtime.flags.streams import Embedding, Stream
from misgiving.runtime.nouns import Answer, Decision, Frame, Person, Reason, Withheld

MAX_STREAMS = 256
"""Remembered at once; beyond them the one that was silent longest is forgotten."""

_DRIFT_EVERY_S = 60.0
"""Between the scores of one stream that the drift watch gets: neighbours resemble each other."""
_AHEAD = 2.0
"""How fast the audit spends its reserve: twice what would last for one period."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FlagPolicy:
    """Whoever reaches the threshold is flagged; of everybody, a random sample is kept.

    The audit sample is what allows anybody to measure what the threshold misses. Without further
    settings, every flagged person is kept.
    """

    threshold: float
    """In units of ``predicted_loss``; infinite flags nobody."""
    audit_rate: float
    """Probability with which a person is kept at random, in [0, 1]."""
    release: float | None = None
    """An event lasts until a frame's persons are all below this predicted_loss, and is kept once.
    None keeps each flagged frame."""
    repeat_s: float = math.inf
    """An event that lasts is kept again after so many seconds."""
    interval_s: float = 0.0
    """Shortest time between frames that a stream keeps for their flags; the audit is apart."""
    near_duplicate: float | None = None
    """Cosine distance of embeddings up to which a person resembles another; a frame whose flagged
    persons all resemble flagged ones that the stream kept before is withheld. None compares none.
    """
    remembered: int = 16
    """Flagged persons, the last that each stream kept, that are compared with."""
    budgets: tuple[Budget, ...] = ()
    """Of the whole device."""
    audit_reserve: float = 0.2
    """Share of each budget that only the audit may take, in (0, 1)."""

    def __post_init__(self) -> None:
        if math.isnan(self.threshold):
            raise InvalidInput("threshold is nan; expected a number in units of predicted_loss")
        if not 0 <= self.audit_rate <= 1:
            raise InvalidInput(
                f"audit rate is {self.audit_rate:g}; expected a share from 0 to 1, for example 0.01"
            )
        if self.release is not None and not self.release <= self.threshold:
            raise InvalidInput(
                f"release is {self.release:g}; expected at most the threshold, {self.threshold:g}. "
                "Name a lower one"
            )
        if self.release is None and self.repeat_s != math.inf:
            raise InvalidInput(
                f"repeat is {self.repeat_s:g} s and there is no release, without which each "
                "flagged frame is kept; expected both. Set release, for example to the threshold"
            )
        if not 0 < self.audit_reserve < 1:
            raise InvalidInput(
                f"audit reserve is {self.audit_reserve:g}; expected a share between 0 and 1, for "
                "example 0.2. To audit nothing, set the audit rate to 0"
            )
        if self.near_duplicate is not None and not 0 <= self.near_duplicate <= 2:
            raise InvalidInput(
                f"near duplicate is {self.near_duplicate:g}; expected a cosine distance from 0 to 2"
            )
        if not (self.repeat_s >= 0 and self.interval_s >= 0 and self.remembered >= 1):
            raise InvalidInput(
                f"repeat is {self.repeat_s:g} s, interval {self.interval_s:g} s, remembered are "
                f"{self.remembered}; expected times from 0 on, and at least 1 remembered"
            )

    @property
    def has_rules(self) -> bool:
        """Whether anything withholds a flagged frame."""
        spaced = self.release is not None or self.near_duplicate is not None
        return spaced or self.interval_s > 0 or bool(self.budgets)

    @property
    def reserve(self) -> float:
        """Share of the budgets that is reserved."""
        return self.audit_reserve if self.audit_rate else 0.0


@dataclass(frozen=True, slots=True)
class FlagState:
    """What deciding carries from frame to frame."""

    policy: FlagPolicy
    drift: DriftWatch | None = None
    streams: dict[str, Stream] = field(default_factory=dict)
    """The one that was silent longest first."""
    buckets: dict[Budget, Bucket] = field(default_factory=dict)
    clock_s: float = 0.0
    """Time that has passed; a clock that jumps back adds nothing."""
    heard_s: float | None = None
    """What the caller's clock said last."""

    def under(self, policy: FlagPolicy) -> "FlagState":
        """The same under another policy; what was spent stays spent."""
        spent = {(one.unit, one.seconds): bucket for one, bucket in self.buckets.items()}
        known = [one for one in policy.budgets if (one.unit, one.seconds) in spent]
        return replace(
            self, policy=policy, buckets={one: spent[one.unit, one.seconds] for one in known}
        )

    def left(self, now_s: float) -> dict[Budget, int]:
        """Tokens that are there, the audit's reserve among them."""
        buckets = _passed(self, now_s).buckets
        return {one: max(0, one.amount - bucket.taken) for one, bucket in buckets.items()}

    def anew(self, policy: FlagPolicy, drift: DriftWatch | None) -> "FlagState":
        """The same for another network, whose scores and embeddings are not comparable."""
        streams = {name: replace(one, kept=()) for name, one in self.streams.items()}
        return replace(self.under(policy), drift=drift, streams=streams)

    def answered_before(self, policy: FlagPolicy) -> "FlagState":
        """For a frame that another network answered: under its thresholds and the budgets of now,
        and heard by nothing that compares."""
        former = replace(
            self.policy,
            threshold=policy.threshold,
            release=policy.release,
            repeat_s=policy.repeat_s,
            near_duplicate=None,
        )
        return replace(self, policy=former, drift=None)

    def unspent(self, before: "FlagState", name: str) -> "FlagState":
        """The same, where the frame of a stream that was decided last may not be kept: budgets,
        events and near-duplicates are as before it, time and drift go on."""
        if self is before:
            return self
        old, new = before.streams.get(name, Stream(self.clock_s, self.clock_s)), self.streams[name]
        failing = old.failing and new.failing
        stream = replace(new, failing=failing, flagged_s=old.flagged_s, kept=old.kept)
        buckets = {x: before.buckets.get(x, Bucket()).at(self.clock_s) for x in self.buckets}
        return replace(self, buckets=buckets, streams=self.streams | {name: stream})


def decide(
    state: FlagState, frame: Frame, answer: Answer, now_s: float, draws: Sequence[float]
) -> tuple[FlagState, tuple[Decision, ...]]:
    """Decide on a frame, once all of it is answered.

    The audit comes first: each person is drawn with one probability, which depends on what was
    before the draw alone and takes from a reserve of its own; nothing that is decided later
    discards it. What the rules then do with a flagged frame does not depend on the draws. So the
    sampling probability is 1 of a flagged person whom the rules keep and the audit's of everybody
    else, a flagged person whom a rule withholds among them. It is conditional on all frames
    before; weights by its inverse are unbiased wherever it is above 0, and it is 0 only where
    the audit rate is, or the reserve cannot pay for the frame.

    Args:
        state: that the decision before left.
        frame: names the stream, and has the size that budgets count.
        answer: with the score and the embedding of each person. A NaN is flagged: a score that
            says nothing never passes as good.
        now_s: of a clock, preferably a monotonic one.
        draws: a fresh uniform random number in [0, 1) for each person; one for a frame without.

    Returns:
        The state for the next frame, and a decision for each person. A frame in which nobody was
        found takes part in the audit as one person who is not flagged, and has the one decision:
        else nobody could measure whom the detector misses.
    """
    policy, name, persons = state.policy, frame.stream_id, answer.persons
    raised = [not one.predicted_loss < policy.threshold for one in persons] or [False]
    if not policy.has_rules and not _is_heard(state, name, now_s):  # the usual case costs little
        chance, pairs = policy.audit_rate, zip(raised, draws, strict=True)
        return state, tuple(
            [_of_one(policy.threshold, one, draw < chance, None, chance) for one, draw in pairs]
        )
    state = _arrived(state, now_s, name, persons)
    stream = state.streams[name]
    flagged = [one.embedding for one, is_raised in zip(persons, raised, strict=False) if is_raised]
    chance = _audit_probability(state, name, frame.size)
    audited = [draw < chance for draw in draws]
    why_not = _withheld(state, name, frame.size, flagged) if flagged else Withheld.BELOW_THRESHOLD
    if why_not is None or any(audited):
        state = _spent(state, name, frame.size, any(audited))
        if policy.near_duplicate is not None:
            stream = stream.keeps(flagged, policy.remembered)
    if why_not is None:
        stream = replace(stream, failing=True, flagged_s=state.clock_s)
    decisions = tuple(
        _of_one(policy.threshold, is_raised, is_audited, why_not, chance)
        for is_raised, is_audited in zip(raised, audited, strict=True)
    )
    return replace(state, streams=state.streams | {name: stream}), decisions


def decide_again(
    state: FlagState, frame: Frame, answer: Answer, apart: Sequence[bool], now_s: float
) -> tuple[FlagState, tuple[Decision, ...], Withheld | None]:
    """Decide once more on a frame whose answer has left, when a shadow has answered it too.

    A frame with a person on whom they disagree goes through the rules of a flagged one; it waits
    for the stream's last flagged frame that was kept, and none waits for it. Which frames a shadow
    looks at is drawn, whatever is in them, so probabilities are given that draw: 1 of such a person
    whom the rules keep, what :func:`decide` said of everybody else. A frame that the audit has
    taken is paid for already.

    Args:
        state: of now; frames in between may have been decided.
        frame: as for :func:`decide`.
        answer: with what that decided.
        apart: whether they disagree, for each person.
        now_s: of the same clock.

    Returns:
        The state, a decision for each person, and the rule that withholds a disagreement.
    """
    before = answer.decisions
    rows = [one.embedding for one, is_apart in zip(answer.persons, apart, strict=True) if is_apart]
    if not rows or any(one.kept is Reason.PREDICTED_LOSS for one in before):
        return state, before, None
    state, name = _passed(state, now_s), frame.stream_id
    stream = state.streams.get(name, Stream(state.clock_s, state.clock_s))
    waits = replace(stream, flagged_s=max(stream.flagged_s, stream.shadow_s))
    seen = replace(state, streams=state.streams | {name: waits})
    if why_not := _withheld(seen, name, frame.size, rows):
        return state, before, why_not
    if not answer.kept:
        state = _spent(state, name, frame.size, audit=False)
    if name in state.streams:
        stream = replace(stream, shadow_s=state.clock_s)
        if state.policy.near_duplicate is not None:
            stream = stream.keeps(rows, state.policy.remembered)
        state = replace(state, streams=state.streams | {name: stream})
    decisions = tuple(
        Decision(one.raised, Reason.SHADOW, one.threshold, 1.0) if is_apart else one
        for one, is_apart in zip(before, apart, strict=True)
    )
    return state, decisions, None


def _is_heard(state: FlagState, name: str, now_s: float) -> bool:
    """Whether the drift watch gets a score of this frame."""
    if state.drift is None:
        return False
    if state.heard_s is None or (stream := state.streams.get(name)) is None:
        return True
    return state.clock_s + max(0.0, now_s - state.heard_s) - stream.scored_s >= _DRIFT_EVERY_S


def _of_one(
    threshold: float, raised: bool, audited: bool, why_not: Withheld | None, chance: float
) -> Decision:
    if raised and why_not is None:
        return Decision(True, Reason.PREDICTED_LOSS, threshold, 1.0)
    if audited:
        return Decision(raised, Reason.AUDIT, threshold, chance)
    withheld = why_not if raised else Withheld.BELOW_THRESHOLD
    return Decision(raised, None, threshold, chance, withheld)


def _arrived(state: FlagState, now_s: float, name: str, persons: Sequence[Person]) -> FlagState:
    """The state when a frame comes: time has passed, an event may be over, drift is told."""
    state = _passed(state, now_s)
    now, release = state.clock_s, state.policy.release
    stream = state.streams.get(name, Stream(now, now)).saw(now, max(1, len(persons)))
    if release is not None and persons and all(x.predicted_loss < release for x in persons):
        stream = replace(stream, failing=False)
    drift = state.drift
    if drift and persons and now - stream.scored_s >= _DRIFT_EVERY_S:
        drift = drift.seen(persons[0].predicted_loss)  # not the worst: that would be a selection
        stream = replace(stream, scored_s=now)
    others = {key: one for key, one in state.streams.items() if key != name}
    if len(others) >= MAX_STREAMS:
        del others[next(iter(others))]
    return replace(state, drift=drift, streams={**others, name: stream})


def _passed(state: FlagState, now_s: float) -> FlagState:
    """The state at a time: tokens have returned."""
    passed = 0.0 if state.heard_s is None else max(0.0, now_s - state.heard_s)
    now = state.clock_s + passed
    buckets = {x: state.buckets.get(x, Bucket()).at(now) for x in state.policy.budgets}
    return replace(state, buckets=buckets, clock_s=now, heard_s=now_s)


def _audit_probability(state: FlagState, name: str, frame_bytes: int) -> float:
    """The audit rate; less where the stream's part of a reserve would run short of it."""
    chance, stream = state.policy.audit_rate, state.streams[name]
    if not (chance and state.buckets):
        return chance
    among = sum(one.active(state.clock_s) for one in state.streams.values())
    for budget, bucket in state.buckets.items():
        tokens = budget.cost(frame_bytes)
        left = bucket.left_to_audit(budget, state.policy.reserve)
        if left < tokens:
            return 0.0
        demand = stream.rate * tokens * budget.seconds * among
        chance = min(chance, _AHEAD * left / demand)
    return chance


def _withheld(
    state: FlagState, name: str, frame_bytes: int, flagged: Sequence[Embedding]
) -> Withheld | None:
    """The first rule that withholds a flagged frame; None where it is kept."""
    policy, stream, now = state.policy, state.streams[name], state.clock_s
    lasts = stream.failing and now - stream.flagged_s < policy.repeat_s
    if policy.release is not None and lasts:
        return Withheld.NOT_RISING
    if now - stream.flagged_s < policy.interval_s:
        return Withheld.TOO_SOON
    if policy.near_duplicate is not None and stream.knows(flagged, policy.near_duplicate):
        return Withheld.NEAR_DUPLICATE
    for budget, bucket in state.buckets.items():
        if not bucket.allows(budget, policy.reserve, name, budget.cost(frame_bytes)):
            return Withheld.BUDGET
    return None


def _spent(state: FlagState, name: str, frame_bytes: int, audit: bool) -> FlagState:
    """The state after a frame was kept; where the audit wants it too, the reserve pays."""
    now = state.clock_s
    return replace(
        state,
        buckets={
            budget: bucket.took(budget, now, name, audit, budget.cost(frame_bytes))
            for budget, bucket in state.buckets.items()
        },
    )
