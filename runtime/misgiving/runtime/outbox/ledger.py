"""What was spent of the budgets, in a file that outlives the process."""

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from misgiving.runtime.durable import write_durably
from misgiving.runtime.errors import DataError
from misgiving.runtime.flags.policy import FlagState
from misgiving.runtime.flags.saving import Moment, restored, saved

log = logging.getLogger(__name__)

LEDGER = "budgets.json"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Ledger:
    """A file beside a spool, whose folder must be there; a thread writes it.

    Only a process that is killed within the moments that a write takes forgets a frame.

    Args:
        folder: of the spool.
        named: write which stream spent; else a restart knows what the device spent, and no
            stream's part of it.
    """

    def __init__(self, folder: Path, *, named: bool = True) -> None:
        self._named = named
        self._path = folder / LEDGER
        self._lock = threading.Lock()
        self._next: tuple[FlagState, Moment] | None = None
        self._failing = False
        self._boot = _BOOT.read_text().strip() if _BOOT.exists() else ""  # elsewhere than on Linux
        for left in folder.glob(f".{LEDGER}.*"):  # by a process that was killed as it wrote
            left.unlink(missing_ok=True)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="ledger")

    def recalled(self, state: FlagState) -> FlagState:
        """A new state that goes on with what the last process had spent, where there was one."""
        try:
            return restored(state, self._path.read_bytes(), self._now())
        except FileNotFoundError:
            pass
        except (DataError, OSError) as error:
            log.warning("%s cannot be read, budgets start full: %s", self._path, error)
        return state

    def note(self, state: FlagState) -> None:
        """Have a state written, soon; the newest one wins. Never blocks."""
        with self._lock:
            idle, self._next = self._next is None, (state, self._now())
        if idle:
            self._writer.submit(self._write)

    def close(self) -> None:
        """Write what is noted, and stop."""
        self._writer.shutdown()

    def _now(self) -> Moment:
        if not self._boot:
            return Moment(time.time())
        return Moment(time.time(), self._boot, time.clock_gettime(time.CLOCK_BOOTTIME))

    def _write(self) -> None:
        with self._lock:
            noted, self._next = self._next, None
        assert noted is not None, "written only where something is noted"
        try:
            write_durably(self._path, saved(*noted, named=self._named))
        except OSError as error:
            if not self._failing:  # it is written with every kept frame
                log.error(
                    "%s cannot be written, a restart would spend again: %s", self._path, error
                )
            self._failing = True
        else:
            self._failing = False
