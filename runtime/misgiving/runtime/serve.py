"""The verb ``serve``: from options to a server that runs until it is told to stop."""

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from misgiving.runtime.bundle import Bundle
from misgiving.runtime.detector import Detector
from misgiving.runtime.engines.base import Engine
from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.flagging import FlagPolicy
from misgiving.runtime.floor import Probation, raise_after_probation
from misgiving.runtime.listening import check_address, stop_signal
from misgiving.runtime.loading import load
from misgiving.runtime.pipeline import Pipeline, Sink
from misgiving.runtime.server import Server

GRACE_S = 10.0
"""How long accepted frames may take to be answered after a signal; a client that does not read
its answers is then hung up on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeOptions:
    """What a server is started with; see :func:`run_server`."""

    bundle: Path | None = None
    """None for the default bundle."""
    listen: str = "127.0.0.1:50051"
    """HOST:PORT; port 0 takes a free one."""
    device: str = "cpu"
    threads: int = 0
    """CPU threads within one inference; 0 for half of the cores."""
    threshold: float | None = None
    """In units of predicted_loss; None for the bundle's own."""
    audit_rate: float = 0.01
    """Share of unflagged persons that is kept at random."""
    spool: Path | None = None
    """Folder for flagged frames; None collects nothing."""
    collector: str | None = None
    """HOST:PORT that the spool is uploaded to."""
    device_id: str = ""
    """Goes into collected frames."""
    trust: Path | None = None
    """Folder of the public keys whose bundles are taken, or one such key; None for
    MISGIVING_TRUST, else everybody's."""

    def __post_init__(self) -> None:
        if self.collector and not self.spool:
            raise InvalidInput(
                f"--collector is {self.collector} and there is no --spool; "
                "uploads start from a spool. Add --spool DIR"
            )
        if self.collector:
            check_address(self.collector)


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
    try:
        bundle, engine = await asyncio.to_thread(
            load, options.bundle, options.device, options.threads, trust=options.trust
        )
        probation = Probation()
        pipeline = _pipeline(options, bundle, probation.watch(engine), sink)
        await server.ready(pipeline)
        _say_ready(pipeline, address)
        async with _on(probation, bundle):
            await stop.wait()
    finally:
        await server.stop(GRACE_S)
    await pipeline.close()


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
    chosen = options.threshold
    threshold = bundle.default_threshold if chosen is None else chosen
    policy = FlagPolicy(threshold=threshold, audit_rate=options.audit_rate)
    return Pipeline(Detector(bundle, policy), engine, sink, device_id=options.device_id)


def _say_ready(pipeline: Pipeline, address: str) -> None:
    model = pipeline.model
    line = f"serving {model.name} {model.version} on {address} with {model.engine}"
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _collecting(options: ServeOptions) -> Iterator[Sink | None]:
    """The spool and its uploader, started and in the end flushed, where they are asked for."""
    if options.spool is None:
        yield None
        return
    from misgiving.runtime.spool import Spool
    from misgiving.runtime.uploader import Uploader

    with contextlib.ExitStack() as undo:
        spool = Spool(options.spool)
        undo.callback(spool.close)
        if options.collector:
            uploader = Uploader(spool, options.collector)
            undo.callback(uploader.stop, GRACE_S)
            uploader.start()
        yield spool
