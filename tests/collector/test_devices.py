"""Who may send and ask what, by real certificates; quotas; what arrives is counted and logged."""

import hashlib
import logging
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import grpc
import pytest
import sqlalchemy as sa

from misgiving.collector.declining import Declining
from misgiving.collector.frames.arrivals import Arrivals
from misgiving.collector.frames.devices import DAY_NS, Devices
from misgiving.collector.frames.selection import FrameSelection, select_frames
from misgiving.collector.store import Store, StoredFrame
from misgiving.collector.store.tables import DECLINED, FRAMES
from misgiving.runtime.net.connecting import open_channel
from misgiving.runtime.verbs import command
from misgiving.runtime.wire.offers import header_of
from misgiving.runtime.wire.reports import to_report_message
from misgiving.v1.control_pb2 import ReportRequest
from misgiving.v1.control_pb2_grpc import FleetControlStub
from misgiving.v1.fleet_pb2 import (
    OFFER_VERDICT_DECLINED,
    OFFER_VERDICT_REFUSED,
    CollectedFrame,
    OfferedFrame,
    OfferRequest,
    StatUploadRequest,
    UploadRequest,
    UploadResponse,
    UploadStart,
)
from misgiving.v1.fleet_pb2_grpc import FleetCollectorStub
from shared.certificates import LOOPBACK, Authority
from shared.collecting import (
    collected,
    collecting,
    files_below,
    person,
    serialise,
)
from shared.reporting import report
from shared.rows import exported, mark
from shared.services import Place

CAR, BUS = "car-7", "spiffe://fleet.example/bus/1"
DENIED, UNKNOWN, BUSY = "PERMISSION_DENIED", "UNAUTHENTICATED", "UNAVAILABLE"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of the collector's, of two devices', and of somebody's without a name."""
    folder, authority = tmp_path_factory.mktemp("certificates"), Authority.new()
    authority.issue(folder / "collector", *LOOPBACK)
    for name in (CAR, BUS):
        authority.issue(folder / name.rpartition("/")[2], name)
    authority.issue(folder / "nameless")
    return folder


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    with place.open() as store:
        yield store


@contextmanager
def calling(address: str, tls: Path | None = None) -> Iterator[FleetCollectorStub]:
    with open_channel(address, 1.0, tls=tls) as channel:
        yield FleetCollectorStub(channel)


def body_of(name: str, device: str) -> bytes:
    frame: CollectedFrame = collected(name)
    frame.device_id = device
    return serialise(frame)


def upload(stub: FleetCollectorStub, body: bytes, offset: int = 0) -> UploadResponse:
    digest = hashlib.sha256(body).hexdigest()
    start = UploadStart(digest=digest, size_bytes=len(body), offset_bytes=offset)
    requests = [UploadRequest(start=start)]
    requests += [UploadRequest(chunk=body[offset:])] if offset < len(body) else []
    return stub.Upload(iter(requests))


def refused(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details() or ""


def is_stored(stub: FleetCollectorStub, body: bytes) -> bool:
    digest = hashlib.sha256(body).hexdigest()
    return stub.StatUpload(StatUploadRequest(digest=digest)).stored


def rows(store: Store) -> list[StoredFrame]:
    with store.database.connect(reads=True) as connection:
        return select_frames(connection, FrameSelection())[::-1]


def test_a_device_sends_and_asks_for_its_own_alone(store: Store, certificates: Path) -> None:
    ours, theirs, unnamed = body_of("a", CAR), body_of("b", BUS), body_of("c", "")
    with collecting(store, tls=certificates / "collector") as address:
        with calling(address, certificates / "car-7") as car:
            assert not upload(car, ours).already_stored
            assert is_stored(car, ours)
            assert upload(car, ours).already_stored
            code, said = refused(lambda: upload(car, theirs))
            assert code == DENIED
            assert said.startswith(
                f"frame is of device '{BUS}', the certificate of {CAR}; expected"
            )
            upload(car, unnamed)
        with calling(address, certificates / "1") as bus:
            assert not is_stored(bus, ours)
            assert refused(lambda: upload(bus, ours))[0] == DENIED
            upload(bus, theirs)
    found = [(row.frame_id, row.device_id, row.identity) for row in rows(store)]
    assert found == [("a", CAR, CAR), ("c", CAR, CAR), ("b", BUS, BUS)]
    assert files_below(store.folder / "incoming") == []
    assert store.read(hashlib.sha256(ours).hexdigest()).frame.frame_id == "a"


def test_a_certificate_without_a_name(store: Store, certificates: Path) -> None:
    with (
        collecting(store, tls=certificates / "collector") as address,
        calling(address, certificates / "nameless") as nobody,
    ):
        for call in (lambda: upload(nobody, b"x"), lambda: is_stored(nobody, b"x")):
            code, said = refused(call)
            assert code == UNKNOWN
            assert "expected a DNS or URI name" in said


def test_a_gateway(store: Store, certificates: Path) -> None:
    body, any_name = body_of("a", "car-9"), Devices(any_name=True)
    with (
        collecting(store, tls=certificates / "collector", devices=any_name) as address,
        calling(address, certificates / "1") as gateway,
    ):
        upload(gateway, body)
        assert is_stored(gateway, body)
    assert [(row.device_id, row.identity) for row in rows(store)] == [("car-9", BUS)]


def test_frames_of_before_certificates_are_known(store: Store, certificates: Path) -> None:
    body = body_of("a", CAR)
    store.put(body)
    with (
        collecting(store, tls=certificates / "collector") as address,
        calling(address, certificates / "car-7") as car,
    ):
        assert is_stored(car, body)


def test_an_offer_is_of_the_device_that_makes_it(store: Store, certificates: Path) -> None:
    """A frame without a name repeats a picture of its own device, and is declined; one of another
    is refused, and nothing is written down in its name.
    """
    ours, picture = collected("a"), collected("a").frame.image.encoded
    ours.device_id = CAR
    again = [collected(name, image=picture) for name in ("b", "c")]
    for one, device in zip(again, ("", BUS), strict=True):
        one.device_id = device
    rules = Declining(pictures=True)
    with (
        collecting(store, tls=certificates / "collector", declining=rules) as address,
        calling(address, certificates / "car-7") as car,
        calling(address, certificates / "1") as bus,
    ):
        upload(car, serialise(ours))
        upload(bus, body_of("a", BUS))  # the same picture
        answers = car.Offer(OfferRequest(frames=[_offered(one) for one in again])).answers
    assert [one.verdict for one in answers] == [OFFER_VERDICT_DECLINED, OFFER_VERDICT_REFUSED]
    assert answers[1].reason.startswith(f"frame is of device '{BUS}', the certificate of {CAR}; ")
    with store.database.connect(reads=True) as connection:
        assert list(connection.scalars(sa.select(DECLINED.c.device_id))) == [CAR]


def _offered(frame: CollectedFrame) -> OfferedFrame:
    body = serialise(frame)
    digest = hashlib.sha256(body).hexdigest()
    return OfferedFrame(digest=digest, size_bytes=len(body), header=header_of(frame))


OURS, THEIRS, HALF = body_of("a", CAR), body_of("b", BUS), body_of("c", CAR)


def _both_send(car: grpc.Channel, bus: grpc.Channel) -> None:
    """A frame and a report each; one sends a half as well and offers a repeat, and the other one
    the first one's frames.
    """
    ours, theirs = FleetCollectorStub(car), FleetCollectorStub(bus)
    upload(ours, OURS)
    upload(theirs, THEIRS)
    for body in (OURS, body_of("d", CAR)):
        assert refused(partial(upload, theirs, body))[0] == DENIED
    again = collected("e", image=collected("a").frame.image.encoded)
    again.device_id = CAR
    answers = ours.Offer(OfferRequest(frames=[_offered(again)])).answers
    assert [one.verdict for one in answers] == [OFFER_VERDICT_DECLINED]
    for device, channel in ((CAR, car), (BUS, bus)):
        said = to_report_message(report(device_id=device))
        FleetControlStub(channel).Report(ReportRequest(report=said))
    start = UploadStart(digest=hashlib.sha256(HALF).hexdigest(), size_bytes=len(HALF))
    cut = [UploadRequest(start=start), UploadRequest(chunk=HALF[:99])]
    assert refused(lambda: ours.Upload(iter(cut)))[0] == "INVALID_ARGUMENT"


def test_a_device_is_erased_and_no_other(
    store: Store, place: Place, certificates: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its rows in whatever table, its objects, and every part: none says whose it is."""
    tls, rules = certificates / "collector", Declining(pictures=True)
    with (
        collecting(store, tls=tls, declining=rules) as address,
        open_channel(address, 1.0, tls=certificates / "car-7") as car,
        open_channel(address, 1.0, tls=certificates / "1") as bus,
    ):
        _both_send(car, bus)
    digest = hashlib.sha256(OURS).hexdigest()
    with store.database.connect() as connection:
        mark(connection, digest, "confirmed")
        exported(connection, digest, "batch-7")
    traces = (CAR, BUS, digest, "confirmed", "batch-7")
    assert [one for one in traces if one in _written(store)] == list(traces)
    assert len(files_below(store.folder / "incoming")) == 1

    options = zip(("--store", "--database", "--objects"), place.arguments, strict=True)
    words = [word for option in options if option[1] for word in option]
    assert command.run(["frames", "erase", *words, "--device", CAR, "--yes"]) == 1
    out, err = capsys.readouterr()
    assert "1 unfinished uploads and 1 notes of declined frames are erased; none is left" in out
    assert "export batch-7 has copies of 1 of them" in err
    assert ("at other collectors are in their --store" in err) == bool(place.url)
    assert [one for one in traces if one in _written(store)] == [BUS]
    assert place.all_objects() == [hashlib.sha256(THEIRS).hexdigest()]
    assert files_below(store.folder / "incoming") == []
    assert [row.device_id for row in rows(store)] == [BUS]


def _written(store: Store) -> str:
    """Whatever the database has, in whatever table."""
    tables = sa.MetaData()
    with store.database.connect(reads=True) as connection:
        tables.reflect(connection)
        every = [connection.execute(sa.select(one)).all() for one in tables.sorted_tables]
    return str(every)


FIRST, SECOND = body_of("a", CAR), body_of("b", CAR)


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        (Devices(frames_per_day=1), "1 frames in 24 hours; expected at most 1 frames"),
        (Devices(bytes_per_day=len(FIRST)), "kB in 24 hours; expected at most"),
    ],
)
def test_a_quota_of_a_day(store: Store, certificates: Path, devices: Devices, said: str) -> None:
    with collecting(store, tls=certificates / "collector", devices=devices) as address:
        with calling(address, certificates / "car-7") as car:
            upload(car, FIRST)
            code, why = refused(lambda: upload(car, SECOND))
            assert code == BUSY
            assert said in why
            assert files_below(store.folder / "incoming") == []  # its bytes were not taken
            assert upload(car, FIRST).already_stored
        with calling(address, certificates / "1") as bus:
            upload(bus, body_of("c", BUS))
        _age(store, DAY_NS)
        with calling(address, certificates / "car-7") as car:
            upload(car, SECOND)
    assert store.count() == 3


def test_a_quota_without_certificates(store: Store) -> None:
    """Only the frame says whose it is: its bytes stay, and need not be sent again."""
    with (
        collecting(store, devices=Devices(frames_per_day=1)) as address,
        calling(address) as car,
    ):
        upload(car, FIRST)
        assert refused(lambda: upload(car, SECOND))[0] == BUSY
        upload(car, body_of("c", "car-8"))
        _age(store, DAY_NS)
        upload(car, SECOND, offset=len(SECOND))
    assert store.count() == 3


def _age(store: Store, by_ns: int) -> None:
    """Let time go by for all that was stored."""
    arrived = FRAMES.c.received_time_unix_nano
    with store.database.connect() as connection:
        connection.execute(sa.update(FRAMES).values(received_time_unix_nano=arrived - by_ns))


def test_what_arrives_is_counted_and_logged(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    arrivals = Arrivals()
    audited = collected("b", persons=[person(0, loss=0.25)])
    with collecting(store, arrivals=arrivals) as address, calling(address) as car:
        upload(car, FIRST)
        upload(car, FIRST)
        upload(car, serialise(audited))
        upload(car, body_of("d", "car\n8"))
        assert refused(lambda: upload(car, b"junk"))[0] == "INVALID_ARGUMENT"

    def value(name: str, **labels: str) -> float | None:
        return arrivals.registry.get_sample_value(f"misgiving_collector_{name}", labels)

    assert value("frames_total", reason="predicted_loss") == 2
    assert value("bytes_total") == sum(row.size_bytes for row in rows(store))
    assert value("known_frames_total") == 1
    assert value("refused_uploads_total", reason="INVALID_ARGUMENT") == 1
    assert value("refused_uploads_total", reason="INTERNAL") == 0
    assert value("upload_seconds_count") == 3
    with caplog.at_level(logging.INFO, "misgiving"):
        arrivals.summarise()
        arrivals.summarise()  # nothing came since
    (line,) = [one.getMessage() for one in caplog.records]
    assert line.startswith("arrived in the last minute: 3 frames, ")
    assert "; car-7 2, car\\n8 1; predicted_loss 2, no reason 1; " in line
    assert line.endswith("known already 1, refused with INVALID_ARGUMENT 1")


def test_the_command_answers_prometheus(tmp_path: Path) -> None:
    words = ["collect", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]
    words += ["--store", str(tmp_path / "store"), "--keep-days", "2", "--device-bytes", "1GiB"]
    process = subprocess.Popen(
        [sys.executable, "-m", "misgiving", *words], stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stderr is not None
            url = _said(process.stderr, "metrics on ")
            address = _said(process.stderr, "collecting on ")
            with calling(address) as car:
                upload(car, FIRST)
            with urllib.request.urlopen(url, timeout=60) as page:
                said = page.read().decode()
            process.send_signal(signal.SIGTERM)
            log = process.stderr.read()
        finally:
            process.kill()
    assert process.returncode == 0
    assert 'misgiving_collector_frames_total{reason="predicted_loss"} 1.0' in said
    assert "arrived in the last minute: 1 frames" in log


def _said(lines: Iterable[str], before: str) -> str:
    """The word behind others, in the next line that has these."""
    return next(line for line in lines if before in line).partition(before)[2].split()[0]
