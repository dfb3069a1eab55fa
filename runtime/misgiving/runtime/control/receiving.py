"""A release on its way to a vehicle: fetched a little at a time, verified, tried."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from misgiving.runtime.control.link import Link, is_older, said
from misgiving.runtime.control.shelf import Shelf
from misgiving.runtime.errors import MisgivingError
from misgiving.runtime.wire.releases import Release
from misgiving.runtime.wire.reports import ReleaseState

log = logging.getLogger(__name__)

_FETCH_S = 30.0
"""Of one minute; the rest comes in the next."""


class Taker(Protocol):
    """Whoever answers, and exchanges its bundle. Called in the reporter's thread."""

    @property
    def name(self) -> str:
        """Of the model."""

    @property
    def release(self) -> int:
        """Of the bundle that answers."""

    def standing(self, digest: str) -> str:
        """What a bundle is: ``loading``, ``probation``, ``proved``, or empty for none of these."""

    def take(self, path: Path) -> None:
        """Load it and answer with it; raises MisgivingError where it is refused at once."""

    @property
    def last(self) -> str:
        """What became of the last exchange, in words."""


class Receiving:
    """Brings a vehicle to what is released to it.

    Args:
        shelf: of the releases.
        link: to the collector.
        device_id: as which it asks.
        verify: raises BundleError for a bundle that this device does not take.
        taker: exchanges bundles.
    """

    def __init__(
        self,
        shelf: Shelf,
        link: Link,
        device_id: str,
        verify: Callable[[Path], str],
        taker: Taker,
    ) -> None:
        self._shelf = shelf
        self._link = link
        self._device_id = device_id
        self._verify = verify
        self._taker = taker
        self._asked: Release | None = None
        self._taken = ""
        """Digest of what was handed over to be taken."""

    def step(self, fetches: bool) -> ReleaseState | None:
        """Go on a little; says where the release stands, None where there is none.

        Args:
            fetches: whether the collector may be asked.
        """
        if fetches:
            self._ask()
        if (release := self._asked) is None:
            return None
        try:
            return self._step(release, fetches)
        except MisgivingError as error:
            self._shelf.reject(release.digest, f"refused: {error}")
            return self._bad(release)
        except OSError as error:  # a disk that is full now
            return ReleaseState(release.digest, "fetching", str(error.strerror or error))

    def _ask(self) -> None:
        try:
            found = self._link.release(self._device_id, self._taker.name)
        except Exception as error:  # whatever it is, the report is made
            if not is_older(error):
                log.info("collector %s gives no release, %s", self._link, said(error))
            return
        taken = self._asked if self._asked and self._asked.digest == self._taken else None
        if taken and (found is None or found.release < taken.release):
            return  # it was halted since, and is looked after still
        self._asked = found

    def _step(self, release: Release, fetches: bool) -> ReleaseState | None:
        digest = release.digest
        if self._shelf.rejected(digest):
            return self._bad(release)
        if standing := self._taker.standing(digest):
            self._taken = digest
            return ReleaseState(digest, standing)
        if self._taken == digest:  # it was handed over, and is not there any more
            self._shelf.reject(digest, self._taker.last)
            return self._bad(release)
        if release.release <= self._taker.release or not re.fullmatch("[0-9a-f]{64}", digest):
            return None  # never backwards
        if not (path := self._shelf.path(digest)).is_file():
            if not fetches or not self._fetched(release):
                there = self._shelf.offset(release)
                why = f"{there:,} of {release.size_bytes:,} bytes"
                return ReleaseState(digest, "fetching", why)
            path = self._shelf.finish(release)
        if (found := self._verify(path)) != digest:
            raise MisgivingError(f"release is bundle {found[:12]}; expected {digest[:12]}")
        self._taker.take(path)
        self._taken = digest
        self._shelf.choose(digest)
        return ReleaseState(digest, self._taker.standing(digest) or "loading")

    def _fetched(self, release: Release) -> bool:
        """Whether all of it is there now."""
        offset = self._shelf.offset(release)
        try:
            for chunk in self._link.read(self._device_id, release.digest, offset, _FETCH_S):
                self._shelf.append(release, chunk)
        except MisgivingError:
            raise
        except Exception as error:  # cut: it goes on at the next time
            log.info("collector %s: a release was cut, %s", self._link, said(error))
        return self._shelf.offset(release) == release.size_bytes

    def _bad(self, release: Release) -> ReleaseState:
        why = self._shelf.rejected(release.digest)
        return ReleaseState(release.digest, "refused" if why.startswith("refused") else "back", why)
