"""When is a camera frozen? Pure: frames and the time in, said once."""

import logging

log = logging.getLogger(__name__)


class Watchdog:
    """Knows when the last frame came.

    Args:
        name: of the camera.
        frozen_s: seconds without a frame after which it is frozen.
        now_s: monotonic.
    """

    def __init__(self, name: str, frozen_s: float, now_s: float) -> None:
        self.freezes = 0
        """How often it froze."""
        self.frozen = False
        self._name = name
        self._frozen_s = frozen_s
        self._last_s = now_s

    def see(self, now_s: float) -> None:
        """A frame came."""
        if self.frozen:
            log.warning("%s: a frame came after %.1f s", self._name, now_s - self._last_s)
        self.frozen = False
        self._last_s = now_s

    def check(self, now_s: float) -> None:
        """Time has passed; the first check that finds it frozen says so."""
        if self.frozen or now_s - self._last_s <= self._frozen_s:
            return
        self.frozen = True
        self.freezes += 1
        log.error("%s is frozen: no frame for %.1f s", self._name, now_s - self._last_s)
