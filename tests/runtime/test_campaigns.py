"""A campaign over a vehicle's own settings: its limits win, and its settings come back."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from misgiving.collector.control.control import Control
from misgiving.collector.store import Store
from misgiving.runtime.client import Client
from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.settings.campaigns import flags_under
from misgiving.runtime.settings.model import FlagsTable, Settings
from misgiving.runtime.verbs.campaigning import Campaigning
from misgiving.runtime.wire.campaigns import Campaign, read_campaign, serialised
from misgiving.runtime.wire.reports import CampaignState
from runtime.commands import server
from runtime.exchange import OLD, Exchange, settings
from shared import tiny
from shared.collecting import collecting, eventually
from shared.reporting import campaign
from shared.serving import Running, serving


@pytest.mark.parametrize(
    ("own", "asked", "holds"),
    [
        # whom to look for is the campaign's
        ({"threshold": 0.5}, {"threshold": "likely"}, {"threshold": "likely"}),
        ({}, {"release": 0.1, "repeat_s": 60.0}, {"release": 0.1, "repeat_s": 60.0}),
        ({"near_duplicate": 0.1}, {"near_duplicate": 0.2}, {"near_duplicate": 0.2}),
        # of budgets the smaller, of intervals the longer
        ({"frames_per_day": 9}, {"frames_per_day": 99}, {"frames_per_day": 9}),
        ({"frames_per_day": 99}, {"frames_per_day": 9}, {"frames_per_day": 9}),
        ({}, {"bytes_per_hour": 9}, {"bytes_per_hour": 9}),
        ({"bytes_per_day": 9}, {"threshold": 1.0}, {"bytes_per_day": 9, "threshold": 1.0}),
        ({"interval_s": 5.0}, {"interval_s": 1.0}, {"interval_s": 5.0}),
        ({"interval_s": 1.0}, {"interval_s": 5.0}, {"interval_s": 5.0}),
        # the audit is never less, and none stays none
        ({"audit_rate": 0.1}, {"audit_rate": 0.01}, {"audit_rate": 0.1}),
        ({"audit_rate": 0.1}, {"audit_rate": 0.5}, {"audit_rate": 0.5}),
        ({"audit_rate": 0.0}, {"audit_rate": 0.5}, {"audit_rate": 0.0}),
    ],
)
def test_limits_of_the_vehicle_win(
    own: dict[str, object], asked: dict[str, float | str], holds: dict[str, object]
) -> None:
    made = flags_under(FlagsTable(**own), campaign(**asked))
    assert made == FlagsTable(**(own | holds))


def test_without_a_campaign_nothing_changes() -> None:
    own = FlagsTable(threshold=0.5)
    assert flags_under(own, None) is own


def test_values_that_no_key_takes_are_refused() -> None:
    for flags in ({"audit_rate": 2.0}, {"frames_per_day": 1}, {"threshold": float("nan"), "x": 1}):
        with pytest.raises(InvalidInput, match="campaign 'storm': "):
            flags_under(FlagsTable(), campaign(**flags))


def test_a_campaign_comes_back_as_it_was_set() -> None:
    every = campaign(
        threshold="likely",
        release=0.1,
        audit_rate=0.5,
        repeat_s=1.0,
        interval_s=2.0,
        near_duplicate=0.1,
        frames_per_minute=2,
        frames_per_hour=3,
        frames_per_day=4,
        bytes_per_minute=5,
        bytes_per_hour=6,
        bytes_per_day=1 << 40,
    )
    for one in (every, campaign(threshold=float("-inf"), release="likely"), campaign()):
        assert read_campaign(serialised(one)) == one


class Steered:
    """A server that runs, under campaigns."""

    def __init__(self, running: Running) -> None:
        self.exchange = Exchange(running)
        self.server = running
        self.campaigning = Campaigning(self.exchange.exchanger, self._apply)

    async def _apply(self, new: Settings) -> str:
        await self.exchange.exchanger.follow(new)
        return "applied"

    def follow(self, given: Campaign | None) -> CampaignState | None:
        said: CampaignState | None = self.server.call(self.campaigning.follow(given))
        return said

    def reload(self, threshold: float | str) -> None:
        self.server.call(self.campaigning.reload(settings(threshold)))

    @property
    def threshold(self) -> float:
        """By which is decided."""
        return self.server.pipeline.policy.threshold


@pytest.fixture
def steered() -> Iterator[Steered]:
    with serving(policy=OLD) as running:
        yield Steered(running)


def test_a_campaign_runs_until_it_is_taken_back(steered: Steered) -> None:
    assert steered.follow(campaign(threshold=0.25)) == CampaignState("storm", 1)
    assert (steered.threshold, steered.server.pipeline.campaign) == (0.25, "storm")
    assert steered.follow(None) is None
    assert (steered.threshold, steered.server.pipeline.campaign) == (OLD.threshold, "")


def test_what_does_not_fit_is_refused_and_the_own_settings_hold(steered: Steered) -> None:
    steered.follow(campaign(threshold=0.25))
    for flags, why in (
        ({"threshold": "never"}, "'never'"),
        ({"threshold": 0.25, "release": 0.5}, "release is 0.5; expected at most the threshold"),
        ({"audit_rate": 7.0}, "audit rate is 7"),
    ):
        state = steered.follow(campaign("bad", **flags))
        assert state is not None
        assert why in state.refusal
        assert (steered.threshold, steered.server.pipeline.campaign) == (OLD.threshold, "")
    assert steered.follow(campaign(threshold=0.25)) == CampaignState("storm", 1)


def test_settings_that_are_read_again_stay_under_the_campaign(steered: Steered) -> None:
    steered.follow(given := campaign(threshold=0.25))
    steered.reload(0.5)
    assert steered.threshold == 0.25
    steered.follow(None)
    assert steered.threshold == 0.5
    steered.follow(given)
    with pytest.raises(InvalidInput, match="'never'"):
        steered.reload("never")
    assert (steered.threshold, steered.server.pipeline.campaign) == (0.25, "storm")


def test_own_settings_that_the_campaign_contradicts_come_first(steered: Steered) -> None:
    given = campaign(release=0.7)
    assert steered.follow(given) == CampaignState("storm", 1)
    steered.reload(0.5)  # below that release
    assert steered.threshold == 0.5
    state = steered.follow(given)
    assert state is not None
    assert state.refusal


def test_a_server_reports_and_runs_what_its_collector_asks_for(tmp_path: Path) -> None:
    file = tmp_path / "misgiving.toml"
    file.write_text(
        '[server]\ndevice_id = "van-7"\n[flags]\nthreshold = 0.5\nframes_per_day = 9\n'
        '[spool]\nfolder = "spool"\n[fleet]\ncampaigns = true\n'
    )
    with Store(tmp_path / "store") as store, collecting(store) as collector:
        control = Control(store.database)
        control.set_campaign(campaign(threshold=0.25, frames_per_day=99))
        with server("--config", file, "--threads", 1, "--collector", collector) as (process, at):
            eventually(lambda: len(control.runs()) == 1)
            with Client(at) as client:
                (person,) = client.infer(tiny.spots([3] * 14)).persons
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        (run,) = control.runs()
    report = run.report
    assert person.flag.threshold == 0.25
    assert (run.lost, report.device_id, report.answered, report.persons) == (0, "van-7", 1, 1)
    assert report.campaign == CampaignState("storm", 1)
    assert report.running is not None
    assert (report.running.name, report.running.threshold) == ("bright-spots", 0.25)
    (budget,) = report.budgets
    assert (budget.unit, budget.period) == ("frames", "day")
    assert budget.left == 9 - sum((report.kept or {}).values())
    assert sum(report.predicted_loss.counts) == sum(report.answered_in.counts) == 1
    assert report.spool is not None


def test_a_server_without_reports_tells_nothing(tmp_path: Path) -> None:
    file = tmp_path / "misgiving.toml"
    file.write_text('[spool]\nfolder = "spool"\n[fleet]\nreports = false\n')
    with Store(tmp_path / "store") as store, collecting(store) as collector:
        with server("--config", file, "--threads", 1, "--collector", collector) as (process, _):
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        assert Control(store.database).runs() == []
    assert not (tmp_path / "spool" / "reports.sqlite").exists()


def test_campaigns_without_reports_are_refused() -> None:
    with pytest.raises(ValueError, match="Leave fleet.reports out"):
        Settings.model_validate({"fleet": {"reports": False, "campaigns": True}})
