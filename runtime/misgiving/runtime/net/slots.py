"""Raw frames handed to a server on the same machine through shared memory, where it lends some."""

import logging
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.errors import FailedPrecondition
from misgiving.runtime.wire.sharing import FOLDER, PREFIX, Lent, Slot, memory_request, to_lent

log = logging.getLogger(__name__)

SLOTS = 8
"""As many as an in-order stream has frames under way."""
LEAST_BYTES = 128 * 1024
"""Of a frame: a smaller one costs as much where it is sent."""
_UNSETTLED = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)
"""How a call ends whose frame a server may still be about to read."""


@dataclass(frozen=True, slots=True)
class _Memory:
    """What a server has lent; ``call`` holds it."""

    lent: Lent
    handle: int
    call: Any
    free: list[int]
    lost: list[int] = field(default_factory=list)
    """Of frames that were not settled: the server may still read them."""

    @property
    def unused(self) -> bool:
        return len(self.free) == self.lent.slots

    def write(self, number: int, image: NDArray[np.uint8]) -> bool:
        """Whether a slot holds the whole image now."""
        pixels = np.ascontiguousarray(image).data
        try:
            return os.pwrite(self.handle, pixels, number * self.lent.slot_bytes) == image.nbytes
        except OSError:  # a system that gives its memory only when it is written to
            return False

    def close(self) -> None:
        self.call.cancel()
        os.close(self.handle)


class Slots:
    """Where raw frames lie until they are settled. None is given where a frame has to travel."""

    def __init__(self, server: str, ask: Callable[[Any], Any] | None, timeout_s: float) -> None:
        """Ask for nothing yet.

        Args:
            server: what the log calls it.
            ask: the server's ShareMemory; None for one that is elsewhere, or not to be asked.
            timeout_s: for its response.
        """
        self._server = server
        self._ask = ask
        self._timeout_s = timeout_s
        self._memory: _Memory | None = None
        self._refused = False
        self._lock = threading.Lock()

    @contextmanager
    def placed(self, image: bytes | NDArray[np.uint8]) -> Iterator[Slot | None]:
        """Of a call by itself: see :meth:`place`; the slot is free once the call is answered."""
        slot = self.place(image)
        try:
            yield slot
        except BaseException as error:
            if slot and isinstance(error, grpc.RpcError) and error.code() not in _UNSETTLED:
                self.free(slot)
            elif slot:
                self.abandon(slot)
            raise
        if slot:
            self.free(slot)

    def place(self, image: bytes | NDArray[np.uint8]) -> Slot | None:
        """Write a raw image to a free slot, for which :meth:`free` or :meth:`abandon` is called."""
        if self._ask is None or isinstance(image, bytes) or image.nbytes < LEAST_BYTES:
            return None
        with self._lock:
            memory = self._memory_for(image.nbytes)
            if memory is None or memory.lost or not memory.free:
                return None
            slot = Slot(memory.lent.token, memory.free.pop())
            if memory.write(slot.number, image):
                return slot
            memory.free.append(slot.number)  # no frame names it
            return None

    def free(self, slot: Slot) -> None:
        """Its frame is settled, so that the server does not read it any more."""
        self._return(slot, settled=True)

    def abandon(self, slot: Slot) -> None:
        """Its frame was not settled, and may still be read: the memory is given back as soon as
        no other frame is under way in it.
        """
        self._return(slot, settled=False)

    def forget(self) -> None:
        """Give the memory back, whatever is under way in it."""
        with self._lock:
            self._drop()
            self._refused = False

    def close(self) -> None:
        self.forget()

    def _return(self, slot: Slot, settled: bool) -> None:
        with self._lock:
            memory = self._memory
            if memory is None or memory.lent.token != slot.token:
                return
            (memory.free if settled else memory.lost).append(slot.number)
            if memory.lost and len(memory.free) + len(memory.lost) == memory.lent.slots:
                self._drop()

    def _memory_for(self, size: int) -> _Memory | None:
        """Memory with slots of so many bytes, where the server lends it."""
        memory = self._memory
        if memory and not memory.call.is_active():  # the server has gone away
            self._drop()
        elif memory and memory.lent.slot_bytes < size:
            if not memory.unused:
                return None
            self._drop()
        if self._memory is None and not self._refused:
            self._memory = self._lent(size)
        return self._memory

    def _drop(self) -> None:
        if self._memory:
            self._memory.close()
            self._memory = None

    def _lent(self, size: int) -> _Memory | None:
        assert self._ask is not None
        call = self._ask(memory_request(SLOTS, size))
        try:
            lent = to_lent(_first(call, self._timeout_s))
            return _Memory(lent, _opened(lent, size), call, list(range(lent.slots)))
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:  # asked again with the next frame
                return None
            why = f"{error.code().name}: {error.details()}"
        except FailedPrecondition as error:
            why = str(error)
        call.cancel()
        self._refused = True
        log.info("raw frames travel to %s, without shared memory: %s", self._server, why)
        return None


def _first(call: Any, timeout_s: float) -> Any:
    """The response of a call that has no end."""
    timer = threading.Timer(timeout_s, call.cancel)
    timer.start()
    try:
        return next(call)
    except StopIteration:
        raise FailedPrecondition("it lends none; expected some. See its log") from None
    finally:
        timer.cancel()


def _opened(lent: Lent, size: int) -> int:
    """Its file, after a look whether it is what a server makes: the name came from elsewhere."""
    if not re.fullmatch(PREFIX + "[0-9a-f-]+", lent.name):
        raise FailedPrecondition(
            f"{lent.name!r} is no name of shared memory; expected {PREFIX} and a number. "
            "See which server answers there"
        )
    try:
        handle = os.open(FOLDER / lent.name, os.O_RDWR | os.O_NOFOLLOW)
    except OSError as error:
        raise FailedPrecondition(
            f"{FOLDER / lent.name} cannot be opened: {error.strerror}; expected the server's user "
            f"and the same {FOLDER}. Run both as one user, in one container"
        ) from error
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode) or found.st_size != lent.slots * lent.slot_bytes:
        os.close(handle)
        raise FailedPrecondition(
            f"{FOLDER / lent.name} has {found.st_size} bytes; expected "
            f"{lent.slots} × {lent.slot_bytes}. See which server answers there"
        )
    if lent.slot_bytes < size:
        os.close(handle)
        raise FailedPrecondition(
            f"it lends slots of {lent.slot_bytes} bytes; expected {size}. "
            "See which server answers there"
        )
    return handle
