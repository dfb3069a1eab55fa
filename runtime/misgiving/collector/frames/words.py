"""What people write for a time, a range of scores, an order, a mark; loads nothing heavy."""

import re
from datetime import datetime, timedelta, timezone
from enum import Enum

from misgiving.runtime.errors import InvalidInput

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"


class Mark(str, Enum):
    """What somebody said of a frame; the newest counts."""

    LABEL = "label"
    IGNORE = "ignore"
    CONFIRMED = "confirmed"
    FALSE_ALARM = "false_alarm"
    WRONG_LABEL = "wrong_label"


class Order(str, Enum):
    """What comes first.

    >>> Order("worst")
    <Order.WORST: 'worst'>
    """

    NEWEST = "newest"
    """By arrival."""
    WORST = "worst"
    """By predicted loss; frames without one come last."""
    DRAWN = "drawn"
    """By digest, which nothing in a picture has a say in: wherever somebody stops, those before are
    a random sample."""
    DIVERSE = "diverse"
    """The worst, spread over what they show."""


PAGED = (Order.NEWEST, Order.WORST, Order.DRAWN)
"""The orders in which frames come page by page."""


def moment(text: str, now_ns: int) -> int:
    """Unix nanoseconds of a time: ISO 8601, in UTC unless it says otherwise, or so long ago.

    Args:
        text: ``2026-11-29``, ``2026-11-29T14:30+01:00``, ``90m``, ``2h``, ``3d``.
        now_ns: Unix nanoseconds.

    Raises:
        InvalidInput: it is something else.
    """
    if ago := re.fullmatch(r"(\d{1,6})([smhdw])", text):
        span = timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        return now_ns - round(span.total_seconds()) * 10**9
    try:
        when = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))  # Python 3.10 knows no Z
    except ValueError as error:
        raise InvalidInput(
            f"time is {text!r}; expected 2026-11-29, 2026-11-29T14:30 (UTC), "
            "2026-11-29T14:30+01:00, or so long ago: 90m, 2h, 3d, 4w"
        ) from error
    when = when if when.tzinfo else when.replace(tzinfo=timezone.utc)
    return round(when.timestamp()) * 10**9


def score_range(text: str) -> tuple[float, float]:
    """The lowest and highest predicted loss of ``LOW-HIGH``; an end that is left out is open.

    Raises:
        InvalidInput: it is something else.
    """
    ends = re.fullmatch(f"({_NUMBER})?-({_NUMBER})?", text)
    low = float(ends[1]) if ends and ends[1] else float("-inf")
    high = float(ends[2]) if ends and ends[2] else float("inf")
    if not ends or text == "-" or low > high:
        raise InvalidInput(
            f"score is {text!r}; expected LOW-HIGH, the lower predicted loss first: 0.5-0.9, "
            "0.5- or -0.9"
        )
    return low, high


def spoken_time(unix_nano: int) -> str:
    """A time for people and for JSON, in UTC to the second; empty where it is not known."""
    if unix_nano <= 0:
        return ""
    when = datetime.fromtimestamp(unix_nano // 10**9, timezone.utc)
    return when.isoformat().replace("+00:00", "Z")


def spoken_size(size_bytes: int) -> str:
    """``834 B``, ``12.3 kB``, ``4.0 GB``."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.95:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
