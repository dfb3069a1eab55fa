"""A spool that is sealed tells whoever steals it nothing of what was seen, nor where."""

import hashlib
import logging
import sqlite3
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from misgiving.runtime.flags.budgets import DAY, Budget
from misgiving.runtime.flags.policy import FlagPolicy, FlagState
from misgiving.runtime.outbox.ledger import LEDGER, Ledger
from misgiving.runtime.outbox.records import DATABASE
from misgiving.runtime.outbox.spool import Spool
from misgiving.runtime.settings.reading import Sources
from misgiving.runtime.telemetry.metrics import Metrics
from misgiving.runtime.verbs.serve import collecting
from misgiving.runtime.wire.offers import header_of
from misgiving.runtime.wire.sealing import FRAME, HEADER, key_id, open_sealed, sealed_with
from misgiving.v1.fleet_pb2 import CollectedFrame
from runtime.flagging import Device
from shared.collecting import collected, eventually, offer, serialise, until_pending

KEY = X25519PrivateKey.generate()
KEYS = {key_id(KEY.public_key()): KEY}


def telling() -> CollectedFrame:
    """A frame whose every field can be searched for."""
    frame = collected("frame-of-the-depot")
    frame.frame.stream_id = "camera-of-the-depot"
    frame.device_id = "device-of-the-depot"
    return frame


def secrets_of(frame: CollectedFrame) -> list[bytes]:
    """What no file may hold: names, image, joints, regions, embedding."""
    person = frame.persons[0]
    joints = [joint.SerializeToString() for joint in person.keypoints]
    image = frame.frame.image.encoded
    return [
        *(b"of-the-depot", image[:64], image[len(image) // 2 :][:64], *joints),
        *(person.region.SerializeToString(), frame.embeddings[0].SerializeToString()),
        *(name.encode() for name in frame.keypoint_names),
    ]


def on_disk(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


def found(folder: Path, frame: CollectedFrame) -> list[bytes]:
    return [x for x in secrets_of(frame) if any(x in data for data in on_disk(folder).values())]


def test_the_search_finds_what_is_not_sealed(tmp_path: Path) -> None:
    spool, frame = Spool(tmp_path), telling()
    assert offer(spool, frame)
    until_pending(spool, 1)
    assert len(found(tmp_path, frame)) >= 20
    spool.close()


def test_nothing_is_found_in_a_sealed_spool(tmp_path: Path) -> None:
    """Open, with its journal, refused, and closed."""
    spool, frame = Spool(tmp_path, seal_to=KEY.public_key()), telling()
    assert offer(spool, frame)
    until_pending(spool, 1)
    (digest,) = spool.pending()
    assert set(on_disk(tmp_path)) == {DATABASE, f"{DATABASE}-wal"}
    assert found(tmp_path, frame) == []
    spool.refuse(digest, "INVALID_ARGUMENT: frame 'frame-of-the-depot' is none")
    assert found(tmp_path, frame) == []
    spool.close()
    assert set(on_disk(tmp_path)) == {DATABASE}
    assert found(tmp_path, frame) == []


def test_in_the_clear_stay_what_eviction_needs(tmp_path: Path) -> None:
    spool = Spool(tmp_path, seal_to=KEY.public_key())
    assert offer(spool, telling())
    until_pending(spool, 1)
    ((digest, entry),) = spool.entries().items()
    size = len(spool.read(digest))
    spool.close()
    database = sqlite3.connect(tmp_path / DATABASE)
    columns = "digest, name, size, refusal, stored_at, score, reason, twin, sealed"
    (row,) = database.execute(f"SELECT {columns} FROM frames").fetchall()
    assert row == (digest, "", size, None, entry.stored_at, 2.0, "predicted_loss", 0, 1)
    (columns_now,) = database.execute("SELECT count(*) FROM pragma_table_info('frames')")
    assert columns_now == (12,)  # these, seq, body and header: look at what a new one tells
    database.close()
    spool = Spool(tmp_path, seal_to=KEY.public_key())
    assert [one.name for one in spool.entries().values()] == [digest[:16]]
    spool.close()


def test_the_fleet_s_key_opens_frame_and_header(tmp_path: Path) -> None:
    spool, frame = Spool(tmp_path, seal_to=KEY.public_key()), telling()
    assert offer(spool, frame)
    until_pending(spool, 1)
    (digest,) = spool.pending()
    body, header = spool.read(digest), spool.header(digest)
    assert hashlib.sha256(body).hexdigest() == digest
    assert {sealed_with(body), sealed_with(header)} == set(KEYS)
    assert open_sealed(body, KEYS, FRAME) == serialise(frame)
    assert open_sealed(header, KEYS, HEADER) == header_of(frame)
    spool.close()


def test_a_sealed_frame_is_known_again(tmp_path: Path) -> None:
    """By what it was before, in one process: its bytes are others each time."""
    spool = Spool(tmp_path, seal_to=KEY.public_key())
    assert all(offer(spool, telling()) for _ in range(2))
    spool.close()
    assert (spool.counts().stored, spool.counts().pending) == (2, 1)


def test_what_was_stored_before_stays_as_it_was_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    frame = telling()
    spool = Spool(tmp_path)
    assert offer(spool, frame)
    spool.close()
    assert caplog.text == ""
    spool = Spool(tmp_path, seal_to=KEY.public_key())
    (digest,) = spool.pending()
    assert spool.read(digest) == serialise(frame)
    assert f"{tmp_path}: 1 frames are not sealed, and stay so: they came before" in caplog.text
    spool.close()


def test_the_ledger_beside_it_names_no_stream(tmp_path: Path) -> None:
    policy = FlagPolicy(threshold=0.5, audit_rate=0, budgets=(Budget(4, "frames", DAY),))
    for named in (True, False):
        device, ledger = Device(policy), Ledger(tmp_path, named=named)
        assert device.one(0.9, 0.0, stream="camera-of-the-depot").kept
        ledger.note(device.state)
        ledger.close()
        assert (b"of-the-depot" in (tmp_path / LEDGER).read_bytes()) is named
        ledger = Ledger(tmp_path, named=named)
        state = ledger.recalled(FlagState(policy))
        ledger.close()
        assert [bucket.taken for bucket in state.buckets.values()] == [1]


def test_options_and_file_reach_the_spool(tmp_path: Path) -> None:
    public = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "fleet.pub").write_bytes(public)
    file = tmp_path / "misgiving.toml"
    file.write_text('[spool]\nfolder = "spool"\nseal_to = "fleet.pub"\nquota = 5\n')
    options = {"spool_quota": "2kB", "spool_days": 3.0}
    settings = Sources(file, options).settings()
    assert (settings.spool.quota, settings.spool.days) == (2000, 3.0)
    with collecting(settings, Metrics()) as (spool, _):
        assert isinstance(spool, Spool)
        assert offer(spool, collected("small", image=bytes(100)))
        until_pending(spool, 1)
        (digest,) = spool.pending()
        assert open_sealed(spool.read(digest), KEYS, FRAME)
        assert offer(spool, collected("large", image=bytes(2000)))
        eventually(lambda: spool.counts().lost == 1)
