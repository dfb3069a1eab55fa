"""SIGHUP: settings are read again and take effect between two frames, all of them or none."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable

from misgiving.runtime.errors import MisgivingError
from misgiving.runtime.settings.model import Settings
from misgiving.runtime.verbs.notifying import READY, notify, reloading

log = logging.getLogger(__name__)


def reload_signal() -> asyncio.Event:
    """Set by each SIGHUP."""
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
    return asked


class Reloader:
    """Lets settings take effect whenever a signal says so.

    However often it says so meanwhile, they are read once more and not more often.

    Args:
        reread: gives what the file says now.
        apply: lets settings take effect, and says what has; raises before anything has, or not at
            all.
    """

    def __init__(
        self, reread: Callable[[], Settings], apply: Callable[[Settings], Awaitable[str]]
    ) -> None:
        self._reread = reread
        self._apply = apply

    async def run(self, asked: asyncio.Event) -> None:
        """Reload whenever it is asked for, for ever."""
        while True:
            await asked.wait()
            asked.clear()
            notify(*reloading())
            await self._reload()
            notify(READY)

    async def _reload(self) -> None:
        try:
            said = await self._apply(self._reread())
        except Exception as error:  # whatever it is, frames are answered
            ours = isinstance(error, MisgivingError)
            log.error("%s; the settings before stay in force", error, exc_info=not ours)
            return
        log.warning("reloaded; %s", said)
