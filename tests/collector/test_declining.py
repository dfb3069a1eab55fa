"""Which frames a collector declines, and that a vehicle forgets no other."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import numpy as np
import pytest
import sqlalchemy as sa

from misgiving.collector.declining import LATER, WANTED, Decliner, Declining, Verdict, Why, nearest
from misgiving.collector.offers import MAX_FRAMES
from misgiving.collector.store import Store
from misgiving.collector.store.tables import DECLINED
from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.outbox.spool import Spool
from misgiving.runtime.outbox.uploader import Uploader
from misgiving.runtime.wire.offers import header_of, read_header
from misgiving.v1.fleet_pb2 import (
    OFFER_VERDICT_STORED,
    OFFER_VERDICT_WANTED,
    CollectedFrame,
    FrameHeader,
    OfferedFrame,
    OfferRequest,
)
from misgiving.v1.fleet_pb2_grpc import FleetCollectorStub
from misgiving.v1.pose_pb2 import KeepReason
from shared.collecting import collected, collecting, eventually, offer, serialise, until_pending

PICTURES, NEAR = Declining(pictures=True), Declining(nearer=0.01)
IMAGE = collected("stored").frame.image.encoded


def frame(
    frame_id: str,
    *,
    embedding: Sequence[float] = (1, 2),
    image: bytes = b"",
    device: str = "car-7",
    bundle: str = "b",
    audit: bool = False,
) -> CollectedFrame:
    made = collected(frame_id, image=image)
    made.embeddings[0].values[:] = embedding
    made.device_id, made.bundle_digest = device, bundle * 64
    if audit:
        made.persons[0].flag.kept = KeepReason.KEEP_REASON_AUDIT
    return made


STORED = frame("stored", image=IMAGE)
NEARLY, FAR = (1.0, 2.1), (2.0, -1.0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as store:
        store.put(serialise(STORED))
        yield store


def judged(store: Store, rules: Declining, *frames: CollectedFrame) -> list[Verdict]:
    offered = {str(number): read_header(header_of(one)) for number, one in enumerate(frames)}
    return list(Decliner(rules, store.database).judge(offered).values())


def written_down(store: Store) -> list[tuple[str, str, str]]:
    columns = (DECLINED.c.device_id, DECLINED.c.frame_id, DECLINED.c.reason)
    with store.database.connect(reads=True) as connection:
        return [tuple(row) for row in connection.execute(sa.select(*columns))]


@pytest.mark.parametrize(
    ("rules", "offered", "verdict"),
    [
        # nothing is declined unasked
        (Declining(), frame("f", image=IMAGE), WANTED),
        (PICTURES, frame("f", image=IMAGE), Verdict(Why.PICTURE)),
        (PICTURES, frame("f"), WANTED),
        (NEAR, frame("f"), Verdict(Why.NEAR)),
        (NEAR, frame("f", embedding=NEARLY), Verdict(Why.NEAR)),
        (NEAR, frame("f", embedding=FAR), WANTED),
        # what is far for the one rule is the same for the other
        (Declining(pictures=True, nearer=0.01), frame("f"), Verdict(Why.NEAR)),
        # of another device, or not comparable
        (PICTURES, frame("f", image=IMAGE, device="car-8"), WANTED),
        (NEAR, frame("f", device="car-8"), WANTED),
        (NEAR, frame("f", bundle="c"), WANTED),
        (NEAR, frame("f", embedding=(1, 2, 3)), WANTED),
        (NEAR, frame("f", embedding=()), WANTED),
        (NEAR, frame("f", embedding=(0, 0)), WANTED),
        (NEAR, frame("f", embedding=(float("nan"), 1)), WANTED),
        # the audit sample is whole
        (PICTURES, frame("f", image=IMAGE, audit=True), WANTED),
        (NEAR, frame("f", audit=True), WANTED),
    ],
)
def test_what_is_declined(
    store: Store, rules: Declining, offered: CollectedFrame, verdict: Verdict
) -> None:
    assert judged(store, rules, offered) == [verdict]
    why = [("car-7", "f", verdict.declined.value)] if verdict.declined else []
    assert written_down(store) == why


@pytest.mark.parametrize(
    ("rules", "first", "second"),
    [
        (PICTURES, frame("a", image=b"x"), frame("b", image=b"x")),
        (NEAR, frame("a", embedding=FAR), frame("b", embedding=FAR)),
    ],
)
def test_what_resembles_a_frame_that_is_still_to_come_is_put_off(
    store: Store, rules: Declining, first: CollectedFrame, second: CollectedFrame
) -> None:
    assert judged(store, rules, first, second) == [WANTED, LATER]
    second.device_id = "car-8"
    assert judged(store, rules, first, second) == [WANTED, WANTED]


def test_only_the_newest_frames_are_compared(store: Store) -> None:
    store.put(serialise(frame("newer", embedding=FAR)))
    assert judged(store, Declining(nearer=0.01, within=1), frame("f")) == [WANTED]
    assert judged(store, Declining(nearer=0.01, within=2), frame("f")) == [Verdict(Why.NEAR)]


def test_a_frame_that_is_kept_for_an_unknown_reason_is_wanted(store: Store) -> None:
    later = FrameHeader.FromString(header_of(frame("f", image=IMAGE)))
    later.kept[:] = [99]
    header = read_header(later.SerializeToString())
    assert Decliner(PICTURES, store.database).judge({"f": header}) == {"f": WANTED}


def test_the_nearest_is_that_of_a_slow_reference() -> None:
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=8).astype(np.float32) for _ in range(20)]
    distances = [
        1 - float(rows[0] @ x) / (float(np.linalg.norm(rows[0])) * float(np.linalg.norm(x)))
        for x in rows[1:]
    ]
    assert nearest(rows[0], rows[1:]) == pytest.approx(min(distances), abs=1e-6)
    assert nearest(rows[0], []) == np.inf


@pytest.mark.parametrize(
    "rules", [{"nearer": 0.0}, {"nearer": 2.5}, {"nearer": float("nan")}, {"within": 0}]
)
def test_rules_that_are_none(rules: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match="--decline-.* expected"):
        Declining(**rules)


def test_one_of_twelve_is_stored_and_the_others_are_declined(
    tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    spool = Spool(tmp_path / "spool")
    for number in range(12):
        assert offer(spool, frame(f"f{number}", image=b"same"))
    assert offer(spool, frame("audited", image=b"same", audit=True))
    until_pending(spool, 13)
    with collecting(store, declining=PICTURES) as address:
        uploader = Uploader(spool, address)
        uploader.start()
        eventually(lambda: spool.counts().pending == 0)
        uploader.stop(60)
    counts = spool.counts()
    spool.close()
    assert (counts.uploaded, counts.declined, counts.refused) == (2, 11, 0)
    ids = [row.frame_id for row, _ in store.frames()]
    assert sorted(ids) == ["audited", *(["f0"]), "stored"]
    assert len(written_down(store)) == 11
    assert "frame front/f11 (" in caplog.text
    assert "is declined by the collector: the same picture of this device is stored" in caplog.text


def test_a_header_that_cannot_be_read_speaks_against_nothing(store: Store) -> None:
    body = serialise(STORED)
    known = OfferedFrame(digest=hashlib.sha256(body).hexdigest(), size_bytes=len(body))
    others = [
        OfferedFrame(digest=x * 64, size_bytes=9, header=h) for x, h in [("a", b"\xff"), ("c", b"")]
    ]
    store.append("a" * 64, 0, b"four")
    with (
        collecting(store, declining=PICTURES) as address,
        grpc.insecure_channel(address) as channel,
    ):
        stub = FleetCollectorStub(channel)
        answers = stub.Offer(OfferRequest(frames=[known, *others]), timeout=60).answers
        with pytest.raises(grpc.RpcError) as caught:
            stub.Offer(OfferRequest(frames=[known] * (MAX_FRAMES + 1)), timeout=60)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError, match="expected a sha256"):
            stub.Offer(OfferRequest(frames=[OfferedFrame(digest="../x")]), timeout=60)
    assert [one.verdict for one in answers] == [OFFER_VERDICT_STORED, *[OFFER_VERDICT_WANTED] * 2]
    assert [one.offset_bytes for one in answers] == [0, 4, 0]
