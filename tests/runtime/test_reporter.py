"""Reports wait on disk until a real collector has them; campaigns hold until told otherwise."""

import logging
import threading
from pathlib import Path

import pytest

from misgiving.collector.control.control import Control
from misgiving.collector.store import Store
from misgiving.runtime.control.journal import JOURNAL, Journal
from misgiving.runtime.control.link import Link
from misgiving.runtime.control.reporter import Reporter
from misgiving.runtime.errors import FailedPrecondition
from misgiving.runtime.wire.campaigns import Campaign
from misgiving.runtime.wire.campaigns import serialised as serialised_campaign
from misgiving.runtime.wire.reports import CampaignState, Report, read_report, serialised
from shared.collecting import DEADLINE_S, collecting, eventually
from shared.ports import nobody, unused_port
from shared.reporting import campaign, report
from shared.serving import serving

NEVER_S = 1e6
GRACE_S = 60.0


def take(run_id: str, sequence: int, state: CampaignState | None) -> Report:
    return report(sequence, run_id=run_id, campaign=state)


class Vehicle:
    """A reporter, and what it tells whoever follows campaigns."""

    def __init__(self, folder: Path, address: str, every_s: float = NEVER_S) -> None:
        self.campaigns: list[Campaign | None] = []
        self.told = threading.Semaphore(0)
        self._reporter = Reporter(
            Journal(folder), Link(address), "van-7", take, self._follow, every_s=every_s
        )
        self._reporter.start()

    def _follow(self, given: Campaign | None) -> CampaignState | None:
        self.campaigns.append(given)
        self.told.release()
        return CampaignState(given.name, given.revision) if given else None

    def next(self) -> None:
        assert self.told.acquire(timeout=DEADLINE_S)

    def stop(self) -> None:
        self._reporter.stop(GRACE_S)


def waiting(folder: Path) -> list[int]:
    """Sequences of the reports that a journal has."""
    journal = Journal(folder)
    try:
        return [read_report(body).sequence for _, body in journal.reports()]
    finally:
        journal.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "spool").mkdir()
    return tmp_path / "spool"


def test_reports_of_a_day_without_a_network_come_later(
    folder: Path, store: Store, control: Control
) -> None:
    with nobody() as address:
        for _ in range(2):
            vehicle = Vehicle(folder, address)
            vehicle.next()
            vehicle.stop()
    assert waiting(folder) == [1, 2, 1, 2]
    with collecting(store) as address:
        vehicle = Vehicle(folder, address)
        eventually(lambda: len(control.runs()) == 3)
        vehicle.stop()
    assert waiting(folder) == []
    assert [(run.reports, run.lost) for run in control.runs()] == [(2, 0)] * 3


def test_a_collector_that_comes_back_is_told_and_one_line_says_so(
    folder: Path, store: Store, control: Control, caplog: pytest.LogCaptureFixture
) -> None:
    address = f"127.0.0.1:{unused_port()}"
    vehicle = Vehicle(folder, address, every_s=0.05)
    for _ in range(4):
        vehicle.next()
    with collecting(store, address):
        eventually(lambda: "takes reports" in caplog.text)
        vehicle.stop()
    (run,) = control.runs()
    assert run.lost == 0
    assert run.reports >= 4
    assert caplog.text.count("trying on") == 1


def test_beyond_a_week_the_oldest_go_and_the_gap_shows(
    folder: Path, store: Store, control: Control, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(folder, most=3)
    for sequence in range(1, 6):
        journal.add(serialised(report(sequence)))
    journal.close()
    assert waiting(folder) == [3, 4, 5]
    assert "the oldest report is dropped" in caplog.text
    with collecting(store) as address:
        vehicle = Vehicle(folder, address)
        eventually(lambda: len(control.runs()) == 2)
        vehicle.stop()
    assert sorted(run.lost for run in control.runs()) == [0, 2]


def test_a_report_that_is_refused_holds_no_other_up(
    folder: Path, store: Store, control: Control, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(folder)
    journal.add(b"")  # as a report: without run and sequence
    journal.close()
    with collecting(store) as address:
        vehicle = Vehicle(folder, address)
        eventually(lambda: len(control.runs()) == 1)
        vehicle.stop()
    assert "refuses a report: INVALID_ARGUMENT: run_id is ''" in caplog.text
    assert waiting(folder) == []


def test_an_older_collector_is_waited_for(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving() as older:  # of ours, and without this service
        vehicle = Vehicle(folder, older.address)
        vehicle.next()
        eventually(lambda: "trying on" in caplog.text)
        vehicle.stop()
    assert "takes no reports, UNIMPLEMENTED" in caplog.text
    assert vehicle.campaigns == [None, None]
    assert waiting(folder) == [1, 2]


def test_a_campaign_is_fetched_acknowledged_and_taken_back(
    folder: Path, store: Store, control: Control
) -> None:
    made = control.set_campaign(campaign())
    with collecting(store) as address:
        vehicle = Vehicle(folder, address, every_s=0.05)

        def acknowledged() -> CampaignState | None:
            runs = control.runs()
            return runs[0].report.campaign if runs else None

        eventually(lambda: acknowledged() == CampaignState("storm", 1))
        control.end_campaign("storm")
        eventually(lambda: acknowledged() is None)
        vehicle.stop()
    assert vehicle.campaigns[0] == made
    assert vehicle.campaigns[-1] is None


@pytest.mark.parametrize(("hours", "holds"), [(1, True), (-1, False)])
def test_without_a_network_a_campaign_holds_until_it_expires(
    folder: Path, hours: float, holds: bool
) -> None:
    known = campaign(hours=hours)
    journal = Journal(folder)
    journal.campaign = serialised_campaign(known)
    journal.close()
    with nobody() as address:
        vehicle = Vehicle(folder, address)
        vehicle.next()
        vehicle.stop()
    assert vehicle.campaigns == [known if holds else None] * 2


def test_a_failure_of_the_process_ends_no_reports(
    folder: Path, store: Store, control: Control, caplog: pytest.LogCaptureFixture
) -> None:
    broken = iter([True])

    def failing(run_id: str, sequence: int, state: CampaignState | None) -> Report:
        if next(broken, False):
            raise RuntimeError("no metrics")
        return take(run_id, sequence, state)

    with collecting(store) as address:
        reporter = Reporter(Journal(folder), Link(address), "van-7", failing, every_s=0.05)
        reporter.start()
        eventually(lambda: bool(control.runs()))
        reporter.stop(GRACE_S)
    assert control.runs()[0].lost == 1
    assert "no metrics" in caplog.text


def test_a_journal_of_junk(folder: Path) -> None:
    (folder / JOURNAL).write_bytes(b"junk" * 1000)
    with pytest.raises(FailedPrecondition, match="move the file away"):
        Journal(folder)


@pytest.fixture(autouse=True)
def _heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "misgiving")
