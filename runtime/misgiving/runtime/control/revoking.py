"""Revocations of the fleet side: fetched, checked by the keys of this device, and minded."""

import logging
from collections.abc import Callable

from misgiving.runtime.bundles.revocations import Revocations, SignedList, check_revocations, mind
from misgiving.runtime.bundles.trust import Trust
from misgiving.runtime.control.link import Link, is_older, said
from misgiving.runtime.errors import MisgivingError
from misgiving.runtime.wire.reports import RevocationsState

log = logging.getLogger(__name__)


class Revoking:
    """Has a vehicle mind what the fleet revokes.

    Args:
        link: to the collector.
        device_id: as which it asks.
        trust: reads whom this device trusts now.
    """

    def __init__(self, link: Link, device_id: str, trust: Callable[[], Trust]) -> None:
        self._link = link
        self._device_id = device_id
        self._trust = trust
        self._state: RevocationsState | None = None

    def step(self, fetches: bool) -> RevocationsState | None:
        """Ask, where the collector may be asked; says what became of the last list that came."""
        if fetches and (found := self._asked()):
            before, self._state = self._state, self._minded(found)
            if self._state != before and self._state.refusal:
                log.error("revocations are refused: %s", self._state.refusal)
        return self._state

    def _asked(self) -> SignedList | None:
        minded = self._state.sha256 if self._state and not self._state.refusal else ""
        try:
            return self._link.revocations(self._device_id, minded)
        except Exception as error:  # whatever it is, the report is made
            if not is_older(error):
                log.info("collector %s gives no revocations, %s", self._link, said(error))
            return None

    def _minded(self, found: SignedList) -> RevocationsState:
        name = f"list {found.sha256[:12]}"
        try:
            revocations = check_revocations(found, self._trust(), name)
            new = mind(revocations)
        except MisgivingError as error:
            return RevocationsState(found.sha256, str(error))
        if new:
            log.warning("revocations of the fleet: %s", _told(revocations))
        return RevocationsState(found.sha256)


def _told(revocations: Revocations) -> str:
    floors = (f"{name} below {release}" for name, release in sorted(revocations.floors.items()))
    words = [word[:16] for word in sorted(revocations.revoked)]
    return f"{', '.join([*words, *floors])} are not taken from the next bundle on"
