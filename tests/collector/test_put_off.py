"""Frames that a collector would refuse now: their headers travel, and not their bytes."""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import sqlalchemy as sa

from misgiving.collector.frames.devices import DAY_NS, Devices
from misgiving.collector.store import Store
from misgiving.collector.store.tables import FRAMES
from misgiving.runtime.outbox.delivery import BATCH
from misgiving.runtime.outbox.spool import Spool
from misgiving.runtime.outbox.uploader import Uploader
from misgiving.runtime.wire.offers import header_of
from misgiving.v1.fleet_pb2 import (
    OFFER_VERDICT_LATER,
    OFFER_VERDICT_STORED,
    OFFER_VERDICT_WANTED,
    CollectedFrame,
    OfferedFrame,
    OfferRequest,
)
from misgiving.v1.fleet_pb2_grpc import FleetCollectorStub
from shared.certificates import LOOPBACK, Authority
from shared.collecting import (
    collected,
    collecting,
    eventually,
    offer,
    person,
    serialise,
    until_pending,
)

WANTED, LATER, STORED = OFFER_VERDICT_WANTED, OFFER_VERDICT_LATER, OFFER_VERDICT_STORED


class Receiving(Store):
    """A store that remembers of which frames bytes came."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.came = set[str]()

    def append(self, digest: str, offset: int, data: bytes) -> int:
        self.came.add(digest)
        return super().append(digest, offset, data)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Receiving]:
    store = Receiving(tmp_path / "store")
    yield store
    store.close()


def frame(name: str, device: str = "car-7", loss: float = 2.0) -> CollectedFrame:
    made = collected(name, persons=[person(0, loss=loss)])
    made.device_id = device
    return made


def offered(one: CollectedFrame) -> OfferedFrame:
    body = serialise(one)
    digest = hashlib.sha256(body).hexdigest()
    return OfferedFrame(digest=digest, size_bytes=len(body), header=header_of(one))


SIZE = len(serialise(frame("a")))


@pytest.mark.parametrize(
    ("rules", "verdicts"),
    [
        (Devices(), [STORED, WANTED, WANTED, WANTED, WANTED]),
        (Devices(frames_per_day=1), [STORED, LATER, LATER, WANTED, LATER]),
        (Devices(frames_per_day=2), [STORED, WANTED, LATER, WANTED, WANTED]),
        (Devices(bytes_per_day=SIZE), [STORED, LATER, LATER, WANTED, LATER]),
        (Devices(bytes_per_day=SIZE + 1), [STORED, WANTED, LATER, WANTED, WANTED]),
    ],
)
def test_frames_beyond_a_quota_are_to_be_offered_later(
    store: Store, rules: Devices, verdicts: list[int]
) -> None:
    """One is stored; of another device two are offered; those before a frame count as well."""
    store.put(serialise(frame("a")))
    others = [frame("b"), frame("c"), frame("d", "car-8"), frame("e", "car-8")]
    with (
        collecting(store, devices=rules) as address,
        grpc.insecure_channel(address) as channel,
    ):
        request = OfferRequest(frames=map(offered, [frame("a"), *others]))
        answers = FleetCollectorStub(channel).Offer(request, timeout=60).answers
    assert [one.verdict for one in answers] == verdicts
    for one in answers:
        assert ("in 24 hours; expected at most" in one.reason) == (one.verdict == LATER)


def test_a_vehicle_over_its_quota_spends_no_bytes(
    store: Receiving, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        assert offer(spool, frame(str(number)))
    until_pending(spool, 3)
    with collecting(store, devices=Devices(frames_per_day=1)) as address:
        uploader = Uploader(spool, address, first_wait_s=0.01, longest_wait_s=0.05)
        uploader.start()
        said = "it puts off each of the offered frames: device car-7 has sent 1 frames in 24 hours"
        eventually(lambda: said in caplog.text)
        assert len(store.came) == store.count() == 1
        assert spool.counts().pending == 2
        a_day_goes_by(store)
        eventually(lambda: store.count() == 2)
        a_day_goes_by(store)
        eventually(lambda: spool.counts().pending == 0)
        uploader.stop(60)
    assert store.count() == 3


def a_day_goes_by(store: Store) -> None:
    arrived = time.time_ns() - DAY_NS
    with store.database.connect() as connection:
        connection.execute(sa.update(FRAMES).values(received_time_unix_nano=arrived))


def test_frames_of_another_device_let_others_go_first(
    tmp_path: Path, store: Receiving, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    """They are worth more, and more of them than are offered at once."""
    authority = Authority.new()
    authority.issue(tmp_path / "collector", *LOOPBACK)
    authority.issue(tmp_path / "car", "car-7")
    for number in range(BATCH + 1):
        assert offer(spool, frame(f"foreign{number}", "car-8", loss=9.0))
    ours = [frame("ours"), frame("ours as well")]
    assert offer(spool, ours[0])
    until_pending(spool, BATCH + 2)
    with collecting(store, tls=tmp_path / "collector") as address:
        uploader = Uploader(spool, address, tls=tmp_path / "car", first_wait_s=0.01)
        uploader.start()
        eventually(lambda: spool.counts().uploaded == 1)
        assert offer(spool, ours[1])
        eventually(lambda: spool.counts().uploaded == 2)
        eventually(lambda: "it puts off each of the offered frames" in caplog.text)
        uploader.stop(60)
    assert store.came == {offered(one).digest for one in ours}
    assert (spool.counts().pending, spool.counts().refused) == (BATCH + 1, 0)
    stays = "stays, as the collector refuses it now: frame is of device 'car-8', the certificate of"
    assert caplog.text.count(stays) == BATCH + 1
