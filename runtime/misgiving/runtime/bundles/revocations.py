"""Revocations that travel: keys, bundles and floors on a list that is signed as bundles are.

Who carries the list cannot add to it, nor take from it, for it is signed. An older one that is
brought again changes nothing: what a device minds once it minds for good, and floors only rise.
A key that is revoked itself signs no list.
"""

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from misgiving.runtime.bundles import floor, revoked
from misgiving.runtime.bundles.keys import PublicKey, id_of, read_private
from misgiving.runtime.bundles.revoked import lines_of, parse_revoked
from misgiving.runtime.bundles.trust import Trust
from misgiving.runtime.durable import write_durably
from misgiving.runtime.errors import BundleError, DataError, FailedPrecondition

MAX_BYTES = 1 << 16
"""Of a list, and of its signatures."""

_SIGNED = b"misgiving revocations 1\n"
"""Stands before the list in what is signed, so that no other signature passes for one."""


@dataclass(frozen=True, slots=True)
class SignedList:
    """A list as it travels, before anybody has checked it."""

    text: bytes
    signatures: bytes

    @property
    def sha256(self) -> str:
        """Of the text, in hex."""
        return hashlib.sha256(self.text).hexdigest()

    @classmethod
    def read(cls, path: Path) -> "SignedList":
        """A list, and the signatures in ``PATH.sig``.

        Raises:
            FailedPrecondition: one of them cannot be read.
        """
        return cls(_read(path), _read(signatures_of(path)))


@dataclass(frozen=True, slots=True)
class Revocations:
    """What a list says."""

    revoked: frozenset[str]
    """Ids or digests of keys, and digests of bundles."""
    floors: Mapping[str, int]
    """Name of a model → the lowest release of it that is still taken."""

    def lacks(self, before: "Revocations") -> list[str]:
        """What an earlier list says, and this one does not."""
        lower = {
            f"floor {name} {release}"
            for name, release in before.floors.items()
            if self.floors.get(name, 0) < release
        }
        return sorted({*(before.revoked - self.revoked), *lower})


def parse_revocations(text: bytes, name: object) -> Revocations:
    """What a list says: lines of a ``revoked`` file, and of the form ``floor NAME RELEASE``.

    Raises:
        FailedPrecondition: a line is none of these, or there is none.
    """
    floors: dict[str, int] = {}
    words = []
    for line in lines_of(text):
        if found := re.fullmatch(r"floor (\S.*) (\d{1,18})", line):
            floors[found[1]] = max(int(found[2]), floors.get(found[1], 0))
        else:
            words.append(line)
    if not words and not floors:
        raise FailedPrecondition(
            f"{name} revokes nothing; expected ids of keys, digests of bundles, and lines "
            "'floor NAME RELEASE'. Write them, one a line"
        )
    return Revocations(parse_revoked("\n".join(words).encode(), name), floors)


def sign_revocations(path: Path, key: Path) -> str:
    """Write a key's signature of a list into ``PATH.sig``, beside other keys'; gives the key's id.

    Raises:
        FailedPrecondition: the list or the key cannot be read, or is none.
        DataError: the signature cannot be written.
    """
    text = _read(path)
    parse_revocations(text, path)
    private = read_private(key)
    if isinstance(private, Ed25519PrivateKey):
        signature = private.sign(_SIGNED + text)
    else:
        signature = private.sign(_SIGNED + text, ECDSA(hashes.SHA256()))
    id, file = id_of(private.public_key()), signatures_of(path)
    others = file.read_bytes() if file.is_file() else b""
    lines = {one: found for one, found in _signatures(others) if one != id} | {id: signature}
    try:
        write_durably(
            file, "".join(f"{one} {lines[one].hex()}\n" for one in sorted(lines)).encode()
        )
    except OSError as error:
        raise DataError(
            f"{file} cannot be written: {error.strerror}; expected a folder of yours on a disk "
            "with room. Copy the list elsewhere"
        ) from error
    return id


def check_revocations(signed: SignedList, trust: Trust, name: object) -> Revocations:
    """What a list says, once a key that is trusted and not revoked has signed it.

    Raises:
        BundleError: none has.
        FailedPrecondition: it is too long, or a line is not understood.
    """
    if max(len(signed.text), len(signed.signatures)) > MAX_BYTES:
        raise FailedPrecondition(f"{name} is longer than {MAX_BYTES:,} bytes; shorten it")
    for id, signature in _signatures(signed.signatures):
        if (key := trust.key(id)) and _is_valid(key, signature, _SIGNED + signed.text):
            return parse_revocations(signed.text, name)
    raise BundleError(
        f"{name} has no valid signature by a trusted key; expected one by "
        f"{trust.known()}. Sign it with 'misgiving fleet revocations sign'"
    )


def mind(revocations: Revocations) -> bool:
    """Take none of it any more, from the next bundle on, and after each start.

    Returns:
        Whether any of it was new.

    Raises:
        FailedPrecondition: that cannot be written.
    """
    new = revoked.add(revocations.revoked)
    for name, release in revocations.floors.items():
        if floor.read().get(name, 0) >= release:
            continue
        new = True
        if not floor.rise(name, release):
            raise FailedPrecondition(
                f"floor of {name} cannot be raised to {release}; expected a state folder that can "
                f"be written. Name one by {floor.STATE_VARIABLE}"
            )
    return new


def signatures_of(path: Path) -> Path:
    """Where the signatures of a list are."""
    return path.with_name(path.name + ".sig")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FailedPrecondition(
            f"{path} cannot be read: {error.strerror}; expected a list of revocations, and its "
            "signatures in FILE.sig, by 'misgiving fleet revocations sign'. Name another list"
        ) from error


def _signatures(text: bytes) -> list[tuple[str, bytes]]:
    """Ids of keys and signatures; lines that are none are passed over, for one is enough."""
    lines = text.decode("ascii", "replace").splitlines()
    found = [re.fullmatch("([0-9a-f]{16}) ((?:[0-9a-f]{2}){1,80})", line) for line in lines]
    return [(match[1], bytes.fromhex(match[2])) for match in found if match]


def _is_valid(key: PublicKey, signature: bytes, signed: bytes) -> bool:
    with suppress(InvalidSignature):
        if isinstance(key, Ed25519PublicKey):
            key.verify(signature, signed)
        else:
            key.verify(signature, signed, ECDSA(hashes.SHA256()))
        return True
    return False
