"""Releases of the fleet side, exchanged for what answers."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.trust import read_trust
from misgiving.runtime.control.link import Link
from misgiving.runtime.control.receiving import Receiving
from misgiving.runtime.control.revoking import Revoking
from misgiving.runtime.control.shelf import Shelf
from misgiving.runtime.errors import BundleError
from misgiving.runtime.settings.model import Settings
from misgiving.runtime.telemetry.metrics import Metrics
from misgiving.runtime.verbs.exchanging import Exchanger
from misgiving.runtime.wire.reports import ReleaseState, RevocationsState

log = logging.getLogger(__name__)


def started_with_release(settings: Settings) -> Settings:
    """The settings of a start: what was released before answers, where it is still taken."""
    path = released(settings).bundle.path
    if path != settings.bundle.path and path is not None:
        try:
            Bundle.load(path, read_trust(settings.bundle.trust))
        except BundleError as error:
            log.error("%s; the bundle of the settings answers", error)
            _shelf(settings).reject(path.stem, f"refused: {error}")
    return released(settings)


def released(settings: Settings) -> Settings:
    """Settings with the bundle that was released to this device, where there is one."""
    path = _shelf(settings).current if settings.fleet.releases else None
    return _with_bundle(settings, path) if path else settings


def receiving(
    settings: Settings, link: Link, exchanger: Exchanger, metrics: Metrics
) -> Callable[[bool], ReleaseState | None] | None:
    """What goes on with a release; None where none is taken. On the loop that runs now."""
    if not settings.fleet.releases:
        return None
    trust, device_id = settings.bundle.trust, settings.server.device_id

    def verify(path: Path) -> str:
        return Bundle.load(path, read_trust(trust)).digest

    taker = _Taker(exchanger, metrics, asyncio.get_running_loop())
    return Receiving(_shelf(settings), link, device_id, verify, taker).step


def revoking(settings: Settings, link: Link) -> Callable[[bool], RevocationsState | None] | None:
    """What minds the fleet's revocations; None where no keys are trusted."""
    path = settings.bundle.trust
    if (trust := read_trust(path)) is None:
        return None
    return Revoking(link, settings.server.device_id, lambda: read_trust(path) or trust).step


class _Taker:
    """An exchanger, from another thread than its own."""

    def __init__(
        self, exchanger: Exchanger, metrics: Metrics, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._exchanger = exchanger
        self._metrics = metrics
        self._loop = loop

    @property
    def name(self) -> str:
        return self._exchanger.bundle.manifest.name

    @property
    def release(self) -> int:
        return self._exchanger.bundle.manifest.release

    @property
    def last(self) -> str:
        return self._metrics.last_exchange

    def standing(self, digest: str) -> str:
        asked = self._exchanger.standing(digest)
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result()

    def take(self, path: Path) -> None:
        asyncio.run_coroutine_threadsafe(self._take(path), self._loop).result()

    async def _take(self, path: Path) -> None:
        await self._exchanger.follow(_with_bundle(self._exchanger.settings, path))


def _with_bundle(settings: Settings, path: Path) -> Settings:
    bundle = settings.bundle.model_copy(update={"path": path})
    return settings.model_copy(update={"bundle": bundle})


def _shelf(settings: Settings) -> Shelf:
    assert settings.fleet.releases is not None
    return Shelf(settings.fleet.releases)
