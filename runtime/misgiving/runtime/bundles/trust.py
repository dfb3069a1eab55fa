"""Whose bundles a runtime takes: keys, signatures, revocations, expiry.

Protected, where keys are configured: a bundle is taken only if a key that this device trusts
signed its manifest, whose sha256 digests cover every other file. So nobody who can write to the
disk, the network or the update server, and has no key, can alter a bundle, mix two, or bring back
one that is revoked, expired or older than the floor. Manifest and signatures are read first, and
nothing else before they are accepted; the bytes that an engine gets are the bytes that were hashed
(``Bundle.read``).

Not protected: against who can write the folder of trusted keys, the state folder or this program,
or read this process; against a signer who means harm; what a bundle says (nothing is secret); a
clock that somebody turns back stops expiry. Without keys, digests guard against accidents only.

There are two forms, and one valid signature of either is enough: ``manifest.sig``, plain ed25519
over the manifest's bytes, and ``model.sig`` of OpenSSF (``openssf.py``).
"""

import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from misgiving.runtime.bundles import floor, revoked
from misgiving.runtime.bundles.keys import PublicKey, id_of, read_public, read_text
from misgiving.runtime.bundles.manifest import (
    MANIFEST,
    MODEL_SIGNATURE,
    SIGNATURES,
    Manifest,
    parse_manifest,
)
from misgiving.runtime.bundles.openssf import ModelSignature, parse_model_signature
from misgiving.runtime.bundles.revoked import parse_revoked
from misgiving.runtime.errors import BundleError, FailedPrecondition

log = logging.getLogger(__name__)

TRUST_VARIABLE = "MISGIVING_TRUST"
MAX_SIGNATURES_BYTES = 1 << 16
REVOKED = "revoked"


@dataclass(frozen=True)
class ManifestSignature:
    """A line of a ``manifest.sig``, before anybody has checked it."""

    id: str
    """Of the key that is said to have signed."""
    signature: bytes
    file = SIGNATURES

    def check(self, key: PublicKey, manifest: bytes) -> Mapping[str, str] | None:
        """None, for the manifest lists the files.

        Raises:
            InvalidSignature: the key signed something else than these bytes.
        """
        if not isinstance(key, Ed25519PublicKey):
            raise InvalidSignature
        key.verify(self.signature, manifest)
        return None


Claim = ManifestSignature | ModelSignature


@dataclass(frozen=True)
class Trust:
    """What a device trusts, and how far it has come.

    >>> id = new_key(Path("release.key"))
    >>> id == sign_bundle(Path("bundle"), Path("release.key"))
    True
    >>> Bundle.load(Path("bundle"), Trust.read(Path("release.key.pub"))).signed_by == id
    True
    """

    keys: Mapping[str, PublicKey]
    """By their ids."""
    revoked: frozenset[str] = frozenset()
    """Ids or digests of keys, and digests of bundles."""
    floors: Mapping[str, int] = field(default_factory=dict)
    """Name of a model → the lowest release of it that is still taken."""

    @classmethod
    def read(cls, path: Path | str) -> "Trust":
        """Read one public key, or a folder of ``*.pub`` and perhaps ``revoked``; and the floors
        and revocations that this device remembers.

        Raises:
            FailedPrecondition: there is no key, or a line is not understood: a revocation that
                cannot be read must not be passed over.
        """
        path = Path(path)
        files = sorted(path.glob("*.pub")) if path.is_dir() else [path]
        keys = [read_public(file) for file in files]
        if not keys:
            raise FailedPrecondition(
                f"{path} holds no *.pub; expected the public keys whose bundles are taken. "
                "Copy them there"
            )
        own = path / REVOKED
        told = parse_revoked(read_text(own), own) if own.exists() else frozenset()
        return cls({id_of(key): key for key in keys}, told | revoked.read(), floor.read())

    def check(self, manifest: bytes, signatures: Mapping[str, bytes], name: str) -> str:
        """The id of a trusted key whose signature is valid for these bytes.

        Args:
            manifest: the bytes of ``manifest.json``.
            signatures: those of the files of signatures that there are, by their names.
            name: of the bundle, for messages.

        Raises:
            BundleError: there is none, or the manifest's digest is revoked.
        """
        digest = hashlib.sha256(manifest).hexdigest()
        if digest in self.revoked:
            raise BundleError(f"{name} is revoked (digest {digest[:12]}…); install a newer one")
        if not signatures:
            raise BundleError(
                f"{name} is not signed; expected {SIGNATURES} or {MODEL_SIGNATURE} by "
                f"{self.known()}. Sign it with 'misgiving sign', or get a signed one"
            )
        claims = _claims(signatures, name)
        usable = [one for one in claims if one.id in self.keys and not self._is_revoked(one.id)]
        for claim in usable:
            with suppress(InvalidSignature):
                files = claim.check(self.keys[claim.id], manifest)
                if files is not None:
                    listed = parse_manifest(manifest, Path(name) / MANIFEST)
                    _check_listing(files, listed, name)
                return claim.id
        raise self._refusal(claims, usable, name)

    def key(self, id: str) -> PublicKey | None:
        """A key that is trusted, and not revoked."""
        return None if self._is_revoked(id) else self.keys.get(id)

    def _refusal(self, claims: Sequence[Claim], usable: Sequence[Claim], name: str) -> BundleError:
        """Why none of these claims was enough."""
        if usable:
            return BundleError(
                f"{name} was altered after key {usable[0].id} signed it, or carries another "
                f"bundle's {usable[0].file}. Copy it again"
            )
        if ours := [claim.id for claim in claims if claim.id in self.keys]:
            return BundleError(
                f"{name} is signed by key {ours[0]}, which is revoked; expected "
                f"{self.known()}. Install a newer bundle"
            )
        return BundleError(
            f"{name} is signed by key {', '.join(claim.id for claim in claims)}; expected "
            f"{self.known()}. Get one from somebody whom you trust, or add that key to the "
            "trusted ones"
        )

    def _is_revoked(self, id: str) -> bool:
        return any(word.startswith(id) for word in self.revoked)

    def known(self) -> str:
        """Whose signatures are taken, for messages."""
        known = [id for id in self.keys if not self._is_revoked(id)]
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


def sign(manifest: bytes, key: Ed25519PrivateKey) -> ManifestSignature:
    """A line for ``manifest.sig``."""
    return ManifestSignature(id_of(key.public_key()), key.sign(manifest))


def parse_signatures(text: bytes, name: str) -> list[ManifestSignature]:
    """What a ``manifest.sig`` claims.

    Raises:
        BundleError: it is none.
    """
    lines = text.decode("ascii", "replace").splitlines()
    found = [re.fullmatch("([0-9a-f]{16}) ([0-9a-f]{128})", line) for line in lines]
    pairs = [match.groups() for match in found if match]
    if not pairs or len(pairs) != len(lines):
        raise BundleError(
            f"{name}: {SIGNATURES} is damaged; expected lines of a key id and a signature. "
            "Copy the bundle again"
        )
    return [ManifestSignature(id, bytes.fromhex(signature)) for id, signature in pairs]


def format_signatures(signatures: Iterable[ManifestSignature]) -> bytes:
    """The content of a ``manifest.sig``."""
    lines = sorted(f"{one.id} {one.signature.hex()}\n" for one in signatures)
    return "".join(lines).encode()


_FORMS: Mapping[str, Callable[[bytes, str], Sequence[Claim]]] = {
    SIGNATURES: parse_signatures,
    MODEL_SIGNATURE: parse_model_signature,
}


def _claims(signatures: Mapping[str, bytes], name: str) -> Sequence[Claim]:
    """What all files of signatures claim; a damaged one does not spoil the other.

    Raises:
        BundleError: all are damaged.
    """
    claims: list[Claim] = []
    damage = []
    for file, data in signatures.items():
        try:
            claims += _FORMS[file](data, name)
        except BundleError as error:
            damage.append(error)
    if not claims:
        raise damage[0]
    return claims


def _check_listing(files: Mapping[str, str], manifest: Manifest, name: str) -> None:
    if differ := sorted({file for file, _ in files.items() ^ manifest.files.items()}):
        raise BundleError(
            f"{name}: {MODEL_SIGNATURE} and {MANIFEST} do not list the same files: {differ[0]!r}. "
            "Remove what is not the bundle's, and sign it again"
        )


def _before(now: datetime, created: str) -> bool:
    try:
        return now < datetime.fromisoformat(created).astimezone(timezone.utc)
    except (ValueError, OverflowError):  # older code wrote it in some other way
        return False
