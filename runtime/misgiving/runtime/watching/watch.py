"""All cameras at once, until they end or are told to stop."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence

from misgiving.runtime.watching.camera import Camera

log = logging.getLogger(__name__)

_CHECK_S = 0.5


async def watch(
    cameras: Sequence[Camera],
    asked: asyncio.Event,
    stop: threading.Event,
    grace_s: float,
    begun: Callable[[], None],
) -> None:
    """Answer all cameras until each has ended; what they accepted is answered first.

    Args:
        cameras: share one pipeline.
        asked: set where the process is to end.
        stop: what the cameras look at.
        grace_s: how long the last answers may take after that.
        begun: called once every camera was tried, and one of them gives frames.

    Raises:
        MisgivingError: no camera gives a frame at the start. One that does is worth going on.
    """
    running = [asyncio.create_task(camera.run()) for camera in cameras]
    stopping = asyncio.create_task(_stopping(asked, stop, grace_s, running))
    checking = asyncio.create_task(_checking(cameras))
    try:
        for camera in cameras:
            await camera.tried.wait()
        errors = [camera.error for camera in cameras if camera.error]
        if len(errors) == len(cameras) and not asked.is_set():
            raise errors[0]
        for camera in cameras:
            if camera.again and camera.error:
                log.warning("%s; trying again until it does", camera.error)
        begun()
        ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_EXCEPTION)
        for task in ended:
            if not task.cancelled():  # out of grace
                task.result()
    finally:
        stop.set()
        for task in (stopping, checking, *running):
            task.cancel()
        await asyncio.gather(stopping, checking, *running, return_exceptions=True)


async def _stopping(
    asked: asyncio.Event,
    stop: threading.Event,
    grace_s: float,
    running: Sequence["asyncio.Task[None]"],
) -> None:
    await asked.wait()
    stop.set()
    await asyncio.sleep(grace_s)
    for task in running:
        task.cancel()


async def _checking(cameras: Sequence[Camera]) -> None:
    while True:
        await asyncio.sleep(_CHECK_S)
        for camera in cameras:
            camera.watchdog.check(time.monotonic())
