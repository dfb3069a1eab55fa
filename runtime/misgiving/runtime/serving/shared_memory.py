"""Memory through which clients on this machine hand over raw frames.

The server makes each piece and names it: no path comes from a client. A client that knows a piece's
token is the one that it was given to. A frame is read once, into an array of our own; whatever a
client does to its memory meanwhile spoils the picture of that frame and nothing else. That is why
nothing is mapped here: in a mapping of a file that somebody truncates, reading ends the process.
"""

import asyncio
import contextlib
import fcntl
import ipaddress
import os
import secrets
from collections.abc import AsyncIterator
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime import images
from misgiving.runtime.errors import (
    FailedPrecondition,
    ImageError,
    InvalidInput,
    ResourceExhausted,
)
from misgiving.runtime.wire.sharing import FOLDER, PREFIX, Lent, Slot

MAX_SLOTS = 64
MAX_PIECES = 32
_AT_ONCE = 1 << 20
"""Bytes that are taken from the system at a time: streams are answered in between."""
_COPIES = 2
"""Of a piece's size, that are under way at once."""
_SEND = "Ask for memory with ShareMemory, or send the pixels as 'raw'"


class SharedMemory:
    """Pieces of memory that are lent to clients, each for as long as its call lasts."""

    def __init__(self, limit_bytes: int) -> None:
        """Lend nothing yet.

        Args:
            limit_bytes: of all pieces together; 0 lends none.
        """
        self._limit_bytes = limit_bytes
        self._lent_bytes = self._count = 0
        self._pieces: dict[bytes, _Piece] = {}
        self.ended = asyncio.Event()
        """Set once every piece is to be given back."""

    @contextlib.asynccontextmanager
    async def lent(self, slots: int, slot_bytes: int, peer: str) -> AsyncIterator[Lent]:
        """A new piece, there until this is left.

        Args:
            slots: frames that it holds.
            slot_bytes: of each of them.
            peer: who asks, in gRPC's words.

        Raises:
            InvalidInput: there are too many slots, or none.
            ResourceExhausted: that is more than there is.
            FailedPrecondition: the peer is elsewhere, or this machine has no shared memory.
        """
        size = self._check(slots, slot_bytes, peer)
        self._count += 1
        self._lent_bytes += size
        try:
            async with _made(slots, slot_bytes) as piece:
                self._pieces[piece.lent.token] = piece
                try:
                    yield piece.lent
                finally:
                    del self._pieces[piece.lent.token]
        finally:
            self._count -= 1
            self._lent_bytes -= size

    def read(self, slot: Slot, height: int, width: int, name: str) -> NDArray[np.uint8]:
        """The picture in a slot, as it is now: RGB (height, width, 3).

        Args:
            slot: as a client says; nothing of it is believed.
            height: of the picture, in px, as the client says; and so is ``width``.
            width: see ``height``.
            name: what messages call the picture.

        Raises:
            ImageError: there is no such slot, or the picture does not fit it.
            ResourceExhausted: more than images.MAX_PIXELS, or many frames are in one slot.
        """
        images.check_size(height, width, name)
        if (piece := self._pieces.get(slot.token)) is None:
            raise ImageError(
                f"{name} is in shared memory that is not lent, or no longer; expected the token of "
                f"a call that is open. {_SEND}"
            )
        lent, size = piece.lent, height * width * 3
        if slot.number >= lent.slots:
            raise ImageError(
                f"{name} is in slot {slot.number}; expected one from 0 to {lent.slots - 1}. {_SEND}"
            )
        if not 0 < size <= lent.slot_bytes:
            raise ImageError(
                f"{name} is {width} × {height} px, {size} bytes; expected 1 to {lent.slot_bytes}, "
                f"which a slot holds. {_SEND}"
            )
        piece.begin(size, name)
        pixels = np.empty((height, width, 3), np.uint8)
        if piece.read(slot.number, pixels) != size:
            raise ImageError(
                f"{name} is in shared memory that was cut short; expected its size to stay. {_SEND}"
            )
        return pixels

    def _check(self, slots: int, slot_bytes: int, peer: str) -> int:
        """The bytes of a piece that may be lent."""
        if not self._limit_bytes:
            raise FailedPrecondition(
                "shared memory is off here; expected server.shared_memory above 0. "
                "Set it, or send the pixels as 'raw'"
            )
        if not is_on_this_machine(peer):
            raise FailedPrecondition(
                f"{peer} asks for shared memory; expected a client on this machine, by loopback. "
                "Send the pixels as 'raw'"
            )
        if not 0 < slots <= MAX_SLOTS or not slot_bytes:
            raise InvalidInput(
                f"{slots} slots of {slot_bytes} bytes are asked for; expected 1 to {MAX_SLOTS} of "
                "at least 1. Ask for these"
            )
        left = self._limit_bytes - self._lent_bytes
        if slots * slot_bytes > left or self._count >= MAX_PIECES:
            raise ResourceExhausted(
                f"{slots} slots of {slot_bytes} bytes are asked for; {max(0, left)} of "
                f"{self._limit_bytes} bytes and {MAX_PIECES - self._count} of {MAX_PIECES} pieces "
                "are left. Raise server.shared_memory, or send the pixels as 'raw'"
            )
        return slots * slot_bytes


class _Piece:
    """A file of shared memory, empty at first; its lock says that its server lives."""

    def __init__(self, slots: int, slot_bytes: int) -> None:
        name = f"{PREFIX}{os.getpid()}-{secrets.token_hex(16)}"
        token = secrets.token_bytes(16)
        self.lent = Lent(name=name, token=token, slots=slots, slot_bytes=slot_bytes)
        self._handle = os.open(FOLDER / name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self._named = True
        self._under_way = 0  # bytes
        fcntl.flock(self._handle, fcntl.LOCK_SH)

    async def fill(self) -> None:
        """Take all its memory from the system: what lacks would end a client that writes to it."""
        size = self.lent.slots * self.lent.slot_bytes
        for at in range(0, size, _AT_ONCE):
            os.posix_fallocate(self._handle, at, min(_AT_ONCE, size - at))
            await asyncio.sleep(0)

    def begin(self, size: int, name: str) -> None:
        """Count a copy until the task that answers it ends: a message that names a slot is small,
        and many at once would take any amount of memory.

        Raises:
            ResourceExhausted: of more than a frame a slot, and the one before whose reply has left.
        """
        most = _COPIES * self.lent.slots * self.lent.slot_bytes
        if self._under_way + size > most:
            raise ResourceExhausted(
                f"{name} is in shared memory of which copies of {self._under_way} bytes are under "
                f"way; at most {most} are taken. Write to a slot again when its frame is answered"
            )
        self._under_way += size
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _: self._end(size))

    def _end(self, size: int) -> None:
        self._under_way -= size

    def read(self, number: int, pixels: NDArray[np.uint8]) -> int:
        """Fill an array from a slot; the number of bytes that were there."""
        self._unname()  # its client has it
        return os.preadv(self._handle, [pixels.data], number * self.lent.slot_bytes)

    def close(self) -> None:
        self._unname()
        os.close(self._handle)

    def _unname(self) -> None:
        """Without a name nothing is left of it, however this process and the client's end."""
        if self._named:
            self._named = False
            with contextlib.suppress(FileNotFoundError):
                os.unlink(FOLDER / self.lent.name)


@contextlib.asynccontextmanager
async def _made(slots: int, slot_bytes: int) -> AsyncIterator[_Piece]:
    with contextlib.ExitStack() as undo:
        try:
            piece = undo.enter_context(contextlib.closing(_Piece(slots, slot_bytes)))
            await piece.fill()
        except OSError as error:
            raise FailedPrecondition(
                f"{slots * slot_bytes} bytes of shared memory cannot be made: {error.strerror}; "
                f"expected room in {FOLDER}. Make it larger, or send the pixels as 'raw'"
            ) from error
        yield piece


def is_on_this_machine(peer: str) -> bool:
    """Whether a peer, such as ``ipv4:127.0.0.1:50051``, came by loopback."""
    kind, _, address = unquote(peer).partition(":")
    host = address.rpartition(":")[0].strip("[]")
    if kind not in ("ipv4", "ipv6"):
        return False
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        return False
    return (getattr(number, "ipv4_mapped", None) or number).is_loopback


def sweep() -> None:
    """Remove the names that servers have left which were killed before a client's first frame."""
    for path in FOLDER.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, a server's that lives, or gone by now
            handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(handle)
