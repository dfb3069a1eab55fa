"""Bytes that only the fleet's private key opens: HPKE (RFC 9180), as ``cryptography`` has it.

Sealed bytes are ``MAGIC``, the first 8 bytes of the public key's sha256, and what HPKE makes:
X25519, HKDF-SHA256 and ChaCha20-Poly1305, which boards without AES instructions do fast. They are
48 bytes of HPKE's and 16 of ours longer than what is sealed, and others each time.
"""

import hashlib
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from misgiving.runtime.errors import DataError, FailedPrecondition

MAGIC = b"\0sealed1"
"""No message of protobuf begins with a zero byte."""
FRAME, HEADER = b"misgiving frame", b"misgiving header"
"""What is sealed: neither opens as the other."""

OpeningKeys = Mapping[str, X25519PrivateKey]
"""By id."""

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
_PREFIX = len(MAGIC) + 8


def seal(plaintext: bytes, key: X25519PublicKey, info: bytes) -> bytes:
    """Bytes that the key's private half opens, and nothing else.

    Args:
        plaintext: to seal.
        key: the fleet's public one.
        info: says what it is, ``FRAME`` or ``HEADER``; sealed bytes open with the same alone.
    """
    prefix = MAGIC + bytes.fromhex(key_id(key))
    return prefix + _SUITE.encrypt(plaintext, key, info=prefix + info)


def is_sealed(body: bytes) -> bool:
    """Whether bytes claim to be sealed."""
    return body.startswith(MAGIC)


def sealed_with(body: bytes) -> str:
    """The id of the key that opens sealed bytes; empty of plain ones."""
    return body[len(MAGIC) : _PREFIX].hex() if is_sealed(body) else ""


def open_sealed(body: bytes, keys: OpeningKeys, info: bytes) -> bytes:
    """What was sealed.

    Raises:
        FailedPrecondition: no key is its key; with that one it could be opened.
        DataError: the bytes are cut or altered.
    """
    name = sealed_with(body)
    if not (key := keys.get(name)):
        known = f"only {', '.join(sorted(keys))}" if keys else "none"
        raise FailedPrecondition(
            f"it is sealed for the key {name}, and {known} is here. "
            "Start the collector with --open-with FILE of that key"
        )
    try:
        return _SUITE.decrypt(body[_PREFIX:], key, info=body[:_PREFIX] + info)
    except InvalidTag as error:
        raise DataError(
            f"{len(body)} bytes sealed for the key {name} are cut or altered; expected them as "
            "they were sealed. Send them again"
        ) from error


def key_id(key: X25519PublicKey) -> str:
    """The name of a key: the first 16 digits of its sha256."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def read_fleet_key(path: Path) -> X25519PublicKey:
    """The fleet's public key in a PEM.

    Raises:
        FailedPrecondition: there is none, or one of another kind.
    """
    try:
        key = serialization.load_pem_public_key(_read(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _no_key(path, "public") from error
    if not isinstance(key, X25519PublicKey):
        raise _no_key(path, "public")
    return key


def read_opening_keys(paths: Iterable[Path]) -> OpeningKeys:
    """The fleet's private keys in PEMs without a passphrase, which only their owner may read.

    Raises:
        FailedPrecondition: one is none or of another kind, or others of this machine may read it.
    """
    keys = {}
    for path in paths:
        key = _private(path)
        keys[key_id(key.public_key())] = key
    return keys


def _private(path: Path) -> X25519PrivateKey:
    text = _read(path)
    try:
        key = serialization.load_pem_private_key(text, None)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:  # TypeError: a passphrase
        raise _no_key(path, "private") from error
    if not isinstance(key, X25519PrivateKey):
        raise _no_key(path, "private")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise FailedPrecondition(
            f"{path} may be read by other users; expected a private key with mode 0600. "
            f"Run: chmod 600 {path}, and make a new key if somebody may have read it"
        )
    return key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FailedPrecondition(
            f"{path} cannot be read: {error.strerror}; expected a file with a key. Name another"
        ) from error


def _no_key(path: Path, kind: str) -> FailedPrecondition:
    making = {
        "public": "openssl pkey -in fleet.key -pubout -out fleet.pub",
        "private": "openssl genpkey -algorithm X25519 -out fleet.key",
    }
    return FailedPrecondition(
        f"{path} is no {kind} X25519 key in a PEM without a passphrase; expected one. "
        f"Make it with '{making[kind]}'"
    )
