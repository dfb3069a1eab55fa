"""Whose bundles a runtime takes: ed25519 keys, signatures, revocations, expiry.

Protected, where keys are configured: a bundle is taken only if a key that this device trusts
signed its manifest, whose sha256 digests cover every other file. So nobody who can write to the
disk, the network or the update server, and has no key, can alter a bundle, mix two, or bring back
one that is revoked, expired or older than the floor. Manifest and signature are read first, and
nothing else before they are accepted; the bytes that an engine gets are the bytes that were hashed
(``Bundle.read``).

Not protected: against who can write the folder of trusted keys, the state folder or this program,
or read this process; against a signer who means harm; what a bundle says (nothing is secret); a
clock that somebody turns back stops expiry. Without keys, digests guard against accidents only.

A key file is one line, ``ed25519 HEX`` or ``ed25519-private HEX``; a signature is plain ed25519
over the manifest's bytes, so that other tools can check it. PyNaCl, because it is a third of
``cryptography``'s size, has the one wheel for every Python from 3.8 on, and libsodium's interface
does not change.
"""

import hashlib
import logging
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from misgiving.runtime.bundles import floor
from misgiving.runtime.bundles.manifest import Manifest
from misgiving.runtime.durable import sync_folder
from misgiving.runtime.errors import BundleError, FailedPrecondition

log = logging.getLogger(__name__)

TRUST_VARIABLE = "MISGIVING_TRUST"
SIGNATURES = "manifest.sig"
MAX_SIGNATURES_BYTES = 1 << 16
REVOKED = "revoked"
_PUBLIC, _PRIVATE = "ed25519", "ed25519-private"


@dataclass(frozen=True)
class Trust:
    """What a device trusts, and how far it has come.

    >>> id = new_key(Path("release.key"))
    >>> id == sign_bundle(Path("bundle"), Path("release.key"))
    True
    >>> Bundle.load(Path("bundle"), Trust.read(Path("release.key.pub"))).signed_by == id
    True
    """

    keys: Mapping[str, bytes]
    """Key id → public key, 32 bytes."""
    revoked: frozenset[str] = frozenset()
    """Key ids and digests of bundles."""
    floors: Mapping[str, int] = field(default_factory=dict)
    """Name of a model → the lowest release of it that is still taken."""

    @classmethod
    def read(cls, path: Path) -> "Trust":
        """Read one public key, or a folder of ``*.pub`` and perhaps ``revoked``; and the floors.

        Raises:
            FailedPrecondition: there is no key, or a line is not understood: a revocation that
                cannot be read must not be passed over.
        """
        files = sorted(path.glob("*.pub")) if path.is_dir() else [path]
        keys = [_read_public(file) for file in files]
        if not keys:
            raise FailedPrecondition(
                f"{path} holds no *.pub; expected the public keys whose bundles are taken. "
                "Copy them there"
            )
        revoked = _read_revoked(path / REVOKED) if path.is_dir() else frozenset()
        return cls({key_id(key): key for key in keys}, revoked, floor.read())

    def check(self, manifest: bytes, signatures: bytes | None, name: str) -> str:
        """The id of a trusted key that signed these bytes.

        Args:
            manifest: the bytes of ``manifest.json``.
            signatures: those of ``manifest.sig``, None where there is none.
            name: of the bundle, for messages.

        Raises:
            BundleError: none did, or the manifest's digest is revoked.
        """
        digest = hashlib.sha256(manifest).hexdigest()
        if digest in self.revoked:
            raise BundleError(f"{name} is revoked (digest {digest[:12]}…); install a newer one")
        if signatures is None:
            raise BundleError(
                f"{name} is not signed; expected {SIGNATURES} by {self._known()}. "
                "Sign it with 'misgiving sign', or get a signed one"
            )
        signed = parse_signatures(signatures, name)
        ours = [id for id in signed if id in self.keys]
        usable = [id for id in ours if id not in self.revoked]
        for id in usable:
            if _fits(self.keys[id], manifest, signed[id]):
                return id
        if usable:
            raise BundleError(
                f"{name} was altered after key {usable[0]} signed it, or carries another bundle's "
                f"{SIGNATURES}. Copy it again"
            )
        if ours:
            raise BundleError(
                f"{name} is signed by key {ours[0]}, which is revoked; expected "
                f"{self._known()}. Install a newer bundle"
            )
        raise BundleError(
            f"{name} is signed by key {', '.join(signed)}; expected {self._known()}. "
            "Get one from somebody whom you trust, or add that key to the trusted ones"
        )

    def _known(self) -> str:
        known = [id for id in self.keys if id not in self.revoked]
        return f"one of {', '.join(known)}" if known else "another key (all of ours are revoked)"


def admit(trust: Trust, manifest: Manifest, name: str, now: datetime) -> None:
    """Raise BundleError for a signed bundle that has expired or is below the floor.

    A clock that stands before the bundle was made is wrong, as in a car that has no time yet:
    the bundle is taken, with a warning. Without a clock nothing can be said about expiry, and
    a car that starts without one must not stand still for it.
    """
    expires = manifest.expires
    if expires and _before(now, manifest.provenance.created):
        log.warning("clock says %s, before %s was made: expiry is not judged", now.date(), name)
    if expires and now.date() > expires:
        raise BundleError(
            f"{name} expired at the end of {expires} and this clock says "
            f"{now:%Y-%m-%d %H:%M} UTC; install a newer one, or set the clock"
        )
    lowest = trust.floors.get(manifest.name, 0)
    if manifest.release < lowest:
        raise BundleError(
            f"{name} is release {manifest.release} of {manifest.name}; this device has proved "
            f"release {lowest} and takes no older one. Install release {lowest} or newer"
        )


def read_trust(path: Path | None) -> Trust | None:
    """The trust that is asked for, else that of the environment, else none: all is taken."""
    chosen = path or os.environ.get(TRUST_VARIABLE)
    return Trust.read(Path(chosen)) if chosen else None


def key_id(public: bytes) -> str:
    """The name of a key: 16 hex digits of its sha256. It names; the whole key decides."""
    return hashlib.sha256(public).hexdigest()[:16]


def new_key(path: Path) -> str:
    """Make a key: ``path``, private, 0600, and ``path.pub`` beside it; gives its id.

    >>> len(new_key(Path("mine.key")))
    16

    Raises:
        FailedPrecondition: one of the files is there already.
    """
    key = SigningKey.generate()
    public = path.with_name(path.name + ".pub")
    for file in (path, public):
        if os.path.lexists(file):
            raise FailedPrecondition(
                f"{file} is there already; no key is overwritten. Name another"
            )
    _write_key(path, f"{_PRIVATE} {bytes(key).hex()}\n", 0o600)
    _write_key(public, f"{_PUBLIC} {bytes(key.verify_key).hex()}\n", 0o644)
    sync_folder(path.parent)
    return key_id(bytes(key.verify_key))


def sign(manifest: bytes, key: Path) -> tuple[str, bytes]:
    """Key id and signature of some bytes by a private key's file.

    Raises:
        FailedPrecondition: no key, or others of this machine may read it.
    """
    signing = SigningKey(_read_private(key))
    return key_id(bytes(signing.verify_key)), signing.sign(manifest).signature


def parse_signatures(text: bytes, name: str) -> dict[str, bytes]:
    """Key id → signature, of a ``manifest.sig``.

    Raises:
        BundleError: it is not one.
    """
    lines = text.decode("ascii", "replace").splitlines()
    found = [re.fullmatch("([0-9a-f]{16}) ([0-9a-f]{128})", line) for line in lines]
    pairs = [match.groups() for match in found if match]
    if not pairs or len(pairs) != len(lines):
        raise BundleError(
            f"{name}: {SIGNATURES} is damaged; expected lines of a key id and a signature. "
            "Copy the bundle again"
        )
    return {id: bytes.fromhex(signature) for id, signature in pairs}


def format_signatures(signatures: Mapping[str, bytes]) -> bytes:
    """The content of a ``manifest.sig``."""
    lines = [f"{id} {signature.hex()}\n" for id, signature in sorted(signatures.items())]
    return "".join(lines).encode()


def _fits(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        VerifyKey(public).verify(message, signature)
    except BadSignatureError:
        return False
    return True


def _before(now: datetime, created: str) -> bool:
    try:
        return now < datetime.fromisoformat(created).astimezone(timezone.utc)
    except (ValueError, OverflowError):  # older code wrote it in some other way
        return False


def _read_public(path: Path) -> bytes:
    return _parse_key(_read_text(path), _PUBLIC, path, "a public key (*.pub)")


def _read_private(path: Path) -> bytes:
    expected = "a private key (made by 'misgiving sign --new-key')"
    key = _parse_key(_read_text(path), _PRIVATE, path, expected)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise FailedPrecondition(
            f"{path} may be read by other users; expected a private key with mode 0600. "
            f"Run: chmod 600 {path}, and make a new key if somebody may have read it"
        )
    return key


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise FailedPrecondition(
            f"{path} cannot be read: {error.strerror}; expected a file with a key. Name another"
        ) from error


def _parse_key(text: str, kind: str, path: Path, expected: str) -> bytes:
    match = re.fullmatch(rf"{kind} ([0-9a-f]{{64}})(?: [^\n]*)?\n?", text)
    if not match:
        raise FailedPrecondition(f"{path} is not {expected}; name one, or copy it again")
    return bytes.fromhex(match[1])


def _read_revoked(path: Path) -> frozenset[str]:
    """Ids of keys and digests of bundles, one a line; ``#`` begins a comment."""
    if not path.exists():
        return frozenset()
    words = [line.partition("#")[0].strip() for line in _read_text(path).splitlines()]
    for word in filter(None, words):
        if not re.fullmatch("[0-9a-f]{16}|[0-9a-f]{64}", word):
            raise FailedPrecondition(
                f"{path} has a line {word[:80]!r}; expected the id of a key (16 hex digits) or the "
                "digest of a bundle (64), one a line"
            )
    return frozenset(filter(None, words))


def _write_key(path: Path, text: str, mode: int) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except OSError as error:
        raise FailedPrecondition(
            f"{path} cannot be written: {error.strerror}; expected a new file. Name another"
        ) from error
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
