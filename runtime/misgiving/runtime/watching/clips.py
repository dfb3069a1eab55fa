"""Which pictures of a camera belong to a clip. Pure: pictures and events in, instructions out.

An event has a window, ``before_s`` to ``after_s`` around it. Pictures wait in a ring until an
event takes them; windows that touch make one clip.
"""

from collections import deque
from dataclasses import dataclass

RING_BYTES = 64 << 20
"""Of a camera's pictures that wait; beyond it the oldest go."""
LONGEST_S = 60.0
"""From the first event of a clip to the last that it takes; the next begins a new one."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture of a camera."""

    at_s: float
    """When it arrived, on the monotonic clock."""
    jpeg: bytes


@dataclass(frozen=True, slots=True)
class Begin:
    """A clip begins, with the event of this name."""

    name: str


@dataclass(frozen=True, slots=True)
class Add:
    """This picture is the clip's next."""

    shot: Shot


@dataclass(frozen=True, slots=True)
class End:
    """The clip is whole."""


Instruction = Begin | Add | End


class Cutter:
    """The state of one camera. Feed it everything in order; perform what it returns.

    Args:
        before_s: that a clip shows before its event.
        after_s: and after it.
    """

    def __init__(self, before_s: float, after_s: float) -> None:
        self._before_s = before_s
        self._after_s = after_s
        self._ring: deque[Shot] = deque()
        self._ring_bytes = 0
        self._began_s: float | None = None
        """The first event of the clip that is open."""
        self._until_s = 0.0

    def shot(self, shot: Shot) -> list[Instruction]:
        """A picture arrived."""
        if self._began_s is not None and shot.at_s <= self._until_s:
            return [Add(shot)]
        self._ring.append(shot)
        self._ring_bytes += len(shot.jpeg)
        while self._ring and (
            self._ring_bytes > RING_BYTES or self._ring[0].at_s < shot.at_s - self._before_s
        ):
            self._pop()
        return []

    def event(self, at_s: float, name: str) -> list[Instruction]:
        """Something happened at the picture of that time."""
        done: list[Instruction] = []
        if self._began_s is not None and at_s - self._began_s > LONGEST_S:
            done += self.end()
        if self._began_s is None:
            self._began_s = at_s
            done.append(Begin(name))
        self._until_s = at_s + self._after_s
        while self._ring and self._ring[0].at_s <= self._until_s:
            done.append(Add(self._pop()))
        return done

    def passed(self, now_s: float) -> list[Instruction]:
        """Time has passed; a clip is whole where no event's window can touch it any more."""
        if self._began_s is None or now_s - self._before_s <= self._until_s:
            return []
        return self.end()

    def end(self) -> list[Instruction]:
        """No more will come."""
        ended: list[Instruction] = [] if self._began_s is None else [End()]
        self._began_s = None
        return ended

    def _pop(self) -> Shot:
        shot = self._ring.popleft()
        self._ring_bytes -= len(shot.jpeg)
        return shot
