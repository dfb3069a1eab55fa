"""How a process that answers frames asks the system for memory."""

import contextlib
import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's mallopt(3)."""


def keep_freed() -> None:
    """Keep what a frame has freed for the next one, up to 64 MiB at a time.

    glibc gives so large pieces back at once, and to get one anew costs a page fault for each 4 KiB:
    more than all else that a server does for a raw frame. Other C libraries are left alone.
    """
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, 32 << 20)  # the most that is taken
        libc.mallopt(_TRIM_THRESHOLD, 64 << 20)
