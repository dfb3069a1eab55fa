"""What a collector does beside its calls: a summary a minute, and retention."""

import asyncio
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext

from misgiving.collector.frames.arrivals import Arrivals
from misgiving.collector.frames.devices import DAY_NS
from misgiving.collector.frames.erasing import erase_old
from misgiving.collector.store import Store
from misgiving.collector.store.folding import fold
from misgiving.runtime.errors import MisgivingError
from misgiving.runtime.telemetry.scraping import scraped

log = logging.getLogger(__name__)

_SUMMARY_S = 60.0
_RETENTION_S = 3600.0


@asynccontextmanager
async def kept_up(
    store: Store, arrivals: Arrivals, keep_days: int | None = None, metrics: str | None = None
) -> AsyncIterator[None]:
    """Meanwhile, log what arrives, and erase what is older than so many days.

    Frames with labels stay, and so does what arrived later. ``metrics`` is the HOST:PORT at which
    Prometheus is answered.
    """
    stopping = threading.Event()
    tasks = [asyncio.create_task(_often(_SUMMARY_S, _summary(arrivals)))]
    tasks.append(asyncio.create_task(_often(_SUMMARY_S, _folding(store), at_once=True)))
    if keep_days is not None:
        task = _often(_RETENTION_S, _retention(store, arrivals, keep_days, stopping), at_once=True)
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


def _retention(
    store: Store, arrivals: Arrivals, keep_days: int, stopping: threading.Event
) -> Callable[[], Awaitable[None]]:
    async def retain() -> None:
        before_ns = time.time_ns() - keep_days * DAY_NS
        try:
            erased = await asyncio.to_thread(erase_old, store, before_ns, stopping.is_set)
        except (MisgivingError, OSError) as error:  # the next hour may find it better
            log.warning("retention: %s", error)
        else:
            arrivals.erased(erased.frames)

    return retain
