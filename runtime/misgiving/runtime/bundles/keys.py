"""Files of keys that sign bundles, in two forms.

ed25519 is one line, ``ed25519 HEX`` or ``ed25519-private HEX``. P-256 is the PEM that openssl and
other tools write: SubjectPublicKeyInfo, and PKCS #8 or SEC 1. A private key has no passphrase,
because nobody is asked for one; mode 0600 guards it. ``cryptography``, because TLS needs it for
certificates anyhow.
"""

import hashlib
import os
import re
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from misgiving.runtime.durable import sync_folder
from misgiving.runtime.errors import FailedPrecondition

PublicKey = Ed25519PublicKey | ec.EllipticCurvePublicKey
PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey
PEM_SUFFIX = ".pem"
_PUBLIC, _PRIVATE = "ed25519", "ed25519-private"
_PEM = b"-----BEGIN "


def digest_of(key: PublicKey) -> str:
    """sha256 of a public key in hex: of ed25519's 32 bytes, of P-256's PEM."""
    return hashlib.sha256(_public_bytes(key)).hexdigest()


def id_of(key: PublicKey) -> str:
    """The name of a key: the first 16 digits of its digest. It names; the whole key decides."""
    return digest_of(key)[:16]


def new_key(path: Path | str) -> str:
    """Make a key: ``path``, private, 0600, and ``path.pub`` beside it; gives its id.

    It is P-256 where the name ends in ``.pem``, else ed25519.

    >>> len(new_key(Path("mine.key")))
    16

    Raises:
        FailedPrecondition: one of the files is there already.
    """
    path = Path(path)
    public = path.with_name(path.name + ".pub")
    for file in (path, public):
        if os.path.lexists(file):
            raise FailedPrecondition(
                f"{file} is there already; no key is overwritten. Name another"
            )
    pem = path.suffix == PEM_SUFFIX
    key = ec.generate_private_key(ec.SECP256R1()) if pem else Ed25519PrivateKey.generate()
    _write_key(path, _private_text(key), 0o600)
    _write_key(public, _public_text(key.public_key()), 0o644)
    sync_folder(path.parent)
    return id_of(key.public_key())


def read_public(path: Path) -> PublicKey:
    """The key in a ``*.pub``.

    Raises:
        FailedPrecondition: there is none, or one of another kind.
    """
    text, expected = read_text(path), "a public key (*.pub)"
    if _PEM not in text:
        return Ed25519PublicKey.from_public_bytes(_parse_line(text, _PUBLIC, path, expected))
    try:
        key = serialization.load_pem_public_key(text)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _no_key(path, expected) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not _is_p256(key.curve):
        raise _other_kind(path)
    return key


def read_private(path: Path) -> PrivateKey:
    """The key in a file that only its owner may read.

    Raises:
        FailedPrecondition: there is none, or one of another kind, or others of this machine may
            read it.
    """
    text, expected = read_text(path), "a private key (made by 'misgiving sign --new-key')"
    key: PrivateKey
    if _PEM in text:
        key = _parse_private_pem(text, path, expected)
    else:
        key = Ed25519PrivateKey.from_private_bytes(_parse_line(text, _PRIVATE, path, expected))
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise FailedPrecondition(
            f"{path} may be read by other users; expected a private key with mode 0600. "
            f"Run: chmod 600 {path}, and make a new key if somebody may have read it"
        )
    return key


def _parse_private_pem(text: bytes, path: Path, expected: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(text, None)
    except TypeError as error:
        raise FailedPrecondition(
            f"{path} has a passphrase; expected a private key without one, of mode 0600. "
            f"Take it off with 'openssl pkey -in {path} -out FILE'"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _no_key(path, expected) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not _is_p256(key.curve):
        raise _other_kind(path)
    return key


def _is_p256(curve: ec.EllipticCurve) -> bool:
    return isinstance(curve, ec.SECP256R1)


def _parse_line(text: bytes, kind: str, path: Path, expected: str) -> bytes:
    line = rf"{kind} ([0-9a-f]{{64}})(?: [^\n]*)?\n?"
    match = re.fullmatch(line, text.decode("utf-8", "replace"))
    if not match:
        raise _no_key(path, expected)
    return bytes.fromhex(match[1])


def _no_key(path: Path, expected: str) -> FailedPrecondition:
    return FailedPrecondition(f"{path} is not {expected}; name one, or copy it again")


def _other_kind(path: Path) -> FailedPrecondition:
    return FailedPrecondition(
        f"{path} is a key of another kind; expected PEM of the curve P-256, or a key of ours. "
        "Make one with 'misgiving sign --new-key'"
    )


def read_text(path: Path) -> bytes:
    """What a file of keys or revocations holds.

    Raises:
        FailedPrecondition: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise FailedPrecondition(
            f"{path} cannot be read: {error.strerror}; expected a file with a key. Name another"
        ) from error


def _public_bytes(key: PublicKey) -> bytes:
    if isinstance(key, Ed25519PublicKey):
        return key.public_bytes_raw()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form)


def _public_text(key: PublicKey) -> bytes:
    data = _public_bytes(key)
    return f"{_PUBLIC} {data.hex()}\n".encode() if isinstance(key, Ed25519PublicKey) else data


def _private_text(key: PrivateKey) -> bytes:
    if isinstance(key, Ed25519PrivateKey):
        return f"{_PRIVATE} {key.private_bytes_raw().hex()}\n".encode()
    form, secret = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, secret)


def _write_key(path: Path, text: bytes, mode: int) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except OSError as error:
        raise FailedPrecondition(
            f"{path} cannot be written: {error.strerror}; expected a new file. Name another"
        ) from error
    with os.fdopen(handle, "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
