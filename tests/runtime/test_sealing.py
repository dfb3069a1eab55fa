"""Sealed bytes open with their key alone, as what they were sealed as."""

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from misgiving.runtime.errors import DataError, FailedPrecondition
from misgiving.runtime.wire.sealing import (
    FRAME,
    HEADER,
    is_sealed,
    key_id,
    open_sealed,
    read_fleet_key,
    read_opening_keys,
    seal,
    sealed_with,
)
from misgiving.v1.fleet_pb2 import CollectedFrame
from shared.collecting import collected, serialise

KEY = X25519PrivateKey.generate()
KEYS = {key_id(KEY.public_key()): KEY}


@given(st.binary())
def test_what_is_sealed_opens(plain: bytes) -> None:
    body = seal(plain, KEY.public_key(), FRAME)
    assert open_sealed(body, KEYS, FRAME) == plain
    assert sealed_with(body) in KEYS
    assert body != seal(plain, KEY.public_key(), FRAME)
    assert len(body) == len(plain) + 64


@pytest.mark.parametrize("at", [8, 20, 60, -1])  # of the key's id, of HPKE's key, of the rest
def test_an_altered_byte_does_not_open(at: int) -> None:
    body = bytearray(seal(b"twelve bytes", KEY.public_key(), FRAME))
    body[at] ^= 1
    keys = {sealed_with(bytes(body)): KEY}  # even where the id names it
    with pytest.raises(DataError, match="76 bytes sealed for the key .* are cut or altered; exp"):
        open_sealed(bytes(body), keys, FRAME)


@pytest.mark.parametrize("size", [8, 16, 40, 75])
def test_what_is_cut_does_not_open(size: int) -> None:
    body = seal(b"twelve bytes", KEY.public_key(), FRAME)[:size]
    with pytest.raises(DataError, match=f"{size} bytes sealed"):
        open_sealed(body, {sealed_with(body): KEY}, FRAME)


def test_a_header_is_no_frame() -> None:
    with pytest.raises(DataError, match="cut or altered"):
        open_sealed(seal(b"header", KEY.public_key(), HEADER), KEYS, FRAME)


def test_without_its_key_it_stays_closed() -> None:
    body, other = seal(b"x", KEY.public_key(), FRAME), X25519PrivateKey.generate()
    name = sealed_with(body)
    with pytest.raises(FailedPrecondition, match=f"for the key {name}, and none is here"):
        open_sealed(body, {}, FRAME)
    with pytest.raises(FailedPrecondition, match="and only 0000 is here..* --open-with FILE"):
        open_sealed(body, {"0000": other}, FRAME)


def test_a_frame_is_not_sealed() -> None:
    body = serialise(collected("one"))
    assert not is_sealed(body)
    assert sealed_with(body) == ""
    assert not is_sealed(CollectedFrame().SerializeToString())


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def test_openssl_makes_the_keys(tmp_path: Path) -> None:
    private, public = tmp_path / "fleet.key", tmp_path / "fleet.pub"
    openssl("genpkey", "-algorithm", "X25519", "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    body = seal(b"x", read_fleet_key(public), FRAME)
    assert open_sealed(body, read_opening_keys([private]), FRAME) == b"x"
    private.chmod(0o640)
    with pytest.raises(FailedPrecondition, match="may be read by other users; .*: chmod 600"):
        read_opening_keys([private])
    with pytest.raises(FailedPrecondition, match="is no public X25519 key .*openssl pkey -in"):
        read_fleet_key(private)
    with pytest.raises(FailedPrecondition, match="is no private X25519 key .*openssl genpkey"):
        read_opening_keys([public])
    with pytest.raises(FailedPrecondition, match="none cannot be read: No such file"):
        read_fleet_key(tmp_path / "none")


def test_keys_of_another_kind(tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    openssl("genpkey", "-algorithm", "ED25519", "-out", other)
    with pytest.raises(FailedPrecondition, match="is no private X25519 key"):
        read_opening_keys([other])
    openssl("pkey", "-in", other, "-pubout", "-out", tmp_path / "other.pub")
    with pytest.raises(FailedPrecondition, match="is no public X25519 key"):
        read_fleet_key(tmp_path / "other.pub")
