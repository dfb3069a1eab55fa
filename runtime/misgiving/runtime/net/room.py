"""What may be under way at once: calls, and the bytes of their messages.

gRPC reads a message whole before any code of ours sees it. So a call takes the room of the largest
message before it is read, and gives back what the message did not need.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import grpc
import grpc.aio

from misgiving.runtime.errors import ResourceExhausted
from misgiving.runtime.net.status import retry_hint

_RETRY_MS = 1_000
_OF_FRAMES = "Infer", "Upload", "UploadBatch"
"""Ends of the names of methods that take frames."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Of a server, for all of its clients together."""

    connections: int = 256
    """Beyond them a new one is hung up on."""
    calls: int = 256
    """Calls and streams at once."""
    message_bytes: int = 32 << 20
    """Largest message; raw RGB of 4096 × 2160 px fits."""
    in_flight_bytes: int = 1 << 30
    """Messages at once: what came and, of each call whose message is still to come and of each
    stream, the largest message."""
    kept: int = 0
    """Messages of a stream that are there while the next one comes."""
    wait_s: float = 5.0
    """How long a call waits for room before it is refused."""
    busy: grpc.StatusCode = grpc.StatusCode.RESOURCE_EXHAUSTED
    """Of a call for which there is no room."""
    setting: str = ""
    """That gives more room."""


class Room:
    """Who is under way, and who waits for room; first come, first served."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.calls = 0
        self.taken = 0
        """Bytes."""
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def enter(self) -> None:
        """Count a call; raises ResourceExhausted where there are too many."""
        self.calls += 1
        if self.calls > self.limits.calls:
            raise _exhausted(
                f"{self.calls - 1} calls are under way; at most {self.limits.calls} are taken. "
                "Send fewer at a time, or try again later"
            )

    def leave(self) -> None:
        self.calls -= 1

    async def take(self, size: int, has: int = 0) -> None:
        """Take so many bytes; wait for them where they are not free.

        Args:
            size: to take.
            has: what the same call has taken already.

        Raises:
            ResourceExhausted: they were not in time, or never will be.
        """
        if (whole := size + has) > self.limits.in_flight_bytes:  # nobody waits behind it
            raise ResourceExhausted(
                f"its messages take {whole:,} bytes; at most {self.limits.in_flight_bytes:,} are "
                f"taken of all together. Send smaller ones{self._more}"
            )
        if not self._waiting and self._fits(size):
            self.taken += size
            return
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append((size, turn))
        late = loop.call_later(self.limits.wait_s, self._refuse, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.exception() is None:  # granted in the same moment
                self.free(size)
            raise
        finally:
            late.cancel()
            self._grant()

    def free(self, size: int) -> None:
        """Give so many bytes back."""
        self.taken -= size
        self._grant()

    @property
    def _more(self) -> str:
        return f", or raise {self.limits.setting}" if self.limits.setting else ""

    def _fits(self, size: int) -> bool:
        return self.taken + size <= self.limits.in_flight_bytes

    def _grant(self) -> None:
        while self._waiting and (self._waiting[0][1].done() or self._fits(self._waiting[0][0])):
            size, turn = self._waiting.popleft()
            if not turn.done():
                self.taken += size
                turn.set_result(None)

    def _refuse(self, turn: "asyncio.Future[None]") -> None:
        if turn.done():
            return
        turn.set_exception(
            _exhausted(
                f"messages take {self.taken:,} bytes, and each stream as much as the largest one; "
                f"at most {self.limits.in_flight_bytes:,} are taken. "
                f"Send fewer or smaller ones at a time, or try again later{self._more}"
            )
        )


class Held:
    """The room of one call, until it leaves."""

    def __init__(self, room: Room, streams: bool) -> None:
        self._room = room
        self._streams = streams
        self._size = room.limits.message_bytes
        self._came = self._largest = 0
        self._left = False

    def came(self, size: int) -> None:
        """A message of so many bytes is there; that of a call is the only one."""
        self._came = size
        if not (self._streams or self._left):
            self._room.free(self._size - size)
            self._size = size

    async def keep(self) -> None:
        """Before a stream's message is handed on: there is room for it and the next."""
        if (more := self._room.limits.kept * (self._came - self._largest)) <= 0:
            return
        self._largest = self._came
        await self._room.take(more, self._size)
        if self._left:
            self._room.free(more)
        else:
            self._size += more

    def leave(self, _: object = None) -> None:
        self._left = True
        self._room.free(self._size)


_held: ContextVar[Held] = ContextVar("held")
"""The room of the present call."""


def held() -> Held | None:
    """The room of the call that is being answered."""
    return _held.get(None)


class Admission(grpc.aio.ServerInterceptor):
    """Lets a call's messages be read as soon as there is room.

    Calls without a frame have a little room of their own: whoever asks for a server's health must
    hear of it most of all when the server is full.
    """

    def __init__(self, limits: Limits) -> None:
        self._room = Room(limits)
        self._aside = Room(replace(limits, in_flight_bytes=4 * limits.message_bytes, setting=""))

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        call = asyncio.current_task()
        assert call is not None  # gRPC makes one for each call, which ends with it
        if handler is None:
            return None
        takes_frames = handler_call_details.method.endswith(_OF_FRAMES)
        room = self._room if takes_frames else self._aside
        call.add_done_callback(lambda _: room.leave())
        try:
            room.enter()
            await room.take(room.limits.message_bytes)
        except ResourceExhausted as error:
            return self._refusal(error)
        _held.set(its := Held(room, handler.request_streaming))
        call.add_done_callback(its.leave)
        return handler

    def _refusal(self, error: ResourceExhausted) -> Any:
        """Answers in the place of whatever was called; of a stream no message must be read."""

        async def refuse(requests: Any, context: Any) -> None:
            await context.abort(self._room.limits.busy, str(error), retry_hint(error))

        return grpc.stream_unary_rpc_method_handler(refuse)


def _exhausted(text: str) -> ResourceExhausted:
    error = ResourceExhausted(text)
    error.retry_after_ms = _RETRY_MS
    return error
