"""Once a minute, in the background: what the fleet wants is fetched, and how it goes reported."""

import logging
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from misgiving.runtime.control.journal import Journal
from misgiving.runtime.control.link import Link, is_older, is_permanent, said
from misgiving.runtime.wire.campaigns import Campaign, read_campaign
from misgiving.runtime.wire.campaigns import serialised as serialised_campaign
from misgiving.runtime.wire.reports import (
    CampaignState,
    ReleaseState,
    Report,
    RevocationsState,
    serialised,
)

log = logging.getLogger(__name__)

EVERY_S = 60.0

_State = TypeVar("_State")

Take = Callable[[str, int, CampaignState | None], Report]
"""Run id, sequence and campaign → how the process does now."""
Receive = Callable[[bool], ReleaseState | None]
"""Goes on with a release, asking the collector or not; says where it stands."""
Revoke = Callable[[bool], RevocationsState | None]
"""Minds what the fleet revokes, asking the collector or not; says what became of it."""
Follow = Callable[[Campaign | None], CampaignState | None]
"""Lets a campaign take effect, None for the vehicle's own settings; says what became of it."""


class Reporter:
    """One thread that reports of a process, and has it follow campaigns.

    A report is made each time, whether the collector can be reached or not, and is durable before
    it is sent. A campaign holds until the collector gives another answer, or until it expires.

    Args:
        journal: closed in the end.
        link: closed in the end.
        device_id: as which campaigns are asked for.
        take: makes a report, in this thread.
        follow: is told the campaign each time, in this thread; None where none is taken.
        receive: goes on with a release each time, in this thread; None where none is taken.
        revoke: minds revocations each time, in this thread, before a release is looked at; None
            where no keys are trusted.
        every_s: between two reports.
    """

    def __init__(
        self,
        journal: Journal,
        link: Link,
        device_id: str,
        take: Take,
        follow: Follow | None = None,
        receive: Receive | None = None,
        revoke: Revoke | None = None,
        *,
        every_s: float = EVERY_S,
    ) -> None:
        self._journal = journal
        self._link = link
        self._device_id = device_id
        self._take = take
        self._follow = follow
        self._receive = receive
        self._revoke = revoke
        self._every_s = every_s
        self._run_id = uuid.uuid4().hex
        self._sequence = 0
        self._failing = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="reporter", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self, grace_s: float) -> None:
        """Make the last report, send it where the collector can be reached, and end.

        Args:
            grace_s: how long a call may take that is under way; what was not acknowledged is sent
                by the next process.
        """
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(grace_s)
        self._link.close()
        if self._thread.is_alive():
            self._thread.join()
        self._link.close()  # which may have been renewed meanwhile
        self._journal.close()

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._once()
            self._stopping.wait(self._every_s)
        self._once()

    def _once(self) -> None:
        try:
            followed, revoked = self._followed(), self._done(self._revoke)
            report = self._report(followed, revoked, self._done(self._receive))
            self._journal.add(serialised(report))  # one that cannot be made durable is a gap
            if self._deliver() and self._failing:
                log.warning("collector %s takes reports", self._link)
                self._failing = False
        except sqlite3.Error as error:
            self._failed(f"a report cannot be written, {error}")
        except Exception as error:  # this thread outlives whatever the network does
            self._failed(f"collector {self._link} takes no reports, {said(error)}")
            self._link.renew()

    def _report(
        self,
        campaign: CampaignState | None,
        revocations: RevocationsState | None,
        release: ReleaseState | None,
    ) -> Report:
        self._sequence += 1
        report = self._take(self._run_id, self._sequence, campaign)
        return replace(report, revocations=revocations, release=release)

    def _done(self, step: Callable[[bool], _State | None] | None) -> _State | None:
        asks = not (self._failing or self._stopping.is_set())
        return step(asks) if step else None

    def _followed(self) -> CampaignState | None:
        if self._follow is None:
            return None
        known = self._journal.campaign
        if not (self._failing or self._stopping.is_set()):
            known = self._fetched(known)
        campaign = read_campaign(known) if known else None
        return self._follow(campaign if campaign and campaign.runs_at(time.time_ns()) else None)

    def _fetched(self, known: bytes) -> bytes:
        """The campaign of now; the one before where nobody can be asked."""
        try:
            campaign = self._link.campaign(self._device_id)
        except Exception as error:  # whatever it is, the report is made
            if not is_older(error):
                log.info("collector %s gives no campaign, %s", self._link, said(error))
            return known
        self._journal.campaign = serialised_campaign(campaign) if campaign else b""
        return self._journal.campaign

    def _deliver(self) -> bool:
        """Send what waits, oldest first; False where there is no time for it."""
        for number, body in self._journal.reports():
            if self._stopping.is_set() and self._failing:
                return False
            try:
                self._link.report(body)
            except Exception as error:
                if not is_permanent(error):
                    raise
                log.warning("collector %s refuses a report: %s", self._link, said(error))
            self._journal.remove(number)
        return True

    def _failed(self, why: str) -> None:
        """Of failures in a row the first is told."""
        if not (self._failing or self._stopping.is_set()):
            log.warning("%s; trying on", why)
        self._failing = True
