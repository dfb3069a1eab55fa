"""The verb ``serve``: from options to a server that runs until it is told to stop."""

import asyncio
import contextlib
import logging
import math
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from misgiving.runtime.answer.answerer import Model
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.engines.base import Engine
from misgiving.runtime.engines.loading import Later, ModelOptions, load_at_once
from misgiving.runtime.engines.probation import Probation, raise_after_probation
from misgiving.runtime.errors import InvalidInput, MisgivingError
from misgiving.runtime.flags.policy import FlagPolicy
from misgiving.runtime.net.listening import check_address, stop_signal
from misgiving.runtime.serving.pipeline import Pipeline, Sink
from misgiving.runtime.serving.server import Server

log = logging.getLogger(__name__)

GRACE_S = 10.0
"""How long accepted frames may take to be answered after a signal; a client that does not read
its answers is then hung up on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeOptions(ModelOptions):
    """What a server is started with; see :func:`run_server`."""

    listen: str = "127.0.0.1:50051"
    """HOST:PORT; port 0 takes a free one."""
    threshold: float | str | None = None
    """In units of predicted_loss, or the name of one of the bundle's; None for its default."""
    audit_rate: float = 0.01
    """Share of unflagged persons that is kept at random."""
    spool: Path | None = None
    """Folder for flagged frames; None collects nothing."""
    collector: str | None = None
    """HOST:PORT that the spool is uploaded to."""
    device_id: str = ""
    """Goes into collected frames."""

    def __post_init__(self) -> None:
        if self.collector and not self.spool:
            raise InvalidInput(
                f"--collector is {self.collector} and there is no --spool; "
                "uploads start from a spool. Add --spool DIR"
            )
        if self.collector:
            check_address(self.collector)
        try:
            self.device_id.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(
                f"device id is {self.device_id!r}, with bytes that are not UTF-8; expected text, "
                "which collected frames carry. Name the device in UTF-8"
            ) from error


def run_server(options: ServeOptions) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends the process at once.

    Handles signals, so it runs in the main thread.

    >>> run_server(ServeOptions(listen="127.0.0.1:50051", spool=Path("spool")))

    Raises:
        InvalidInput: an option is out of range.
        FailedPrecondition: bundle or engine do not load; address or spool cannot be used.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with _collecting(options) as sink:
        asyncio.run(_serve(options, sink))


async def _serve(options: ServeOptions, sink: Sink | None) -> None:
    stop = stop_signal()
    server = Server()
    address = await server.start(options.listen)
    upgrade = None
    try:
        bundle, engine, later = await asyncio.to_thread(load_at_once, options)
        probation = Probation()
        pipeline = _pipeline(options, bundle, probation.watch(engine), sink)
        await server.ready(pipeline)
        _say_ready(options, pipeline, bundle, address)
        if later:
            upgrade = asyncio.create_task(upgraded(server, pipeline, later, probation))
        async with _on(probation, bundle):
            await stop.wait()
    finally:
        await _ended(upgrade)
        await server.stop(GRACE_S)
    await pipeline.close()


async def upgraded(server: Server, pipeline: Pipeline, later: Later, probation: Probation) -> None:
    """Answer with a better engine as soon as there is one; with the present one where it fails."""
    _say(f"building TensorRT's engine; {pipeline.info.engine} answers meanwhile")
    try:
        pipeline.switch(probation.watch(await later()))
    except Exception as error:  # whatever it is, frames are answered
        ours = isinstance(error, MisgivingError)
        log.error("%s; %s goes on", error, pipeline.info.engine, exc_info=not ours)
        return
    await server.ready(pipeline)
    _say(f"{pipeline.info.engine} answers now")


async def _ended(task: asyncio.Task[None] | None) -> None:
    if task:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def _on(probation: Probation, bundle: Bundle) -> AsyncIterator[None]:
    """Meanwhile, a signed bundle that survives its probation becomes the floor."""
    if bundle.signed_by is None:
        yield
        return
    manifest = bundle.manifest
    waiting = asyncio.create_task(raise_after_probation(probation, manifest.name, manifest.release))
    try:
        yield
    finally:
        waiting.cancel()


def _pipeline(options: ServeOptions, bundle: Bundle, engine: Engine, sink: Sink | None) -> Pipeline:
    threshold = bundle.threshold(options.threshold)
    policy = FlagPolicy(threshold=threshold, audit_rate=options.audit_rate)
    return Pipeline(Model(bundle, engine), policy, sink, device_id=options.device_id)


def _say_ready(options: ServeOptions, pipeline: Pipeline, bundle: Bundle, address: str) -> None:
    model = pipeline.info
    _say(f"serving {model.name} {model.version} on {address} with {model.engine}")
    _say(_flagging(bundle, options, model.threshold))
    _say(f"weights of {model.name}, their licence: {bundle.manifest.weights_licence}")


def _flagging(bundle: Bundle, options: ServeOptions, threshold: float) -> str:
    """Which threshold is in force, and what it misses and costs."""
    calibration = bundle.manifest.calibration
    default = next(iter(calibration.by_name()))
    name = default if options.threshold is None else str(options.threshold)
    named = f" ({name})" if name in calibration.by_name() else ""
    known = {math.inf: "flags nobody", -math.inf: "flags everybody"}
    flags = known.get(threshold, f"flags from predicted_loss {threshold:.4g} on")
    return f"{flags}{named}: {calibration.said(threshold)}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _collecting(options: ServeOptions) -> Iterator[Sink | None]:
    """The spool and its uploader, started and in the end flushed, where they are asked for."""
    if options.spool is None:
        yield None
        return
    from misgiving.runtime.outbox.spool import Spool
    from misgiving.runtime.outbox.uploader import Uploader

    with contextlib.ExitStack() as undo:
        spool = Spool(options.spool)
        undo.callback(spool.close)
        if options.collector:
            uploader = Uploader(spool, options.collector)
            undo.callback(uploader.stop, GRACE_S)
            uploader.start()
        yield spool
