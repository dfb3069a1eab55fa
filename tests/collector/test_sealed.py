"""Frames that a vehicle sealed arrive where their key is, and wait where it is not."""

import hashlib
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from misgiving.collector.declining import Declining
from misgiving.collector.store import Store
from misgiving.runtime.errors import DataError, FailedPrecondition
from misgiving.runtime.outbox.spool import Spool
from misgiving.runtime.outbox.uploader import Uploader
from misgiving.runtime.wire.collected import to_kept
from misgiving.runtime.wire.offers import header_of, read_header
from misgiving.runtime.wire.sealing import FRAME, HEADER, OpeningKeys, key_id, seal
from shared.collecting import collected, collecting, eventually, offer, serialise, until_pending

OLD, NEW = X25519PrivateKey.generate(), X25519PrivateKey.generate()
FRAMES = [collected("one"), collected("two")]


def keys(*some: X25519PrivateKey) -> OpeningKeys:
    return {key_id(key.public_key()): key for key in some}


def sealed(key: X25519PrivateKey, frame: int = 0) -> bytes:
    return seal(serialise(FRAMES[frame]), key.public_key(), FRAME)


def upload(store: Store, body: bytes) -> str:
    """In one part, as the service takes it."""
    digest = hashlib.sha256(body).hexdigest()
    store.append(digest, 0, body)
    store.commit(digest)
    return digest


@contextmanager
def uploading(spool: Spool, address: str) -> Iterator[None]:
    uploader = Uploader(spool, address, first_wait_s=0.001, longest_wait_s=0.001)
    uploader.start()
    try:
        yield
    finally:
        uploader.stop(60)


def test_an_object_stays_sealed_and_its_row_is_in_the_clear(tmp_path: Path) -> None:
    with Store(tmp_path, keys=keys(OLD)) as store:
        body = sealed(OLD)
        digest = upload(store, body)
        ((row, frame),) = store.frames()
    assert (tmp_path / "objects" / digest[:2] / digest).read_bytes() == body
    assert frame == to_kept(FRAMES[0])
    assert (row.frame_id, row.stream_id, row.device_id) == ("one", "front", "car-7")
    assert (row.size_bytes, row.sealed_with) == (len(body), key_id(OLD.public_key()))
    assert row.image_digest == hashlib.sha256(FRAMES[0].frame.image.encoded).hexdigest()


def test_sealed_and_plain_frames_of_several_keys_stand_together(tmp_path: Path) -> None:
    with Store(tmp_path, keys=keys(OLD, NEW)) as store:
        digests = [upload(store, sealed(OLD)), store.put(sealed(NEW, 1))]
        digests.append(store.put(serialise(collected("plain"))))
        names = [store.read(digest).frame.frame_id for digest in digests]
        assert names == ["one", "two", "plain"]
        rows = {row.digest: row.sealed_with for row, _ in store.frames()}
        assert [rows[digest] for digest in digests] == [*keys(OLD), *keys(NEW), ""]
    with Store(tmp_path, keys=keys(NEW)) as store:
        assert store.count() == 3
        with pytest.raises(FailedPrecondition, match=r"only \w+ is here. .* --open-with FILE"):
            store.read(digests[0])
        assert store.read(digests[1]) == to_kept(FRAMES[1])


def test_what_is_altered_or_no_frame_is_dropped(tmp_path: Path) -> None:
    """Its bytes are the digest's, so sending them again would not help."""
    altered = bytearray(sealed(OLD))
    altered[-1] ^= 1
    no_frame = seal(b"no frame", OLD.public_key(), FRAME)
    header = seal(serialise(FRAMES[0]), OLD.public_key(), HEADER)
    with Store(tmp_path, keys=keys(OLD)) as store:
        for body in (bytes(altered), no_frame, header):
            with pytest.raises(DataError):
                upload(store, body)
            assert store.offset(hashlib.sha256(body).hexdigest()) == 0
        assert store.count() == 0


def test_without_its_key_a_frame_waits_on_the_vehicle(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    spool = Spool(tmp_path / "spool", seal_to=OLD.public_key())
    assert all(offer(spool, frame) for frame in FRAMES)
    until_pending(spool, 2)
    name = key_id(OLD.public_key())
    with Store(tmp_path / "store", keys=keys(NEW)) as store:
        with collecting(store) as address, uploading(spool, address):
            eventually(
                lambda: f"FAILED_PRECONDITION: it is sealed for the key {name}" in caplog.text
            )
            counts = spool.counts()
            assert (counts.pending, counts.refused, counts.uploaded) == (2, 0, 0)
        assert store.count() == 0
    with Store(tmp_path / "store", keys=keys(OLD, NEW)) as store:
        with collecting(store) as address, uploading(spool, address):
            eventually(lambda: spool.counts().uploaded == 2)
        assert sorted(frame.frame.frame_id for _, frame in store.frames()) == ["one", "two"]
    spool.close()


def test_a_key_that_is_not_here_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The vehicles try again and again, and what they have sent stays."""
    body = sealed(OLD)
    digest = hashlib.sha256(body).hexdigest()
    with Store(tmp_path) as store:
        store.append(digest, 0, body)
        for _ in range(3):
            with pytest.raises(FailedPrecondition, match="none is here"):
                store.commit(digest)
        assert caplog.text.count("it is sealed for the key") == 1
        assert store.offset(digest) == len(body)
    with Store(tmp_path, keys=keys(OLD)) as store:
        assert store.commit(digest)


def test_who_asks_for_a_frame_is_told_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Store(tmp_path, keys=keys(OLD)) as store:
        digest = store.put(sealed(OLD))
    words = [sys.executable, "-m", "misgiving", "frames", "show", digest, "--store", str(tmp_path)]
    assert subprocess.run(words, check=False).returncode == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("misgiving: it is sealed for the key")


def test_an_object_without_a_row_waits_for_its_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a crash, or a restored database."""
    with Store(tmp_path, keys=keys(OLD)) as store:
        digest = store.put(sealed(OLD))
    for path in tmp_path.glob("store.sqlite*"):
        path.unlink()
    with Store(tmp_path) as store:
        assert store.count() == 0
        assert f"{digest} has no row in the database: it is sealed for" in caplog.text
    with Store(tmp_path, keys=keys(OLD)) as store:
        assert [row.frame_id for row, _ in store.frames()] == ["one"]


@pytest.mark.parametrize(("key", "uploaded"), [(OLD, 1), (NEW, 0)])
def test_a_frame_is_declined_by_its_sealed_header(
    tmp_path: Path, key: X25519PrivateKey, uploaded: int
) -> None:
    """Where the key is. Else its bytes come, and wait for the key."""
    again = collected("again", image=FRAMES[0].frame.image.encoded)
    spool = Spool(tmp_path / "spool", seal_to=OLD.public_key(), near_duplicate=None)
    assert all(offer(spool, frame) for frame in (again, FRAMES[1]))
    until_pending(spool, 2)
    with Store(tmp_path / "store", keys=keys(key)) as store:
        store.put(serialise(FRAMES[0]))
        rules = Declining(pictures=True)
        with collecting(store, declining=rules) as address, uploading(spool, address):
            parts = tmp_path / "store" / "incoming"
            eventually(lambda: spool.counts().uploaded == uploaded)
            eventually(lambda: spool.counts().declined == uploaded)
            eventually(lambda: len(list(parts.iterdir())) == 2 - 2 * uploaded)
        assert store.count() == 1 + uploaded
    assert spool.counts().pending == 2 - 2 * uploaded
    spool.close()


def test_a_sealed_header_opens(tmp_path: Path) -> None:
    header = header_of(FRAMES[0])
    with Store(tmp_path, keys=keys(OLD)) as store:
        assert store.opener.header(header) == read_header(header)
        assert store.opener.header(seal(header, OLD.public_key(), HEADER)) == read_header(header)
        with pytest.raises(FailedPrecondition, match="--open-with FILE"):
            store.opener.header(seal(header, NEW.public_key(), HEADER))
