"""What a vehicle is told where the store fails, and what the log says of it."""

import logging
import math
import time
from collections.abc import Callable
from typing import Any, NoReturn

from misgiving.collector.store import StoreReplaced, StoreUnavailable
from misgiving.runtime.errors import FailedPrecondition, MisgivingError
from misgiving.runtime.net.status import refuse

log = logging.getLogger(__name__)

_QUIET_S = 60.0
_MOST = 100
"""Faults that are remembered."""


class StoreFailed(MisgivingError):
    """The disk does not take the frame now; a later attempt may find it better."""

    status = "UNAVAILABLE"


class Faults:
    """Ends calls with the status of their errors.

    Where the store is, is not for vehicles: that is in the log alone, and once a minute, for all
    of them come back as long as it is away.

    Args:
        clock: monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said = dict[str, float]()
        self._unsaid = 0

    async def end(self, context: Any, error: Exception) -> NoReturn:
        """End a call; what is no fault of the call's is logged."""
        if isinstance(error, StoreUnavailable):
            self._log(str(error))
            error = StoreFailed("the store does not answer now. Keep the frame, and send it again")
        elif isinstance(error, StoreReplaced):
            self._log(str(error))
            error = FailedPrecondition(
                "the store is gone, or another one than was opened; expected it to stay. Keep the "
                "frame; the collector's log says what to do"
            )
        elif isinstance(error, OSError):
            self._log(f"the store failed: {error}")
            error = StoreFailed(f"the store failed: {error.strerror}")
        await refuse(context, error)

    def _log(self, text: str) -> None:
        now = self._clock()
        if now - self._said.get(text, -math.inf) < _QUIET_S:
            self._unsaid += 1
            return
        if len(self._said) >= _MOST:
            self._said.clear()
        self._said[text] = now
        more = f" ({self._unsaid} calls before were not logged)" if self._unsaid else ""
        self._unsaid = 0
        log.error("%s%s", text, more)
