"""A TCP proxy between two real ends, which cuts, delays, throttles and swallows."""

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

PIECE = 4096
"""Bytes that are passed on at once; a fault holds from the next of them on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Weather:
    """What happens to the bytes of all connections; by default nothing."""

    delay_s: float = 0.0
    """Of each piece."""
    bytes_per_second: float | None = None
    """In each direction of each connection."""
    blackhole: bool = False
    """Nothing is passed on, and nobody is told; what was taken is passed on afterwards."""

    @property
    def kind(self) -> str:
        """What it is called in a table."""
        if self.blackhole:
            return "blackhole"
        return "throttle" if self.bytes_per_second else "delay" if self.delay_s else "fair"


FAIR = Weather()


class Proxy:
    """Between HOST:PORT and those who connect to :attr:`address`. Its methods are for any thread.

    Args:
        target: may change at any time, for connections that come later.
    """

    def __init__(self, target: Callable[[], str]) -> None:
        self._target = target
        self._weather = FAIR
        self._changed = asyncio.Event()
        self._writers = set[asyncio.StreamWriter]()
        self._tasks = set[asyncio.Task[None]]()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._thread.start()
        starting = asyncio.start_server(self._connected, "127.0.0.1", 0)
        self._server = self._call(starting)
        port = self._server.sockets[0].getsockname()[1]
        self.address = f"127.0.0.1:{port}"

    def set(self, weather: Weather) -> None:
        """Have this weather from now on."""
        self._loop.call_soon_threadsafe(self._turn, weather)

    def cut(self) -> None:
        """Reset all connections of now, as a peer that is gone does."""
        self._call(self._reset())

    def close(self) -> None:
        """End everything."""
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _turn(self, weather: Weather) -> None:
        self._weather = weather
        self._changed.set()
        self._changed = asyncio.Event()

    async def _reset(self) -> None:
        for writer in list(self._writers):
            with suppress(OSError):  # without lingering, closing it sends RST
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
            writer.transport.abort()

    async def _end(self) -> None:
        self._server.close()
        await self._reset()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._joined(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._target().rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        self._writers.add(far_writer)
        try:
            there = asyncio.create_task(self._pass_on(reader, far_writer))
            back = asyncio.create_task(self._pass_on(far_reader, writer))
            try:
                await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (there, back):
                    task.cancel()
                await asyncio.gather(there, back, return_exceptions=True)
        finally:
            far_writer.transport.abort()
            self._writers.discard(far_writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(PIECE):
            while self._weather.blackhole:
                await self._changed.wait()
            weather = self._weather
            pause_s = weather.delay_s
            if weather.bytes_per_second:
                pause_s += len(piece) / weather.bytes_per_second
            if pause_s:
                await asyncio.sleep(pause_s)
            writer.write(piece)
            await writer.drain()


def storm(rng: random.Random) -> Weather:
    """Some bad weather; all of it lets a small frame pass in the end, but for a blackhole."""
    return rng.choice(
        [
            Weather(delay_s=rng.uniform(0.001, 0.05)),
            Weather(bytes_per_second=rng.uniform(20_000, 500_000)),
            Weather(blackhole=True),
        ]
    )


@contextmanager
def proxied(target: str) -> Iterator[Proxy]:
    """A proxy to one HOST:PORT."""
    proxy = Proxy(partial(str, target))
    try:
        yield proxy
    finally:
        proxy.close()
