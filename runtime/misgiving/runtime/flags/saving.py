"""What was spent, as JSON that outlives the process: pure.

Times are kept as what remains until tokens return. How long the process was away is told by a clock
that nobody sets, where the system was not started meanwhile; else by the wall clock, which may be
wrong: one that went back lets no time pass, one that leapt ahead returns what was spent, and never
more than that.
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from misgiving.runtime.errors import DataError, first_problem
from misgiving.runtime.flags.budgets import Bucket, Lot, Unit, bucket_of, longest
from misgiving.runtime.flags.policy import FlagState

_NOBODY = "\0"
"""Instead of a stream's name; that of one that gives none is empty."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A time that another process can compare with its own."""

    unix_s: float
    boot: str = ""
    """Id of the system's start; empty where it is not known."""
    up_s: float = 0.0
    """Since that start, standby included."""

    def since(self, before: "Moment") -> float:
        """Seconds, from 0 on."""
        if self.boot and self.boot == before.boot:
            return max(0.0, self.up_s - before.up_s)
        return max(0.0, self.unix_s - before.unix_s)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Lot(_Part):
    returns_in_s: FiniteFloat
    stream: str
    audit: bool
    tokens: int = Field(gt=0)


class _Bucket(_Part):
    unit: Unit
    seconds: FiniteFloat
    lots: tuple[_Lot, ...]


class _Saved(_Part):
    version: Literal[1]
    saved_unix_s: FiniteFloat
    boot: str = ""
    up_s: FiniteFloat = 0.0
    buckets: tuple[_Bucket, ...]


def saved(state: FlagState, now: Moment, *, named: bool = True) -> bytes:
    """What a state has spent, now; without the names of streams where they are nobody's business.

    What is spent without a name counts for the device, and for no stream's part of it.
    """
    buckets = tuple(
        _Bucket(unit=budget.unit, seconds=budget.seconds, lots=_lots(bucket, state.clock_s, named))
        for budget, bucket in state.buckets.items()
    )
    record = _Saved(
        version=1, saved_unix_s=now.unix_s, boot=now.boot, up_s=now.up_s, buckets=buckets
    )
    return record.model_dump_json().encode()


def restored(state: FlagState, text: bytes, now: Moment) -> FlagState:
    """A new state that goes on with what an old one had spent; other budgets' is forgotten.

    Raises:
        DataError: the text was not written by :func:`saved`.
    """
    try:
        old = _Saved.model_validate_json(text)
    except ValidationError as error:
        raise DataError(f"{first_problem(error)}; expected what 'saved' wrote") from error
    away = now.since(Moment(old.saved_unix_s, old.boot, old.up_s))
    spent = {(one.unit, one.seconds): one for one in old.buckets}
    buckets = {
        budget: _bucket(one, state.clock_s - away)
        for budget in state.policy.budgets
        if (one := spent.get((budget.unit, budget.seconds)))
    }
    return FlagState(state.policy, state.drift, buckets=buckets)


def _lots(bucket: Bucket, now_s: float, named: bool) -> tuple[_Lot, ...]:
    return tuple(
        _Lot(
            returns_in_s=x.returns_s - now_s,
            stream=x.stream if named else _NOBODY,
            audit=x.audit,
            tokens=x.tokens,
        )
        for x in bucket.lots
    )


def _bucket(old: _Bucket, then_s: float) -> Bucket:
    most = longest(old.seconds)  # no file blocks for longer
    return bucket_of(
        Lot(then_s + min(lot.returns_in_s, most), lot.stream, lot.audit, lot.tokens)
        for lot in old.lots
    )
