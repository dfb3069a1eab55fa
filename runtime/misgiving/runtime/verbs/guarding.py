"""What a server says of its engine, to health and to systemd's watchdog, while it runs."""

import asyncio
import contextlib
import logging
import time
from typing import Protocol

from misgiving.runtime.errors import EngineError, MisgivingError
from misgiving.runtime.serving.pipeline import Pipeline
from misgiving.runtime.serving.vitals import HANG_S
from misgiving.runtime.verbs.notifying import ALIVE, notify

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
PROBE_EVERY_S = 10.0
"""Between two tries of an engine that failed: clients stay away while health says so."""


class EngineHung(EngineError):
    """Its thread cannot be stopped: only the end of the process helps."""


class Health(Protocol):
    """Is told how the engine does; a Server is one."""

    async def ready(self, pipeline: Pipeline) -> None:
        """It answers."""

    async def fail(self) -> None:
        """It does not."""


async def guard(server: Health, pipeline: Pipeline) -> None:
    """Let health and watchdog follow the engine, for ever.

    Raises:
        EngineHung: a batch does not end. Health says NOT_SERVING then.
    """
    failed, probe_s = False, 0.0
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        now = time.monotonic()
        if pipeline.vitals.hung(now):
            await server.fail()
            raise EngineHung(
                f"engine has not ended a batch for {HANG_S:g} s; expected an answer. This process "
                "ends, so that whatever supervises it starts it anew"
            )
        if pipeline.vitals.failed and now >= probe_s:
            probe_s = now + PROBE_EVERY_S
            await _probe(pipeline)
        if pipeline.vitals.failed != failed:
            failed = not failed
            await _tell(server, pipeline, failed)
        if not failed:
            notify(ALIVE)


async def _probe(pipeline: Pipeline) -> None:
    """Vitals hear of the outcome; an engine that takes longer is looked at meanwhile."""
    with contextlib.suppress(MisgivingError, asyncio.TimeoutError):
        await asyncio.wait_for(pipeline.probe(), LOOK_EVERY_S)


async def _tell(server: Health, pipeline: Pipeline, failed: bool) -> None:
    if failed:
        count = pipeline.vitals.failures
        log.error("engine failed on %d batches in a row; NOT_SERVING until it answers", count)
        await server.fail()
    else:
        log.warning("engine answers again; SERVING")
        await server.ready(pipeline)
