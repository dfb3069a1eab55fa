"""SIGHUP: settings are read again and take effect between two frames, all of them or none."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence

from misgiving.runtime.errors import MisgivingError
from misgiving.runtime.settings.changing import check_change
from misgiving.runtime.settings.model import Settings
from misgiving.runtime.verbs.notifying import READY, notify, reloading

log = logging.getLogger(__name__)


def reload_signal() -> asyncio.Event:
    """Set by each SIGHUP."""
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
    return asked


class Reloader:
    """The settings in force, until others are read.

    Args:
        settings: in force.
        reread: gives what the file says now.
        apply: lets settings take effect, and says what else has changed; raises before anything
            has, or not at all.
    """

    def __init__(
        self,
        settings: Settings,
        reread: Callable[[], Settings],
        apply: Callable[[Settings], Awaitable[Sequence[str]]],
    ) -> None:
        self._settings = settings
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
            new = self._reread()
            changed = check_change(self._settings, new)
            changed = (*changed, *await self._apply(new))
        except Exception as error:  # whatever it is, frames are answered
            ours = isinstance(error, MisgivingError)
            log.error("%s; the settings before stay in force", error, exc_info=not ours)
            return
        self._settings = new
        log.warning("reloaded; %s", f"changed: {', '.join(changed)}" if changed else "no change")
