"""When, and how fast, the spool may be uploaded. Pure but for one look at a file."""

import math
import re
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

DAY_MIN = 24 * 60
PATIENCE = 3
"""Attempts at a frame before others go first."""


@dataclass(frozen=True, slots=True)
class Window:
    """A time of day, in minutes of local time; it may go over midnight."""

    begins: int
    ends: int

    def opens_in(self, minute: int) -> int:
        """Minutes until it is open; 0 where it is."""
        if (minute - self.begins) % DAY_MIN < (self.ends - self.begins) % DAY_MIN:
            return 0
        return (self.begins - minute) % DAY_MIN


def parse_window(text: str) -> Window:
    """What HH:MM-HH:MM means; raises ValueError where it is something else."""
    found = re.fullmatch(r"(\d\d):(\d\d)-(\d\d):(\d\d)", text)
    numbers = [int(number) for number in found.groups()] if found else []
    if not numbers or max(numbers[::2]) > 23 or max(numbers[1::2]) > 59:
        raise ValueError(f"{text!r} is no time of day; expected HH:MM-HH:MM, such as 22:00-06:00")
    window = Window(numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3])
    if window.begins == window.ends:
        raise ValueError(f"{text!r} ends as it begins; leave it out for the whole day")
    return window


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadLimits:
    """What an uploader keeps to; by default nothing."""

    bytes_per_second: int | None = None
    windows: tuple[Window, ...] = ()
    """When it uploads; without any, always."""
    metered: Path | None = None
    """A file: while it is there, the link is metered."""
    metered_loss: float | None = None
    """Predicted loss from which on a frame travels over a metered link; None for none."""

    def shut_s(self, now: datetime) -> float:
        """Seconds until a window opens, in local time; 0 where one is open."""
        minute = now.hour * 60 + now.minute
        opens = min((window.opens_in(minute) for window in self.windows), default=0)
        return max(0.0, opens * 60.0 - now.second)

    @property
    def least_loss(self) -> float:
        """Predicted loss from which on a frame may travel now."""
        if self.metered is None or not self.metered.exists():
            return -math.inf
        return math.inf if self.metered_loss is None else self.metered_loss


@dataclass(frozen=True, slots=True)
class Pace:
    """How far the bytes sent so far reach: the next may go when that is over."""

    free_at: float = 0.0
    """On a monotonic clock, in seconds."""

    def sent(self, size: int, bytes_per_second: float, now: float) -> "Pace":
        """After so many bytes were sent; never more than these at once."""
        return replace(self, free_at=max(self.free_at, now) + size / bytes_per_second)

    def wait_s(self, now: float) -> float:
        """Until more may be sent."""
        return max(0.0, self.free_at - now)


class Batching:
    """How many bytes may travel in one call that begins anew where it is cut.

    Those that the link has carried in a second before: so much is lost at most.
    """

    MOST = 2 << 20
    """Half of what the collector takes in one message."""

    def __init__(self) -> None:
        self._most = 0
        self._taken = True

    @property
    def most(self) -> int:
        """Bytes; 0 where nothing is known of the link, or the collector takes no batches."""
        return self._most if self._taken else 0

    def carried(self, size: int, seconds: float) -> None:
        """A call was answered that sent so many bytes."""
        self._most = min(self.MOST, int(size / max(seconds, 1e-6)))

    def refused(self) -> None:
        """The collector takes no batches."""
        self._taken = False

    def failed(self) -> None:
        """Nothing is known any more: whoever answers next may be another release."""
        self._most, self._taken = 0, True


class Attempts:
    """Frames whose upload failed again and again, while others may go."""

    def __init__(self) -> None:
        self._of = dict[str, tuple[int, int]]()

    def begin(self, digest: str, offset: int) -> None:
        """Of an upload that starts at a byte; where it got further than before it counts anew."""
        before, count = self._of.get(digest, (offset, 0))
        self._of[digest] = offset, count + 1 if offset <= before else 1

    def give_way(self, digest: str) -> None:
        """Of a frame that is refused for now."""
        self._of[digest] = 0, PATIENCE

    def over(self, digest: str) -> None:
        """The collector has taken it, or never will."""
        self._of.pop(digest, None)

    def put_off(self, digest: str) -> bool:
        """Whether others go first."""
        return self._of.get(digest, (0, 0))[1] >= PATIENCE
