"""What a collector does beside its calls: a summary a minute, retention, rows that are missing."""

import asyncio
import logging
import math
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass

from misgiving.collector.frames.arrivals import Arrivals
from misgiving.collector.frames.devices import DAY_NS
from misgiving.collector.frames.erasing import erase_old
from misgiving.collector.store import Store
from misgiving.collector.store.folding import fold
from misgiving.runtime.errors import InvalidInput, MisgivingError
from misgiving.runtime.telemetry.scraping import scraped

log = logging.getLogger(__name__)

_SUMMARY_S = 60.0
_RETENTION_S = 3600.0
_COMPLETION_S = 86_400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Retention:
    """How long a collector keeps what has arrived; by default for ever.

    >>> Retention(days=90, labelled_days=365).days
    90

    Raises:
        InvalidInput: a number is out of range, or frames with labels go before the others.
    """

    days: int | None = None
    """From a frame's arrival on, but for frames with labels. Notes of declined frames go as well,
    and unfinished uploads."""
    labelled_days: int | None = None
    """The same of frames with labels; None keeps these."""

    def __post_init__(self) -> None:
        for name in ("days", "labelled_days"):
            days, option = getattr(self, name), f"--keep-{name.replace('_', '-')}"
            if days is not None and days < 1:
                raise InvalidInput(f"{option} is {days}; expected a number of days from 1 on")
        if self.labelled_days is not None and self.labelled_days < (self.days or math.inf):
            raise InvalidInput(
                f"--keep-labelled-days is {self.labelled_days} and --keep-days is "
                f"{self.days or 'not given'}; expected frames with labels to stay as long as the "
                "others, or longer. Give both, the first at least as large"
            )


@asynccontextmanager
async def kept_up(
    store: Store,
    arrivals: Arrivals,
    retention: Retention = Retention(),
    metrics: str | None = None,
) -> AsyncIterator[None]:
    """Meanwhile, log what arrives, and erase what is old; what arrived later stays.

    ``metrics`` is the HOST:PORT at which Prometheus is answered.
    """
    stopping = threading.Event()
    tasks = [asyncio.create_task(_often(_SUMMARY_S, _summary(arrivals)))]
    completion = _completion(store, stopping)
    tasks.append(asyncio.create_task(_often(_COMPLETION_S, completion, at_once=True)))
    tasks.append(asyncio.create_task(_often(_SUMMARY_S, _folding(store), at_once=True)))
    if retention.days is not None:
        task = _often(_RETENTION_S, _retaining(store, arrivals, retention, stopping), at_once=True)
        tasks.append(asyncio.create_task(task))
    try:
        with scraped(arrivals.registry, metrics) if metrics else nullcontext() as address:
            if address:
                print(f"metrics on http://{address}/metrics", file=sys.stderr, flush=True)
            yield
    finally:
        stopping.set()
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        arrivals.summarise()


async def _often(
    seconds: float, do: Callable[[], Awaitable[None]], *, at_once: bool = False
) -> None:
    while True:
        if not at_once:
            await asyncio.sleep(seconds)
        at_once = False
        await do()


def _summary(arrivals: Arrivals) -> Callable[[], Awaitable[None]]:
    async def summarise() -> None:
        arrivals.summarise()

    return summarise


def _folding(store: Store) -> Callable[[], Awaitable[None]]:
    async def folds() -> None:
        try:
            await asyncio.to_thread(fold, store.database)
        except MisgivingError as error:  # the sums are right all the same
            log.warning("sums: %s", error)

    return folds


def _retaining(
    store: Store, arrivals: Arrivals, retention: Retention, stopping: threading.Event
) -> Callable[[], Awaitable[None]]:
    async def retain() -> None:
        now_ns = time.time_ns()
        before_ns, labelled_before_ns = (
            None if days is None else now_ns - days * DAY_NS
            for days in (retention.days, retention.labelled_days)
        )
        assert before_ns is not None, "else nothing is erased"
        try:
            erased = await asyncio.to_thread(
                erase_old, store, before_ns, labelled_before_ns, stopping.is_set
            )
        except (MisgivingError, OSError) as error:  # the next hour may find it better
            log.warning("retention: %s", error)
        else:
            arrivals.erased(erased.frames)

    return retain


def _completion(store: Store, stopping: threading.Event) -> Callable[[], Awaitable[None]]:
    """Of objects that a killed collector left without a row a day ago or longer."""

    async def complete() -> None:
        try:
            before_ns = time.time_ns() - DAY_NS
            await asyncio.to_thread(store.complete, before_ns, stopping.is_set)
        except (MisgivingError, OSError) as error:  # tomorrow may find it better
            log.warning("objects without a row: %s", error)

    return complete
