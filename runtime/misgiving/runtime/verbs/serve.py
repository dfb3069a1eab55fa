"""The verb ``serve``: from settings to a server that runs until it is told to stop."""

import asyncio
import contextlib
import logging
import math
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from misgiving.runtime.answer.answerer import Model
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.engines.base import Engine
from misgiving.runtime.engines.loading import Later, load_at_once
from misgiving.runtime.engines.probation import Probation
from misgiving.runtime.errors import MisgivingError
from misgiving.runtime.flags.budgets import DAY
from misgiving.runtime.geometry import Region
from misgiving.runtime.net.listening import stop_signal
from misgiving.runtime.net.roles import Roles
from misgiving.runtime.net.room import Limits
from misgiving.runtime.outbox.ledger import Ledger
from misgiving.runtime.persons.detector import Detector
from misgiving.runtime.persons.lookout import Lookout
from misgiving.runtime.privacy.keeping import Keeping
from misgiving.runtime.serving.pipeline import Pipeline, Sink
from misgiving.runtime.serving.server import LIMITS, Server
from misgiving.runtime.serving.shadow import Shadow
from misgiving.runtime.settings.changing import check_change
from misgiving.runtime.settings.model import FlagsTable, LogTable, ServerTable, Settings, SpoolTable
from misgiving.runtime.telemetry.gauges import of_barred, of_machine, of_spool
from misgiving.runtime.telemetry.logs import say, set_up
from misgiving.runtime.telemetry.metrics import Metrics
from misgiving.runtime.telemetry.scraping import scraped
from misgiving.runtime.verbs.campaigning import Campaigning, Reporting
from misgiving.runtime.verbs.exchanging import Exchanger, model_options, policy_of
from misgiving.runtime.verbs.guarding import EngineHung, guard
from misgiving.runtime.verbs.memory import keep_freed
from misgiving.runtime.verbs.notifying import READY, STOPPING, notify
from misgiving.runtime.verbs.privacy import privacy_of
from misgiving.runtime.verbs.receiving import released, started_with_release
from misgiving.runtime.verbs.reloading import Reloader, reload_signal
from misgiving.runtime.verbs.shadowing import shadow_of

if TYPE_CHECKING:
    from misgiving.runtime.outbox.uploader import Uploader

log = logging.getLogger(__name__)

GRACE_S = 10.0
"""How long accepted frames may take to be answered after a signal; a client that does not read
its answers is then hung up on."""


class Outbox(NamedTuple):
    """Where kept frames go; nowhere by default."""

    sink: Sink | None = None
    uploader: "Uploader | None" = None


def run_server(settings: Settings, reread: Callable[[], Settings] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends the process at once.

    Handles signals, so it runs in the main thread. Where the engine hangs, which no thread can be
    stopped in, it says so and ends the process with 1.

    Args:
        settings: to start with.
        reread: called on SIGHUP, for the settings from then on; None leaves SIGHUP alone.

    >>> server, spool = {"listen": "127.0.0.1:50051"}, {"folder": "spool"}
    >>> run_server(Settings.model_validate({"server": server, "spool": spool}))

    Raises:
        InvalidInput: a setting is out of range.
        FailedPrecondition: bundle or engine do not load; address or spool cannot be used.
    """
    keep_freed()
    set_up(settings.log.format)
    set_level(settings.log)
    settings = started_with_release(settings)
    metrics = Metrics()
    try:
        with collecting(settings, metrics) as outbox, scraping(settings, metrics):
            asyncio.run(_serve(settings, reread, outbox, metrics))
    except EngineHung as error:
        say(f"misgiving: {error}")
        os._exit(1)  # else Python would wait for the engine's thread


async def _serve(
    settings: Settings,
    reread: Callable[[], Settings] | None,
    outbox: Outbox,
    metrics: Metrics,
) -> None:
    stop = stop_signal()
    reload = reload_signal() if reread else None
    tls = settings.tls
    roles = Roles(infer=tls.infer, admin=tls.admin)
    server = Server(metrics, roles, limits_of(settings.server), settings.server.shared_memory)
    address = await server.start(settings.server.listen, tls.folder)
    upgrade, reporting, grace_s = None, None, GRACE_S
    try:
        bundle, engine, later = await asyncio.to_thread(
            load_at_once, model_options(settings.bundle)
        )
        lookout = await asyncio.to_thread(lookout_of, settings)
        probation = Probation()
        shadow = shadow_of(settings, metrics)
        watched = probation.watch(engine)
        pipeline = pipeline_of(settings, bundle, watched, outbox.sink, lookout, shadow)
        if not stop.is_set():
            await server.ready(pipeline)
            _say_ready(settings, pipeline, bundle, address)
            notify(READY)
        metrics.registry.register(of_barred(lambda: pipeline.keeping.counts))
        exchanger = Exchanger(pipeline, settings, probation, server, metrics)
        campaigning = Campaigning(exchanger, partial(apply_live, exchanger, outbox.uploader))
        reporting = Reporting(settings, metrics, campaigning)
        if later:
            upgrade = asyncio.create_task(upgraded(exchanger, later))
        work = [guard(server, pipeline), exchanger.run()]
        if reread and reload:
            work.append(Reloader(lambda: released(reread()), campaigning.reload).run(reload))
        await until(stop, work)
    except EngineHung:
        grace_s = 1.0  # what waits for that engine waits in vain
        raise
    finally:
        notify(STOPPING)
        await ended(upgrade)
        await server.stop(grace_s)
        if reporting:
            await reporting.stop()
    await closed(pipeline)


def limits_of(table: ServerTable) -> Limits:
    return replace(
        LIMITS,
        message_bytes=table.max_message_bytes,
        in_flight_bytes=table.max_in_flight_bytes,
    )


async def until(stop: asyncio.Event, work: Sequence[Coroutine[None, None, None]]) -> None:
    """Work beside the server until it is to stop; raises what ends the work earlier."""
    tasks = [asyncio.create_task(one) for one in (stop.wait(), *work)]
    first, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    for task in first:
        task.result()


async def closed(pipeline: Pipeline) -> None:
    """After a drain nothing waits for the engine; a batch that still runs then has no end."""
    try:
        await asyncio.wait_for(pipeline.close(), GRACE_S)
    except asyncio.TimeoutError:
        raise EngineHung(
            f"engine has not ended its last batch within {GRACE_S:g} s of the drain; "
            "the process ends without it"
        ) from None


async def apply_live(exchanger: Exchanger, uploader: "Uploader | None", settings: Settings) -> str:
    """Let what may change take effect, all or nothing; says what has, and which bundle is loading.

    Raises:
        FailedPrecondition: something else has changed, or the trusted keys cannot be read.
        BundleError: there is no bundle.
        InvalidInput: the bundle that answers has no such threshold.
    """
    changed = check_change(exchanger.settings, settings)
    loading = await exchanger.follow(settings)
    if uploader:
        uploader.limits = settings.upload.limits
    set_up(settings.log.format)
    set_level(settings.log)
    said = f"changed: {', '.join(changed)}" if changed else "no change"
    return f"{said}; {loading}" if loading else said


def set_level(table: LogTable) -> None:
    logging.getLogger("misgiving").setLevel(table.level.upper())


async def upgraded(exchanger: Exchanger, later: Later) -> None:
    """Answer with a better engine as soon as there is one; with the present one where it fails."""
    bundle = exchanger.bundle
    say(f"building TensorRT's engine; {exchanger.engine} answers meanwhile")
    try:
        engine = await later()
        is_now = await exchanger.upgrade(bundle, engine)
        now = "answers now" if is_now else "is ready; its bundle answers no more"
        say(f"{engine.provider} {now}")
    except Exception as error:  # whatever it is, frames are answered
        ours = isinstance(error, MisgivingError)
        log.error("%s; %s goes on", error, exchanger.engine, exc_info=not ours)


async def ended(task: asyncio.Task[None] | None) -> None:
    if task:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def lookout_of(settings: Settings) -> Lookout | None:
    """Where to look in frames without regions; None where nothing is said of it."""
    said = settings.persons
    if not (said.detector or said.follow or said.fixed):
        return None
    finder = Detector.load(said.detector, settings.bundle.device) if said.detector else None
    fixed = {stream: [Region(*box) for box in boxes] for stream, boxes in said.fixed.items()}
    return Lookout(finder, fixed, said.follow)


def pipeline_of(
    settings: Settings,
    bundle: Bundle,
    engine: Engine,
    sink: Sink | None,
    lookout: Lookout | None,
    shadow: Shadow | None,
) -> Pipeline:
    return Pipeline(
        Model(bundle, engine),
        policy_of(settings.flags, bundle),
        sink,
        memory=ledger_of(settings.spool),
        keeping=Keeping(privacy_of(settings.privacy, bundle), settings.spool.jpeg or 0),
        lookout=lookout,
        shadow=shadow,
        device_id=settings.server.device_id,
    )


def ledger_of(table: SpoolTable) -> Ledger | None:
    return Ledger(table.folder, named=table.seal_to is None) if table.folder else None


def _say_ready(settings: Settings, pipeline: Pipeline, bundle: Bundle, address: str) -> None:
    model = pipeline.info
    say(f"serving {model.name} {model.version} on {address} with {model.engine}")
    say(flagging(bundle, settings.flags, model.threshold))
    say(f"weights of {model.name}, their licence: {bundle.manifest.weights_licence}")


def flagging(bundle: Bundle, flags: FlagsTable, threshold: float) -> str:
    """Which threshold is in force, and what it misses and costs."""
    calibration = bundle.manifest.calibration
    default = next(iter(calibration.by_name()))
    name = default if flags.threshold is None else str(flags.threshold)
    named = f" ({name})" if name in calibration.by_name() else ""
    known = {math.inf: "flags nobody", -math.inf: "flags everybody"}
    said = known.get(threshold, f"flags from predicted_loss {threshold:.4g} on")
    return f"{said}{named}: {calibration.said(threshold)}"


@contextlib.contextmanager
def scraping(settings: Settings, metrics: Metrics) -> Iterator[None]:
    """Meanwhile, Prometheus is answered where that is asked for."""
    if settings.metrics.listen is None:
        yield
        return
    metrics.registry.register(of_machine())
    with scraped(metrics.registry, settings.metrics.listen) as address:
        say(f"metrics on http://{address}/metrics")
        yield


@contextlib.contextmanager
def collecting(settings: Settings, metrics: Metrics) -> Iterator[Outbox]:
    """The spool and its uploader, started and in the end flushed, where they are asked for."""
    spooling = settings.spool
    if spooling.folder is None:
        yield Outbox()
        return
    from misgiving.runtime.outbox.spool import Spool
    from misgiving.runtime.outbox.uploader import Uploader
    from misgiving.runtime.wire.sealing import read_fleet_key

    with contextlib.ExitStack() as undo:
        spool = Spool(
            spooling.folder,
            quota_bytes=spooling.quota,
            max_age_s=spooling.days * DAY if spooling.days else None,
            seal_to=read_fleet_key(spooling.seal_to) if spooling.seal_to else None,
            near_duplicate=spooling.near_duplicate,
        )
        undo.callback(lambda: say(spool.counts().line()))
        undo.callback(spool.close)
        metrics.registry.register(of_spool(spool.counts))
        uploader = None
        if spooling.collector:
            uploader = Uploader(
                spool,
                spooling.collector,
                tls=spooling.collector_tls,
                limits=settings.upload.limits,
            )
            undo.callback(uploader.stop, GRACE_S)
            uploader.start()
        yield Outbox(spool, uploader)
