"""What several threads want written, in one transaction: a sync of the disk serves them all."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from misgiving.collector.store.database import Locked

T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True)
class _Waiting(Generic[T, R]):
    item: T
    result: R | None = None
    error: BaseException | None = None
    done: bool = False


class Together(Generic[T, R]):
    """Gathers what comes while a write is under way for the next one.

    Where that fails, each of them is written by itself; but where the database is locked, nobody
    waits for it once more.

    Args:
        write: writes items at once, durably, and gives a result for each; all of them or none.
    """

    def __init__(self, write: Callable[[Sequence[T]], Sequence[R]]) -> None:
        self._write = write
        self._waiting: list[_Waiting[T, R]] = []
        self._turn = threading.Lock()
        """Held by whoever writes for all that wait."""
        self._state = threading.Lock()

    def do(self, item: T) -> R:
        """The result of an item, which is durable then; raises what writing it alone raised."""
        mine = _Waiting[T, R](item)
        with self._state:
            self._waiting.append(mine)
        with self._turn:
            if not mine.done:
                self._write_all()
        if mine.error:
            raise mine.error
        return mine.result  # type: ignore[return-value]  # there is one where there is no error

    def _write_all(self) -> None:
        with self._state:
            some, self._waiting = self._waiting, []
        if not self._written(some):
            if isinstance(locked := some[0].error, Locked):
                some += self._failed_meanwhile(locked)
            elif len(some) > 1:  # one that cannot be is not to spoil the rest
                for one in some:
                    self._written([one])
        for one in some:
            one.done = True

    def _failed_meanwhile(self, error: Locked) -> list[_Waiting[T, R]]:
        """Who came while the others waited in vain: of them, too, each has a minute at most."""
        with self._state:
            some, self._waiting = self._waiting, []
        for one in some:
            one.error = error
        return some

    def _written(self, some: Sequence[_Waiting[T, R]]) -> bool:
        try:
            results = self._write([one.item for one in some])
        except BaseException as error:  # whatever it is, nobody takes it for a result
            for one in some:
                one.error = error
            return False
        for one, result in zip(some, results, strict=True):
            one.result, one.error = result, None
        return True
