"""Reports and campaigns around a process that answers frames."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from misgiving.runtime.errors import InvalidInput, MisgivingError
from misgiving.runtime.settings.campaigns import flags_under
from misgiving.runtime.settings.model import Settings
from misgiving.runtime.telemetry.metrics import Metrics
from misgiving.runtime.telemetry.reading import read_report
from misgiving.runtime.verbs.exchanging import Exchanger
from misgiving.runtime.wire.campaigns import Campaign
from misgiving.runtime.wire.reports import CampaignState, Report

log = logging.getLogger(__name__)

_GRACE_S = 5.0
"""How long a report may take that is under way when the process ends; it is durable."""


class Campaigning:
    """A vehicle's own settings, under the campaign that runs.

    Args:
        exchanger: has what is in force.
        apply: lets other settings take effect, and says what has.
    """

    def __init__(self, exchanger: Exchanger, apply: Callable[[Settings], Awaitable[str]]) -> None:
        self.exchanger = exchanger
        self._apply = apply
        self._own = exchanger.settings
        self._campaign: Campaign | None = None
        self._state: CampaignState | None = None

    async def reload(self, settings: Settings) -> str:
        """Let the vehicle's own settings take effect, under the campaign that runs.

        Raises:
            MisgivingError: they cannot; nothing has changed.
        """
        if self._campaign is None:
            said = await self._apply(settings)
        else:
            await self.exchanger.check(settings)
            try:
                flags = flags_under(settings.flags, self._campaign)
                said = await self._apply(settings.model_copy(update={"flags": flags}))
            except InvalidInput:  # the two do not go together: the vehicle's own come first
                said = await self._apply(settings)
                self.exchanger.flag_by(settings.flags)
                self._campaign = self._state = None
        self._own = settings
        return said

    async def follow(self, campaign: Campaign | None) -> CampaignState | None:
        """Let a campaign take effect, None for the vehicle's own settings.

        Returns:
            What became of it. One that is refused is tried again each time: another bundle may
            have come meanwhile.
        """
        if campaign == self._campaign:
            return self._state
        before = self._state
        self._state = self._tried(campaign) if campaign else None
        runs = campaign is not None and not (self._state and self._state.refusal)
        if not runs and self._campaign:
            self._give_up()
        self._campaign = campaign if runs else None
        if self._state != before:
            log.warning("%s", _said(self._state))
        return self._state

    def _give_up(self) -> None:
        try:
            self.exchanger.flag_by(self._own.flags)
        except MisgivingError as error:  # those of a bundle that went back
            log.error("%s; the thresholds of the campaign stay in force", error)

    def _tried(self, campaign: Campaign) -> CampaignState:
        try:
            self.exchanger.flag_by(flags_under(self._own.flags, campaign), campaign.name)
        except MisgivingError as error:
            return CampaignState(campaign.name, campaign.revision, str(error))
        return CampaignState(campaign.name, campaign.revision)


def _said(state: CampaignState | None) -> str:
    if state is None:
        return "no campaign runs; the settings of this device are in force"
    if state.refusal:
        return f"campaign {state.name} is refused: {state.refusal}"
    return f"campaign {state.name} runs, revision {state.revision}"


class Reporting:
    """Tells the collector how a process does, where there is one.

    Args:
        settings: of the start.
        metrics: what is reported.
        campaigning: what follows campaigns, on the event loop that runs now.
    """

    def __init__(self, settings: Settings, metrics: Metrics, campaigning: Campaigning) -> None:
        self._stop: Callable[[float], None] | None = None
        spool, device_id = settings.spool, settings.server.device_id
        if not (settings.fleet.reports and spool.folder and spool.collector):
            return
        from misgiving.runtime.control.journal import Journal
        from misgiving.runtime.control.link import Link
        from misgiving.runtime.control.reporter import Reporter
        from misgiving.runtime.verbs.receiving import receiving, revoking

        loop = asyncio.get_running_loop()

        def follow(campaign: Campaign | None) -> CampaignState | None:
            return asyncio.run_coroutine_threadsafe(campaigning.follow(campaign), loop).result()

        def take(run_id: str, sequence: int, campaign: CampaignState | None) -> Report:
            return read_report(metrics, device_id, run_id, sequence, campaign)

        link = Link(spool.collector, spool.collector_tls)
        takes_part = follow if settings.fleet.campaigns else None
        receive = receiving(settings, link, campaigning.exchanger, metrics)
        revoke = revoking(settings, link)
        journal = Journal(spool.folder)
        reporter = Reporter(journal, link, device_id, take, takes_part, receive, revoke)
        reporter.start()
        self._stop = reporter.stop

    async def stop(self) -> None:
        """Make the last report; while frames can still be counted, and the loop runs."""
        if self._stop:
            await asyncio.to_thread(self._stop, _GRACE_S)
