"""Which flagged frames of a stream are kept: events, intervals, near-duplicates."""

import math

import pytest

from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.flags.budgets import HOUR, Budget
from misgiving.runtime.flags.policy import MAX_STREAMS, FlagPolicy
from misgiving.runtime.nouns import Decision, Reason
from runtime.flagging import Device, person

KEPT, AUDIT = "predicted_loss", "audit"
LOW, RISING, SOON, SAME = "below_threshold", "not_rising", "too_soon", "near_duplicate"


def policy(**settings: object) -> FlagPolicy:
    return FlagPolicy(**{"threshold": 0.5, "audit_rate": 0.0, **settings})


def codes(device: Device, scores: list[float], every_s: float = 1.0) -> list[str]:
    return [device.one(score, i * every_s).code for i, score in enumerate(scores)]


def test_an_event_is_kept_once() -> None:
    scores = [0.1, 0.9, 0.9, 0.4, 0.9, 0.3, 0.2, 0.6]
    assert codes(Device(policy(release=0.3)), scores) == [
        LOW,
        KEPT,
        RISING,
        LOW,
        RISING,  # it was below the threshold, and not below the release
        LOW,  # at the release
        LOW,  # below it: the event is over
        KEPT,
    ]


def test_a_failing_minute_is_one_event() -> None:
    device = Device(policy(release=0.3))
    assert codes(device, [0.9] * 1_800, 1 / 30).count(KEPT) == 1


def test_an_event_that_lasts_is_kept_again() -> None:
    device = Device(policy(release=0.3, repeat_s=3))
    assert codes(device, [0.9] * 7) == [KEPT, RISING, RISING, KEPT, RISING, RISING, KEPT]


def test_what_says_nothing_ends_no_event() -> None:
    device = Device(policy(release=0.3))
    assert codes(device, [0.9, math.nan]) == [KEPT, RISING]
    device.all([], 2.0)
    assert device.one(0.9, 3.0).code == RISING


def test_everybody_must_be_low_to_end_an_event() -> None:
    device = Device(policy(release=0.3))
    assert [one.code for one in device.all([person(0.9), person(0.1)], 0.0)] == [KEPT, LOW]
    device.all([person(0.4), person(0.1)], 1.0)
    assert device.one(0.9, 2.0).code == RISING
    device.all([person(0.2), person(0.1)], 3.0)
    assert device.one(0.9, 4.0).code == KEPT


def test_streams_have_events_of_their_own() -> None:
    device = Device(policy(release=0.3, interval_s=60))
    assert device.one(0.9, 0.0, stream="front").code == KEPT
    assert device.one(0.9, 0.1, stream="rear").code == KEPT


def test_an_event_that_comes_too_soon_is_kept_when_the_time_is_over() -> None:
    device = Device(policy(release=0.3, interval_s=5))
    assert codes(device, [0.9, 0.1, 0.9, 0.9, 0.9, 0.9, 0.9]) == [
        *(KEPT, LOW, SOON, SOON, SOON, KEPT, RISING)
    ]


def test_audited_frames_start_no_interval_and_end_no_event() -> None:
    device = Device(policy(release=0.3, interval_s=5, audit_rate=0.1))
    assert device.one(0.1, 0.0, draw=0.0).code == AUDIT
    assert device.one(0.9, 1.0).code == KEPT
    assert device.one(0.9, 2.0, draw=0.0) == Decision(True, Reason.AUDIT, 0.5, 0.1)
    assert device.one(0.9, 3.0) == Decision(True, None, 0.5, 0.1, device.one(0.9, 3.0).withheld)


def test_near_duplicates_are_withheld() -> None:
    device = Device(policy(near_duplicate=0.01, remembered=2))

    def keep(*embeddings: list[float], score: float = 0.9) -> list[str]:
        return [one.code for one in device.all([person(score, x) for x in embeddings], 0.0)]

    assert keep([1, 0]) == [KEPT]
    assert keep([5, 0.1]) == [SAME]  # the same direction, whatever the length
    assert keep([1, 0.5]) == [KEPT]
    assert keep([1, 0], [0, 1]) == [KEPT, KEPT]  # somebody new is in it
    assert keep([1, 0.5]) == [KEPT]  # of four kept persons, the last two are remembered
    # nobody can tell whom these resemble
    assert keep([0, 0]) == keep([math.nan, 1]) == keep([]) == keep([1, 0, 0]) == [KEPT]
    assert keep([1, 0.5], score=0.1) == [LOW]


def test_only_flagged_persons_are_resembled() -> None:
    device = Device(policy(near_duplicate=0.01, audit_rate=0.1))
    device.all([person(0.1, [1, 0])], 0.0, [0.0])
    (decision,) = device.all([person(0.9, [1, 0])], 1.0)
    assert decision.code == KEPT


def test_as_many_streams_are_remembered_as_are_told() -> None:
    device = Device(policy(release=0.3))
    for i in range(MAX_STREAMS + 10):
        device.one(0.9, 0.0, stream=str(i))
        device.one(0.9, 0.0, stream="0")  # never silent for long
    assert len(device.state.streams) == MAX_STREAMS
    assert device.one(0.9, 0.0, stream="0").code == RISING


@pytest.mark.parametrize(
    "settings",
    [
        {"release": 0.6},
        {"release": math.nan},
        {"repeat_s": -1.0},
        {"interval_s": math.nan},
        {"near_duplicate": 2.1},
        {"remembered": 0},
        {"audit_reserve": 0.0},
        {"audit_reserve": 1.0},
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match=r" (-1|0|0\.6|1|2\.1|nan)\b.*; expected"):
        policy(**settings)


def test_budgets_that_mean_nothing_are_refused() -> None:
    with pytest.raises(InvalidInput, match="budget is 1 frames in 3600 s; expected 2 or more"):
        Budget(1, "frames", HOUR)
    with pytest.raises(InvalidInput, match="budget is for 0 s"):
        Budget(5, "bytes", 0)
