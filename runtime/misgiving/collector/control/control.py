"""Reports and campaigns in the store's database; several collectors may share it."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from misgiving.collector.store.database import Database
from misgiving.collector.store.tables import CAMPAIGNS, REPORTS, RUNS
from misgiving.runtime.errors import NotFound
from misgiving.runtime.net.roles import fits
from misgiving.runtime.wire.campaigns import Campaign, read_campaign
from misgiving.runtime.wire.campaigns import serialised as serialised_campaign
from misgiving.runtime.wire.reports import Report, read_report, serialised

KEPT_NS = 30 * 24 * 3600 * 10**9
"""How long each report is kept; the last of a run stays."""

_PRUNE_EVERY_S = 3600.0


@dataclass(frozen=True, slots=True)
class Run:
    """What is known of one process of a vehicle."""

    report: Report
    """The newest by its sequence."""
    reports: int
    """That came."""
    received_time_unix_nano: int
    """When the newest came."""

    @property
    def lost(self) -> int:
        """Reports that were made and never came, as far as a later one tells."""
        return max(0, self.report.sequence - self.reports)


@dataclass(frozen=True, slots=True)
class SetCampaign:
    """A campaign, and what became of it."""

    campaign: Campaign
    set_time_unix_nano: int
    ended_time_unix_nano: int | None
    """When somebody ended it; None where nobody has."""

    def runs_at(self, unix_nano: int) -> bool:
        """Whether vehicles are given it."""
        return self.ended_time_unix_nano is None and self.campaign.runs_at(unix_nano)


class Control:
    """What vehicles report, and what they are asked to keep. May be called from any thread.

    Args:
        database: of the store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pruned_s = -math.inf

    def add(self, report: Report, received_ns: int) -> bool:
        """Store a report; durable when this returns.

        Args:
            report: from a vehicle.
            received_ns: when it came, Unix time.

        Returns:
            False where it was stored before.
        """
        body = serialised(report)
        key = {"device_id": report.device_id, "run_id": report.run_id}
        its = sa.and_(RUNS.c.device_id == report.device_id, RUNS.c.run_id == report.run_id)
        newest = {
            "sequence": report.sequence,
            "taken_time_unix_nano": report.taken_time_unix_nano,
            "received_time_unix_nano": received_ns,
            "body": body,
        }
        with self._database.connect() as database:
            made = insert_once(database, REPORTS, key | newest).returning(REPORTS.c.sequence)
            if database.scalar(made) is None:
                return False
            first = insert_once(database, RUNS, key | newest | {"sequence": 0, "reports": 0})
            database.execute(first)
            database.execute(sa.update(RUNS).where(its).values(reports=RUNS.c.reports + 1))
            later = RUNS.c.sequence < report.sequence
            model = report.running.name if report.running else ""
            database.execute(sa.update(RUNS).where(its, later).values(newest | {"model": model}))
        self._prune(received_ns)
        return True

    def runs(self) -> list[Run]:
        """Of each process that ever reported, the newest report; the latest process last."""
        query = sa.select(RUNS).order_by(RUNS.c.received_time_unix_nano, RUNS.c.run_id)
        with self._database.connect(reads=True) as database:
            return [
                Run(read_report(row.body), row.reports, row.received_time_unix_nano)
                for row in database.execute(query)
            ]

    def counted(
        self, since_ns: int, device_id: str | None = None
    ) -> Iterator[tuple[Report, Report | None]]:
        """What vehicles have counted since a time, by their clocks.

        Args:
            since_ns: Unix time; reports before it are known for 30 days.
            device_id: of one device; None for all.

        Yields:
            The newest report of a process, and the last one that it made until then, whose counts
            are to be taken away; None where it made none.
        """
        query = sa.select(RUNS).where(RUNS.c.taken_time_unix_nano > since_ns)
        if device_id is not None:
            query = query.where(RUNS.c.device_id == device_id)
        with self._database.connect(reads=True) as database:
            for row in database.execute(query.order_by(RUNS.c.taken_time_unix_nano)):
                before = (
                    sa.select(REPORTS.c.body)
                    .where(REPORTS.c.device_id == row.device_id, REPORTS.c.run_id == row.run_id)
                    .where(REPORTS.c.taken_time_unix_nano <= since_ns)
                    .order_by(REPORTS.c.sequence.desc())
                    .limit(1)
                )
                body = database.scalar(before)
                yield read_report(row.body), read_report(body) if body else None

    def set_campaign(self, campaign: Campaign) -> Campaign:
        """Give a campaign to the vehicles that it is for, as a new revision of its name.

        Returns:
            It, with its revision.
        """
        of_name = CAMPAIGNS.c.name == campaign.name
        with self._database.connect() as database:
            last = database.scalar(sa.select(sa.func.max(CAMPAIGNS.c.revision)).where(of_name))
            campaign = replace(campaign, revision=(last or 0) + 1)
            row = {
                "name": campaign.name,
                "revision": campaign.revision,
                "set_time_unix_nano": time.time_ns(),
                "body": serialised_campaign(campaign),
            }
            database.execute(sa.insert(CAMPAIGNS).values(row))
        return campaign

    def end_campaign(self, name: str) -> None:
        """Take a campaign back; vehicles return to their own settings.

        Raises:
            NotFound: there is none of that name that runs.
        """
        if not any(
            one.runs_at(time.time_ns()) for one in self.campaigns() if one.campaign.name == name
        ):
            raise NotFound(
                f"campaign {name!r} does not run; expected one that 'misgiving fleet campaign "
                "list' shows as running. Name that"
            )
        ends = sa.update(CAMPAIGNS).where(CAMPAIGNS.c.name == name)
        ends = ends.where(CAMPAIGNS.c.ended_time_unix_nano.is_(None))
        with self._database.connect() as database:
            database.execute(ends.values(ended_time_unix_nano=time.time_ns()))

    def campaigns(self) -> list[SetCampaign]:
        """The last revision of each, that set last at the end."""
        query = sa.select(CAMPAIGNS).order_by(CAMPAIGNS.c.set_time_unix_nano, CAMPAIGNS.c.id)
        with self._database.connect(reads=True) as database:
            found = {
                row.name: SetCampaign(
                    read_campaign(row.body), row.set_time_unix_nano, row.ended_time_unix_nano
                )
                for row in database.execute(query)
            }
        return sorted(found.values(), key=lambda one: one.set_time_unix_nano)

    def campaign_of(self, device_id: str, now_ns: int) -> Campaign | None:
        """What is meant for a device: of those that run, the one that was set last."""
        return next(
            (
                one.campaign
                for one in reversed(self.campaigns())
                if one.runs_at(now_ns)
                and any(fits(entry, device_id) for entry in one.campaign.devices)
            ),
            None,
        )

    def _prune(self, now_ns: int) -> None:
        """Once an hour, forget reports that are old; what a run amounts to stays."""
        if time.monotonic() - self._pruned_s < _PRUNE_EVERY_S:
            return
        self._pruned_s = time.monotonic()
        old = sa.delete(REPORTS).where(REPORTS.c.received_time_unix_nano < now_ns - KEPT_NS)
        with self._database.connect() as database:
            database.execute(old)


def insert_once(database: sa.Connection, table: sa.Table, values: dict[str, Any]) -> Any:
    """What makes a row, unless it is there, by whichever process."""
    dialect = postgresql if database.dialect.name == "postgresql" else sqlite
    return dialect.insert(table).values(values).on_conflict_do_nothing()
