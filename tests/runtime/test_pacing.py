"""When, how fast and in which order frames are uploaded, on simulated clocks."""

import math
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from misgiving.runtime.outbox.pacing import PATIENCE, Attempts, Pace, UploadLimits, parse_window
from misgiving.runtime.outbox.value import Entry, upload_order

NIGHT, NOON = "22:00-06:00", "12:00-13:30"


@pytest.mark.parametrize(
    ("windows", "time", "shut_s"),
    [
        ([], "03:00:00", 0),
        ([NOON], "12:00:00", 0),
        ([NOON], "13:29:59", 0),
        ([NOON], "13:30:00", 22.5 * 3600),
        ([NOON], "11:59:30", 30),
        # over midnight
        ([NIGHT], "23:59:59", 0),
        ([NIGHT], "00:00:00", 0),
        ([NIGHT], "06:00:00", 16 * 3600),
        # the one that opens first
        ([NIGHT, NOON], "11:00:00", 3600),
        ([NIGHT, NOON], "14:00:00", 8 * 3600),
    ],
)
def test_windows(windows: list[str], time: str, shut_s: float) -> None:
    limits = UploadLimits(windows=tuple(map(parse_window, windows)))
    assert limits.shut_s(datetime.fromisoformat(f"2026-11-29T{time}")) == shut_s


@pytest.mark.parametrize(
    "text", ["", "22-6", "22:00", "24:00-06:00", "22:60-06:00", "6:00-7:00", "06:00-06:00", "x"]
)
def test_what_is_no_window(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected HH:MM-HH:MM|leave it out"):
        parse_window(text)


def test_a_link_is_metered_while_the_file_is_there(tmp_path: Path) -> None:
    some, none = (UploadLimits(metered=tmp_path / "metered", metered_loss=x) for x in (3.0, None))
    assert (some.least_loss, none.least_loss) == (-math.inf, -math.inf)
    (tmp_path / "metered").touch()
    assert (some.least_loss, none.least_loss) == (3.0, math.inf)
    assert UploadLimits(metered_loss=3.0).least_loss == -math.inf


@given(
    st.lists(st.tuples(st.integers(1, 5000), st.floats(0, 10)), max_size=30),
    st.integers(100, 10_000),
)
def test_no_span_of_time_has_more_bytes_than_the_rate(
    chunks: list[tuple[int, float]], rate: int
) -> None:
    """Beside the one chunk that begins it, however long the sender itself takes."""
    now, pace = 0.0, Pace()
    sent = list[tuple[float, int]]()
    for size, idle in chunks:
        now += idle
        now += pace.wait_s(now)
        pace = pace.sent(size, rate, now)
        sent.append((now, size))
    for first, (begin, _) in enumerate(sent):
        for last in range(first + 1, len(sent)):
            between = sum(size for _, size in sent[first:last])
            assert between <= rate * (sent[last][0] - begin) + 1e-6


def test_a_frame_that_fails_and_fails_lets_others_go_first() -> None:
    attempts = Attempts()
    for _ in range(PATIENCE):
        assert not attempts.put_off("a")
        attempts.begin("a", 0)
    assert attempts.put_off("a")
    attempts.begin("a", 1000)  # it got further
    assert not attempts.put_off("a")
    attempts.over("a")
    assert not attempts.put_off("never tried")


def test_the_most_valuable_go_first_and_the_audit_is_not_starved() -> None:
    entries = {f"{score}": Entry("", 1, score=score) for score in range(8)}
    entries["twin"] = Entry("", 1, score=9, twin=True)
    entries["also 7"] = Entry("", 1, score=7)
    audits = {f"audit {n}": Entry("", 1, score=n, reason="audit") for n in range(2)}
    assert upload_order({**audits, **entries}) == [
        *("7", "also 7", "6", "audit 0"),
        *("5", "4", "3", "audit 1"),
        *("2", "1", "0", "twin"),
    ]
    assert upload_order(audits) == [*audits]
    assert upload_order({}) == []
