"""The verb ``watch``: from settings to cameras that are answered in this process."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.engines.loading import load_at_once
from misgiving.runtime.engines.probation import Probation
from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.images import name_of
from misgiving.runtime.net.listening import stop_signal
from misgiving.runtime.serving.pipeline import Pipeline
from misgiving.runtime.settings.model import CameraTable, Settings
from misgiving.runtime.sources.feeds import Feed, find_feed
from misgiving.runtime.sources.live import Live
from misgiving.runtime.sources.pictures import Picture
from misgiving.runtime.sources.recordings import DEFAULT_FPS, open_source, paced
from misgiving.runtime.telemetry.gauges import (
    of_barred,
    of_budgets,
    of_cameras,
    of_drift,
    of_model,
)
from misgiving.runtime.telemetry.logs import say, set_up
from misgiving.runtime.telemetry.metrics import Metrics
from misgiving.runtime.verbs.campaigning import Campaigning, Reporting
from misgiving.runtime.verbs.exchanging import Exchanger, model_options
from misgiving.runtime.verbs.guarding import EngineHung, guard
from misgiving.runtime.verbs.memory import keep_freed
from misgiving.runtime.verbs.notifying import READY, STOPPING, notify
from misgiving.runtime.verbs.receiving import released, started_with_release
from misgiving.runtime.verbs.reloading import Reloader, reload_signal
from misgiving.runtime.verbs.serve import (
    GRACE_S,
    Outbox,
    apply_live,
    closed,
    collecting,
    ended,
    flagging,
    lookout_of,
    pipeline_of,
    scraping,
    set_level,
    until,
    upgraded,
)
from misgiving.runtime.verbs.shadowing import shadow_of
from misgiving.runtime.watching.camera import Camera, Onlooker
from misgiving.runtime.watching.keeping import Keeper
from misgiving.runtime.watching.shelf import Shelf
from misgiving.runtime.watching.show import Screen, Show
from misgiving.runtime.watching.watch import watch


def run_watch(settings: Settings, reread: Callable[[], Settings] | None = None) -> int:
    """Watch all cameras until SIGTERM or SIGINT, or until every recording has ended.

    Handles signals, so it runs in the main thread.

    Args:
        settings: to start with.
        reread: called on SIGHUP, for the settings from then on; None leaves SIGHUP alone.

    Returns:
        The exit code: 0 after a signal; else 1 where a frame or a source failed.

    Raises:
        InvalidInput: a setting is out of range, or there is no camera.
        DataError: a recording cannot be read, or no camera gives a frame.
        FailedPrecondition: bundle or engine do not load; address or a folder cannot be used.
    """
    keep_freed()
    set_up(settings.log.format)
    set_level(settings.log)
    settings = started_with_release(settings)
    stop = threading.Event()
    sources = {name: source_of(table, stop) for name, table in settings.camera.items()}
    if not sources:
        raise InvalidInput(
            "there is no camera; expected SOURCE, or tables [camera.NAME] in the file of --config"
        )
    metrics = Metrics()
    try:
        with collecting(settings, metrics) as outbox, scraping(settings, metrics):
            return asyncio.run(_watch(settings, reread, sources, outbox, metrics, stop))
    except EngineHung as error:
        say(f"misgiving: {error}")
        os._exit(1)  # else Python would wait for the engine's thread


def named(sources: Iterable[str]) -> dict[str, CameraTable]:
    """A camera for each source, by the name that may be shown.

    Raises:
        InvalidInput: a source is none that is taken, or two have one name.
    """
    cameras: dict[str, CameraTable] = {}
    for source in sources:
        feed = find_feed(source)
        name = feed.name if feed else name_of(Path(Path(source).name))
        if name in cameras:
            raise InvalidInput(
                f"two sources are called {name!r}; expected names that differ. Name them in tables "
                "[camera.NAME] of --config"
            )
        cameras[name] = CameraTable(source=source)
    return cameras


async def _watch(
    settings: Settings,
    reread: Callable[[], Settings] | None,
    sources: "Mapping[str, _Source]",
    outbox: Outbox,
    metrics: Metrics,
    stop: threading.Event,
) -> int:
    asked = stop_signal()
    reload = reload_signal() if reread else None
    bundle, engine, later = await asyncio.to_thread(load_at_once, model_options(settings.bundle))
    lookout = await asyncio.to_thread(lookout_of, settings)
    probation = Probation()
    shadow = shadow_of(settings, metrics)
    pipeline = pipeline_of(settings, bundle, probation.watch(engine), outbox.sink, lookout, shadow)
    health = _Health()
    exchanger = Exchanger(pipeline, settings, probation, health, metrics)
    campaigning = Campaigning(exchanger, partial(apply_live, exchanger, outbox.uploader))
    reporting = None
    upgrade = asyncio.create_task(upgraded(exchanger, later)) if later else None
    try:
        with ExitStack() as undo:
            onlookers = _onlookers(settings, pipeline, undo)
            cameras = [
                source.camera(name, pipeline, metrics, stop, onlookers[name])
                for name, source in sources.items()
            ]
            frozen = of_cameras(lambda: {one.name: one.watchdog.frozen for one in cameras})
            metrics.serving.set_function(
                lambda: (
                    health.answers
                    and not asked.is_set()
                    and not any(one.watchdog.frozen for one in cameras)
                )
            )
            drift, budgets, barred = (
                of_drift(lambda: pipeline.drifting),
                of_budgets(lambda: pipeline.budgets),
                of_barred(lambda: pipeline.keeping.counts),
            )
            for collector in (of_model(lambda: pipeline.info), drift, budgets, frozen, barred):
                metrics.registry.register(collector)
            reporting = Reporting(settings, metrics, campaigning)
            begun = partial(_begun, settings, pipeline, bundle, health)
            work = [
                watch(cameras, asked, stop, GRACE_S, begun),
                guard(health, pipeline),
                exchanger.run(),
            ]
            if reread and reload:
                work.append(Reloader(lambda: released(reread()), campaigning.reload).run(reload))
            await until(asyncio.Event(), work)
    finally:
        notify(STOPPING)
        await ended(upgrade)
        if reporting:
            await reporting.stop()
    print("\n".join(camera.line() for camera in cameras))
    await closed(pipeline)
    return int(not asked.is_set() and any(camera.failed for camera in cameras))


def _begun(settings: Settings, pipeline: Pipeline, bundle: Bundle, health: "_Health") -> None:
    health.answers = True
    model = pipeline.info
    names = ", ".join(settings.camera)
    say(f"watching {names} with {model.name} {model.version} on {model.engine}")
    say(flagging(bundle, settings.flags, model.threshold))
    say(f"weights of {model.name}, their licence: {bundle.manifest.weights_licence}")
    notify(READY)


class _Health:
    """Of a process that nobody asks over gRPC: its metrics say whether frames are answered."""

    def __init__(self) -> None:
        self.answers = False

    async def ready(self, pipeline: Pipeline) -> None:
        """It answers."""
        self.answers = True

    async def fail(self) -> None:
        """It does not."""
        self.answers = False


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a camera's frames come from."""

    table: CameraTable
    opening: Callable[[], Iterable[Picture]]
    live: bool

    def camera(
        self,
        name: str,
        pipeline: Pipeline,
        metrics: Metrics,
        stop: threading.Event,
        onlookers: list[Onlooker],
    ) -> Camera:
        return Camera(
            name,
            self.opening,
            pipeline,
            metrics,
            stop,
            again=self.live,
            frozen_s=self.table.frozen_after,
            onlookers=onlookers,
        )


def source_of(table: CameraTable, stop: threading.Event) -> _Source:
    """A camera's source, found but not opened.

    Raises:
        InvalidInput: it is none that is taken, or a camera is to be paced.
        DataError: a recording cannot be read.
    """
    feed = find_feed(table.source)
    if feed is None:
        recording = open_source(Path(table.source))
        fps = table.fps or recording.fps or DEFAULT_FPS
        return _Source(table, lambda: paced(recording, fps, sleep=stop.wait), live=False)
    if table.fps is not None:
        raise InvalidInput(f"fps paces a recording; {feed.name} has its own pace. Leave it out")
    return _Source(table, lambda: _frames(feed, stop), live=True)


def _frames(feed: Feed, stop: threading.Event) -> Iterator[Picture]:
    source = Live(feed, stop)
    with contextlib.closing(source):
        yield from source


def _onlookers(
    settings: Settings, pipeline: Pipeline, undo: ExitStack
) -> dict[str, list[Onlooker]]:
    """Who is told of each camera's frames; what they hold is let go of in the end."""
    table, keypoints = settings.watch, pipeline.model.bundle.manifest.keypoints
    found: dict[str, list[Onlooker]] = {name: [] for name in settings.camera}
    if table.show:
        screens = {name: Screen(name, keypoints) for name in settings.camera}
        show = Show(table.show, list(screens.values()))
        undo.callback(show.close)
        say(f"pictures on {show.url}")
        for name, screen in screens.items():
            found[name].append(screen)
    if table.clips or table.draw:
        keeper = _keeper(settings, pipeline)
        undo.callback(lambda: say(keeper.line()))
        undo.callback(keeper.close, GRACE_S)
        for name, camera in settings.camera.items():
            found[name].append(keeper.of(name, clips=camera.clips))
    return found


def _keeper(settings: Settings, pipeline: Pipeline) -> Keeper:
    table = settings.watch
    if table.clips:
        import misgiving.runtime.watching.movies  # noqa: F401  # missing, it is told before the start
    return Keeper(
        Shelf(table.clips, ".clip.mp4") if table.clips else None,
        Shelf(table.draw, ".flag.jpg") if table.draw else None,
        pipeline.model.bundle.manifest.keypoints,
        table.before,
        table.after,
        lambda frame: pipeline.keeping.bars(frame, ()),
    )
