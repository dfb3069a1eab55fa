"""What a device may keep: budgets whose tokens come back one period after they were spent.

A bucket that refills steadily would allow twice its size within one period, and a SIM card is
billed by the period. Pure; time is a clock that never goes back, see ``policy.FlagState``.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from misgiving.runtime.errors import InvalidInput

MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0

Unit = Literal["frames", "bytes"]

MAX_LOTS = 2_000
"""Of one bucket; beyond them, streams without a lot share one. 16 streams need fewer."""

_SLOTS = 60
_LEFT = 4


@dataclass(frozen=True, slots=True)
class Budget:
    """How much of the kept frames a device may have within any stretch of time of one length.

    One stream alone gets four fifths: whoever has something leaves a quarter of it to others, so
    that a stream which comes later need not wait for a whole period.
    """

    amount: int
    unit: Unit
    """A raw image counts with the bytes of its pixels, which is more than its PNG has."""
    seconds: float

    def __post_init__(self) -> None:
        least = 2 if self.unit == "frames" else 1
        if self.amount < least:
            raise InvalidInput(
                f"budget is {self.amount} {self.unit} in {self.seconds:g} s; expected {least} or "
                "more. To keep nothing, start without a spool"
            )
        if not 0 < self.seconds < math.inf:
            raise InvalidInput(
                f"budget is for {self.seconds:g} s; expected a length of time, for example 3600"
            )

    def cost(self, frame_bytes: int) -> int:
        """Tokens that a frame takes."""
        return 1 if self.unit == "frames" else max(1, frame_bytes)

    @property
    def period(self) -> str:
        """Its length of time, for people."""
        names = {MINUTE: "minute", HOUR: "hour", DAY: "day"}
        return names.get(self.seconds, f"{self.seconds:g} s")

    def reserve(self, share: float) -> int:
        """Tokens that only the audit sample may take, of a share above 0 at least one."""
        return min(max(1, math.floor(share * self.amount)), self.amount - 1) if share else 0


@dataclass(frozen=True, slots=True)
class Lot:
    """Tokens that a stream took at about one time."""

    returns_s: float
    stream: str
    audit: bool
    tokens: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """What of one budget is taken."""

    lots: tuple[Lot, ...] = ()
    """In the order in which they return."""
    taken: int = 0
    audited: int = 0
    """Of the taken, by the audit sample."""

    def at(self, now_s: float) -> "Bucket":
        """The same, without what has returned."""
        if not self.lots or self.lots[0].returns_s > now_s:
            return self
        return bucket_of(lot for lot in self.lots if lot.returns_s > now_s)

    def took(self, budget: Budget, now_s: float, stream: str, audit: bool, tokens: int) -> "Bucket":
        """The same, with tokens taken now; those of one slot of the period return together."""
        slot = budget.seconds / _SLOTS
        returns = (math.floor(now_s / slot) + 1) * slot + budget.seconds
        same = self._lots(returns, stream, audit)
        if not same and len(self.lots) >= MAX_LOTS:  # clients choose the names, and as many
            stream = ""
            same = self._lots(returns, stream, audit)
        rest = (lot for lot in self.lots if lot not in same)
        tokens += sum(lot.tokens for lot in same)
        return bucket_of([*rest, Lot(returns, stream, audit, tokens)])

    def _lots(self, returns_s: float, stream: str, audit: bool) -> list[Lot]:
        wanted = (returns_s, stream, audit)
        return [x for x in self.lots if (x.returns_s, x.stream, x.audit) == wanted]

    def left_to_audit(self, budget: Budget, share: float) -> int:
        """Tokens of the reserve that are there."""
        return min(budget.reserve(share) - self.audited, budget.amount - self.taken)

    def allows(self, budget: Budget, share: float, stream: str, tokens: int) -> bool:
        """Whether a stream may take tokens for its flags, beside the reserve and the others."""
        flagged = self.taken - self.audited
        free = min(budget.amount - budget.reserve(share) - flagged, budget.amount - self.taken)
        mine = sum(lot.tokens for lot in self.lots if lot.stream == stream and not lot.audit)
        left = free - tokens
        return left >= 0 and (mine == 0 or mine + tokens <= _LEFT * left)


def longest(seconds: float) -> float:
    """How long tokens of a budget for so many seconds are away at most."""
    return seconds * (1 + 1 / _SLOTS)


def bucket_of(lots: Iterable[Lot]) -> Bucket:
    """A bucket with its sums."""
    lots = tuple(sorted(lots, key=lambda lot: lot.returns_s))
    taken, audited = sum(x.tokens for x in lots), sum(x.tokens for x in lots if x.audit)
    return Bucket(lots, taken, audited)
