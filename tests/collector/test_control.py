"""A real collector: a report counts once, what is lost shows, campaigns find their devices."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from misgiving.collector.control.control import KEPT_NS, Control
from misgiving.collector.store import Store
from misgiving.runtime.errors import NotFound
from misgiving.runtime.net.connecting import open_channel
from misgiving.runtime.wire.campaigns import to_campaign
from misgiving.runtime.wire.reports import Report, to_report_message
from misgiving.v1.control_pb2 import GetCampaignRequest, ReportRequest
from misgiving.v1.control_pb2_grpc import FleetControlStub
from shared.certificates import LOOPBACK, Authority
from shared.collecting import collecting
from shared.reporting import HOUR_NS, OTHER_RUN, campaign, report

MINUTE_NS = 60 * 10**9


@contextmanager
def calling(address: str, tls: Path | None = None) -> Iterator[FleetControlStub]:
    with open_channel(address, 1.0, tls=tls) as channel:
        yield FleetControlStub(channel)


def send(stub: FleetControlStub, one: Report) -> None:
    stub.Report(ReportRequest(report=to_report_message(one)), timeout=60)


def test_a_report_counts_once_and_what_is_missing_is_a_gap(store: Store, control: Control) -> None:
    with collecting(store) as address, calling(address) as stub:
        for sequence in (1, 1, 4):
            send(stub, report(sequence))
        (run,) = control.runs()
        assert (run.reports, run.lost, run.report) == (2, 2, report(4))
        send(stub, report(2))  # it was only late
        (run,) = control.runs()
        assert (run.reports, run.lost, run.report) == (3, 1, report(4))


def test_reports_at_once_lose_no_count(control: Control) -> None:
    every = [report(1 + at % 24) for at in range(48)]
    with ThreadPoolExecutor(8) as pool:
        new = list(pool.map(lambda one: control.add(one, 1), every))
    (run,) = control.runs()
    assert (sum(new), run.reports, run.lost, run.report.sequence) == (24, 24, 0, 24)


def test_processes_and_devices_are_told_apart(control: Control) -> None:
    for received, one in enumerate(
        [report(3), report(1, run_id=OTHER_RUN), report(1, device_id="car-1")]
    ):
        control.add(one, received)
    assert [(run.report.device_id, run.lost) for run in control.runs()] == [
        ("van-7", 2),
        ("van-7", 0),
        ("car-1", 0),
    ]


def test_what_was_counted_since_a_time(control: Control) -> None:
    for one in (report(1), report(2), report(5), report(1, run_id=OTHER_RUN)):
        control.add(one, 1)
    assert list(control.counted(0)) == [
        (report(1, run_id=OTHER_RUN), None),
        (report(5), None),
    ]
    assert list(control.counted(3 * MINUTE_NS)) == [(report(5), report(2))]
    assert list(control.counted(5 * MINUTE_NS)) == []
    assert list(control.counted(0, "car-1")) == []


def test_old_reports_go_and_leave_no_gap(store: Store, control: Control) -> None:
    control.add(report(1), 1)
    Control(store.database).add(report(2), KEPT_NS + 2)
    assert list(control.counted(MINUTE_NS)) == [(report(2), None)]  # the first is forgotten
    (run,) = control.runs()
    assert (run.reports, run.lost) == (2, 0)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"run_id": "7"}, "expected 32 hexadecimal digits"),
        ({"sequence": 0}, "counted from 1 on"),
        ({"device_id": "x" * 257}, "expected at most 256"),
        ({"device_id": "a\0b"}, "no zero byte"),
        ({"last_exchange": "x" * 70_000}, "expected at most 65,536"),
    ],
)
def test_reports_that_are_none(
    store: Store, control: Control, fields: dict[str, object], said: str
) -> None:
    with collecting(store) as address, calling(address) as stub:
        with pytest.raises(grpc.RpcError) as caught:
            send(stub, report(**fields))
        assert caught.value.code().name == "INVALID_ARGUMENT"
        assert said in caught.value.details()
    assert control.runs() == []


def test_histograms_that_are_none(store: Store) -> None:
    with collecting(store) as address, calling(address) as stub:
        for bounds, counts in (([1.0], [1]), ([2.0, 1.0], [1, 1, 1]), ([0.0] * 201, [0] * 202)):
            message = to_report_message(report())
            message.predicted_loss.bounds[:], message.predicted_loss.counts[:] = bounds, counts
            with pytest.raises(grpc.RpcError, match="predicted_loss has"):
                stub.Report(ReportRequest(report=message), timeout=60)


def test_a_device_gets_the_campaign_that_was_set_last_for_it(
    store: Store, control: Control
) -> None:
    with collecting(store) as address, calling(address) as stub:

        def given(device_id: str) -> tuple[str, int] | None:
            said = stub.GetCampaign(GetCampaignRequest(device_id=device_id), timeout=60)
            one = to_campaign(said.campaign)
            return (one.name, one.revision) if said.HasField("campaign") else None

        assert given("van-7") is None
        control.set_campaign(campaign("storm"))
        control.set_campaign(replace(campaign("seven"), devices=("van-7",)))
        assert [given(name) for name in ("van-7", "van-8", "car-1")] == [
            ("seven", 1),
            ("storm", 1),
            None,
        ]
        control.set_campaign(campaign("storm"))
        assert given("van-7") == ("storm", 2)
        control.end_campaign("storm")
        assert [given(name) for name in ("van-7", "van-8")] == [("seven", 1), None]


def test_campaigns_expire_and_end_once(control: Control) -> None:
    made = control.set_campaign(campaign(hours=1))
    now = made.expiry_time_unix_nano - HOUR_NS
    assert control.campaign_of("van-7", now) == made
    assert control.campaign_of("van-7", made.expiry_time_unix_nano) is None
    control.end_campaign("storm")
    for name in ("storm", "calm"):
        with pytest.raises(NotFound, match="does not run"):
            control.end_campaign(name)


def test_a_certificate_speaks_for_its_own_device_alone(
    tmp_path: Path, store: Store, control: Control
) -> None:
    authority = Authority.new()
    own = authority.issue(tmp_path / "collector", *LOOPBACK)
    van = authority.issue(tmp_path / "van", "van-7")
    with collecting(store, tls=own) as address, calling(address, van) as stub:
        send(stub, report())
        for call in (
            lambda: send(stub, report(device_id="van-8")),
            lambda: stub.GetCampaign(GetCampaignRequest(device_id="van-8"), timeout=60),
        ):
            with pytest.raises(grpc.RpcError, match="call is of device .van-8.") as caught:
                call()
            assert caught.value.code().name == "PERMISSION_DENIED"
        send(stub, report(2, device_id=""))  # nobody has named it but the certificate
    nobody = authority.issue(tmp_path / "nobody")
    with (
        collecting(store, tls=own) as address,
        calling(address, nobody) as stub,
        pytest.raises(grpc.RpcError, match="the certificate has no name"),
    ):
        send(stub, report())
    (run,) = control.runs()
    assert (run.report.device_id, run.reports) == ("van-7", 2)
