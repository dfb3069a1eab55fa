"""Messages of a call that nobody reads any more; gRPC never frees a call of which one was left."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

_reading: set["asyncio.Task[None]"] = set()


def read_to_the_end(requests: AsyncIterator[Any]) -> None:
    """Read what is left in a task of its own, which ends once the call's status is out.

    Whoever reads still goes on alone.
    """
    _reading.add(task := asyncio.create_task(_exhausted(requests)))
    task.add_done_callback(_reading.discard)


async def _exhausted(requests: AsyncIterator[Any]) -> None:
    with contextlib.suppress(Exception):
        async for _ in requests:
            pass
