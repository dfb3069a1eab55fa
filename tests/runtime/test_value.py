"""What goes first when a spool is full, and what is nearly the same as another frame."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from misgiving.runtime.errors import ResourceExhausted
from misgiving.runtime.nouns import Decision, Frame, Person, Reason
from misgiving.runtime.outbox.value import (
    Entry,
    Likeness,
    check_fits,
    choose_victims,
    is_twin,
    reason_of,
    score_of,
    too_old,
)
from misgiving.runtime.wire.collected import KeptFrame, to_kept
from shared.collecting import collected, person

SOME = {
    "old": Entry("old", 40, score=2.0),
    "audit": Entry("audit", 10, score=0.1, reason="audit"),
    "refused": Entry("refused", 30, refused=True, score=9.0),
    "twin": Entry("twin", 10, score=8.0, twin=True),
    "low": Entry("low", 20, score=1.0),
    "young": Entry("young", 40, score=2.0),
}
WORST_FIRST = ["refused", "twin", "low", "old", "young", "audit"]


@pytest.mark.parametrize(
    ("quota", "victims"),
    [
        (150, 0),  # exact fit
        (149, 1),  # what is refused
        (119, 2),  # what resembles another, whatever its score
        (109, 3),  # the lowest score
        (89, 4),  # of equals the oldest
        (49, 5),
        (9, 6),  # the audit last
        (0, 6),
    ],
)
def test_the_least_valuable_goes_first(quota: int, victims: int) -> None:
    assert choose_victims(SOME, quota) == WORST_FIRST[:victims]


def test_an_empty_spool_has_no_victims() -> None:
    assert choose_victims({}, 0) == []


def test_the_audit_goes_by_age_alone() -> None:
    scores = (5.0, 1.0, math.inf, 3.0)
    entries = {f"{x}": Entry("", 1, score=x, reason="audit", twin=x < 2) for x in scores}
    assert choose_victims(entries, 2) == ["5.0", "1.0"]


ENTRIES = st.lists(
    st.builds(
        Entry,
        st.just(""),
        st.integers(1, 100),
        refused=st.booleans(),
        score=st.floats(allow_nan=False),
        reason=st.sampled_from(["", "audit", "predicted_loss", "shadow"]),
        twin=st.booleans(),
    )
).map(lambda some: {str(number): one for number, one in enumerate(some)})


def is_worth_less(one: Entry, other: Entry) -> bool:
    """Written out, as the sentence has it."""
    if one.refused or other.refused:
        return one.refused and not other.refused
    if one.audit or other.audit:
        return not one.audit and other.audit
    if one.twin != other.twin:
        return one.twin
    return one.score < other.score


@given(ENTRIES, st.integers(0, 2000))
def test_what_stays_fits_and_is_worth_no_less(entries: dict[str, Entry], quota: int) -> None:
    victims = choose_victims(entries, quota)
    stays = {digest: one for digest, one in entries.items() if digest not in victims}
    size = sum(one.size for one in stays.values())
    assert len(victims) == len(set(victims))
    assert size <= quota
    assert not victims or size + entries[victims[-1]].size > quota  # none goes without need
    for gone in victims:
        assert not any(is_worth_less(one, entries[gone]) for one in stays.values())
        equals = [x for x in stays if not is_worth_less(entries[gone], stays[x])]
        assert all(int(gone) < int(digest) for digest in equals)


def test_a_frame_larger_than_the_quota() -> None:
    check_fits(10, 10)
    with pytest.raises(ResourceExhausted, match="11 bytes; the spool's quota is 10. Raise"):
        check_fits(11, 10)


def test_what_is_older_than_its_time() -> None:
    entries = {str(s): Entry("", 1, since_s=float(s)) for s in (0, 10, 20)}
    assert too_old(entries, 25.0, 15.0) == ["0"]
    assert too_old(entries, 25.1, 15.0) == ["0", "10"]
    assert too_old({}, 25.0, 0.0) == []


def a_person(loss: float, kept: Reason | None = None, at: Sequence[float] = ()) -> Person:
    one = to_kept(collected("x", persons=[person(0, loss=1.0)])).persons[0]
    return replace(
        one,
        predicted_loss=loss,
        embedding=np.array(at, np.float32),
        flag=Decision(kept is not None, kept, 1.0, 1.0),
    )


def a_frame(*persons: Person, bundle: str = "b", nobody: Decision | None = None) -> KeptFrame:
    return KeptFrame(Frame(b"", frame_id="f"), persons, bundle, nobody=nobody)


LOSS, AUDIT = Reason.PREDICTED_LOSS, Reason.AUDIT


@pytest.mark.parametrize(
    ("frame", "score", "reason"),
    [
        (a_frame(), 0.0, ""),
        (a_frame(nobody=Decision(False, AUDIT, 1.0, 0.1)), 0.0, "audit"),
        (a_frame(a_person(2.0, LOSS)), 2.0, "predicted_loss"),
        (a_frame(a_person(2.0, Reason.SHADOW), a_person(3.0)), 3.0, "shadow"),
        # One of the audit protects a frame, whatever else is in it.
        (a_frame(a_person(9.0, LOSS), a_person(0.1, AUDIT)), 9.0, "audit"),
        # NaN says nothing, and is flagged.
        (a_frame(a_person(math.nan, LOSS), a_person(3.0)), math.inf, "predicted_loss"),
    ],
)
def test_score_and_reason(frame: KeptFrame, score: float, reason: str) -> None:
    assert (score_of(frame), reason_of(frame)) == (score, reason)


def test_frames_are_alike_by_their_worst_person() -> None:
    likeness = Likeness(0.01)
    likeness.remember("one", a_frame(a_person(2.0, at=[1, 0]), a_person(1.0, at=[0, 1])))
    likeness.remember("two", a_frame(a_person(2.0, at=[0, 3])))
    near = np.cos(0.1), np.sin(0.1)  # 0.005 from the first
    far = np.cos(0.2), np.sin(0.2)  # 0.02
    assert likeness.nearest(a_frame(a_person(5.0, at=near))) == "one"
    assert likeness.nearest(a_frame(a_person(5.0, at=far))) is None
    assert likeness.nearest(a_frame(a_person(5.0, at=[0, 0.1]))) == "two"
    assert likeness.nearest(a_frame(a_person(1.0, at=near), a_person(math.nan, at=far))) is None
    likeness.forget(["two"])
    assert likeness.nearest(a_frame(a_person(5.0, at=[0, 1]))) is None


def test_what_cannot_be_compared_is_not_alike() -> None:
    likeness = Likeness(2.0)  # whatever can be compared is
    likeness.remember("one", a_frame(a_person(2.0, at=[1, 0])))
    assert likeness.nearest(a_frame(a_person(2.0, at=[-1, 0]))) == "one"
    others = [a_frame(), a_frame(a_person(2.0)), a_frame(a_person(2.0, at=[0, 0]))]
    others += [a_frame(a_person(2.0, at=[1, 0, 0])), a_frame(a_person(2.0, at=[np.nan, 0]))]
    for other in others:
        assert likeness.nearest(other) is None
        likeness.remember("other", other)
    assert likeness.nearest(a_frame(a_person(2.0, at=[1, 0]), bundle="c")) is None
    never = Likeness(None)
    never.remember("one", a_frame(a_person(2.0, at=[1, 0])))
    assert never.nearest(a_frame(a_person(2.0, at=[1, 0]))) is None


NEW = Entry("new", 1, score=2.0)


@pytest.mark.parametrize(
    ("alike", "twin"),
    [
        (None, True),  # the fleet has that one
        (Entry("", 1, score=3.0), True),
        (Entry("", 1, score=2.0), True),
        (Entry("", 1, score=1.0), False),  # that one is worth less now
        (Entry("", 1, score=1.0, reason="audit"), True),  # it goes last
        (Entry("", 1, score=1.0, twin=True), True),  # a third stands for both
    ],
)
def test_of_two_that_are_alike_the_lower_score_is_worth_less(
    alike: Entry | None, twin: bool
) -> None:
    assert is_twin(NEW, alike) is twin
