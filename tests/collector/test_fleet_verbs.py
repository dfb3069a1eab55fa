"""``misgiving fleet``: how vehicles do, and campaigns from a file."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from misgiving.collector.control.campaign_toml import read_campaign_file
from misgiving.collector.control.cli import app
from misgiving.collector.control.control import Control
from misgiving.collector.store import Store
from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.status import SpoolStatus
from misgiving.runtime.wire.reports import BudgetLeft, CampaignState, Histogram, Running
from shared.reporting import OTHER_RUN, campaign, report

STORM = """
name = "storm"
devices = ["van-*", "car-1"]
expires = 2199-12-31T00:00:00Z
[flags]
threshold = "likely"
frames_per_day = 500
bytes_per_day = "200MB"
audit_rate = 1
"""


def fleet(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Of a van that lost a report and refuses a campaign, and a car that does neither."""
    with Store(tmp_path / "store") as store:
        control = Control(store.database)
        made = control.set_campaign(campaign("storm"))
        control.add(report(1, device_id="car-1", campaign=CampaignState("storm", 1)), 1)
        control.add(report(2, run_id=OTHER_RUN), 2)
        full = report(
            1,
            running=Running("lite", "3", "ab" * 32, "onnxruntime", float("inf")),
            answered_in=Histogram((0.1, 0.2), (0, 4, 0)),
            failed={"INTERNAL": 2, "CANCELLED": 0},
            budgets=(BudgetLeft("frames", "day", 7),),
            spool=SpoolStatus(1, 2, 3, 4.0, 5, 6, 7, 8),
            drifting=True,
            campaign=CampaignState(made.name, made.revision, "no such threshold\x1b[31m"),
        )
        control.add(full, 3)
    return tmp_path / "store"


def test_status_says_how_each_device_does(store: Path) -> None:
    car, van = fleet("status", "--store", store).split("van-7: ")
    assert "campaign storm, revision 1: runs" in car
    assert "GAPS" not in car
    assert van.splitlines()[1:] == [
        "  lite 3 (abababababab) on onnxruntime, misgiving ",
        "  10 frames answered (p99 0.199 s), 0 dropped, 2 failed (2 INTERNAL); 0 persons, "
        "0 flagged; kept: 1 audit",
        "  budget left: 7 frames this day",
        "  spool: 1 frames wait, 5 lost, 6 evicted, 2 refused",
        "  DRIFT: predicted losses have left the bundle's reference",
        "  campaign storm, revision 1: refused: no such threshold\\x1b[31m",
        "  GAPS: 1 reports never came",
    ]


def test_status_for_programs(store: Path) -> None:
    (line,) = fleet("status", "--store", store, "--device", "van-*", "--json").splitlines()
    record = json.loads(line)
    assert (record["device"], record["runs"], record["lost_reports"]) == ("van-7", 2, 1)
    assert record["report"]["running"]["threshold"] is None
    assert record["report"]["kept"] == {"audit": 1}


def test_a_campaign_from_its_file_to_its_end(store: Path, tmp_path: Path) -> None:
    (file := tmp_path / "storm.toml").write_text(STORM)
    assert fleet("campaign", "set", file, "--store", store) == (
        "campaign storm, revision 2, for van-*, car-1\n"
    )
    with Store(store) as opened:
        given = Control(opened.database).campaign_of("car-1", 0)
    assert given is not None
    assert given.flags == {
        "threshold": "likely",
        "frames_per_day": 500,
        "bytes_per_day": 200_000_000,
        "audit_rate": 1.0,
    }
    listed = fleet("campaign", "list", "--store", store)
    assert listed.startswith("storm, revision 2, running: threshold = likely, ")
    assert listed.endswith("for van-*, car-1; devices that run it: 0, that refuse it: 0\n")
    fleet("campaign", "end", "storm", "--store", store)
    assert ", ended: " in fleet("campaign", "list", "--store", store)


def test_who_runs_and_who_refuses_is_counted(store: Path) -> None:
    listed = fleet("campaign", "list", "--store", store)
    assert "devices that run it: 1, that refuse it: 1 (no such threshold" in listed


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "storm"', "", "name: Field required"),
        ('"van-*", "car-1"', "", "devices: "),
        ("2199-12-31T00:00:00Z", "2199-12-31T00:00:00", "has no zone"),
        ("2199", "1999", "is past"),
        ("2199", "2999", "expected 2200 or before"),
        ("audit_rate = 1", "audit_rate = 2", "expected a share from 0 to 1"),
        ("audit_rate = 1", "audit_reserve = 0.1", "audit_reserve is none of a campaign's"),
        ("frames_per_day = 500", "frames_per_day = 1", "flags.frames_per_day|frames_per_day: "),
        (STORM.partition("[flags]\n")[2], "", "is empty"),
        ("[flags]", "[flags", "is no TOML"),
    ],
)
def test_files_that_are_none(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in STORM
    (file := tmp_path / "storm.toml").write_text(STORM.replace(old, new))
    with pytest.raises(InvalidInput, match=said) as caught:
        read_campaign_file(file)
    assert "\n" not in str(caught.value)
