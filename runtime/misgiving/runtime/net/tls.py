"""TLS of both ends, from a folder: who we are in ``tls.crt`` and ``tls.key``, whom we believe in
``ca.crt``.

The names are those of Kubernetes and cert-manager, whose secrets can be mounted as they are. A
server reads its folder again at the next handshake after a file has changed; what it cannot use,
such as a certificate whose key is not there yet, leaves the former in force.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from misgiving.runtime.errors import FailedPrecondition

log = logging.getLogger(__name__)

CERTIFICATE, KEY, AUTHORITY = "tls.crt", "tls.key", "ca.crt"
_EXPECTED = f"expected {CERTIFICATE}, {KEY} and {AUTHORITY} in PEM"

Stamps = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Certificates:
    """What a folder holds, found sound."""

    chain: bytes | None
    key: bytes | None
    authority: bytes | None

    def of_server(self) -> grpc.ServerCertificateConfiguration:
        assert self.key is not None
        assert self.chain is not None
        return grpc.ssl_server_certificate_configuration([(self.key, self.chain)], self.authority)


def read(folder: Path, *, server: bool) -> Certificates:
    """Read a folder.

    Args:
        folder: of a server, which needs a certificate, or of a client, which may go without;
            without ``ca.crt``, a server asks nobody for a certificate, and a client believes
            the authorities that gRPC comes with.
        server: whose folder it is.

    Raises:
        FailedPrecondition: it lacks what is needed, or its files cannot be used.
    """
    chain, key, authority = (_bytes(folder / name) for name in (CERTIFICATE, KEY, AUTHORITY))
    if server or chain or key:
        lacking = CERTIFICATE if chain is None else KEY if key is None else None
    else:
        lacking = AUTHORITY if authority is None else None
    if lacking:
        raise FailedPrecondition(f"{folder} holds no {lacking}; {_EXPECTED}. Put them there")
    if authority is not None:
        _certificates(authority, folder / AUTHORITY)
    if chain is not None and key is not None:
        _check_pair(chain, key, folder)
    return Certificates(chain=chain, key=key, authority=authority)


def server_credentials(folder: Path) -> grpc.ServerCredentials:
    """Of a server that follows its folder; with ``ca.crt``, its clients need a certificate too.

    Raises:
        FailedPrecondition: see :func:`read`.
    """
    follower = _Follower(folder)
    newer: Any = follower.newer  # the stubs know nothing of None
    asks = follower.current.authority is not None
    return grpc.dynamic_ssl_server_credentials(follower.current.of_server(), newer, asks)


def channel_credentials(folder: Path) -> grpc.ChannelCredentials:
    """Of a client, as its folder is now.

    Raises:
        FailedPrecondition: see :func:`read`.
    """
    ours = read(folder, server=False)
    return grpc.ssl_channel_credentials(ours.authority, ours.key, ours.chain)


def stamps(folder: Path) -> Stamps:
    """What changes whenever a file of the folder is written or exchanged."""
    return tuple(_stamp(folder / name) for name in (CERTIFICATE, KEY, AUTHORITY))


class _Follower:
    """A server's certificates; gRPC asks for newer ones at each handshake."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen = stamps(folder)
        self.current = read(folder, server=True)

    def newer(self) -> grpc.ServerCertificateConfiguration | None:
        """None where nothing has changed, or for something worse; both keep what there is."""
        if (now := stamps(self._folder)) == self._seen:
            return None
        self._seen = now
        try:
            found = read(self._folder, server=True)
        except FailedPrecondition as error:
            log.warning("%s; the former certificates stay in force", error)
            return None
        if found.authority is None and self.current.authority is not None:
            log.warning("%s has gone; its former content stays in force", self._folder / AUTHORITY)
            return None
        self.current = found
        log.warning("certificates of %s read again", self._folder)
        return found.of_server()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FailedPrecondition(
            f"{path} cannot be read: {error.strerror}; {_EXPECTED}. "
            "Let the user of this process read it"
        ) from error


def _check_pair(chain: bytes, key: bytes, folder: Path) -> None:
    ours = _certificates(chain, folder / CERTIFICATE)[0]
    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise FailedPrecondition(
            f"{folder / KEY} is no private key in PEM without a password; expected that of "
            f"{CERTIFICATE}. Copy it again"
        ) from error
    if private.public_key() != ours.public_key():
        raise FailedPrecondition(
            f"{folder / KEY} is not the key of {CERTIFICATE}; expected a pair. Copy both again"
        )
    now = datetime.now(timezone.utc)
    if ours.not_valid_after_utc < now:
        log.warning(
            "%s expired at %s; others will refuse it",
            folder / CERTIFICATE,
            ours.not_valid_after_utc,
        )
    if now < ours.not_valid_before_utc:
        log.warning(
            "%s is valid from %s on, and this clock says %s; others will refuse it until then",
            *(folder / CERTIFICATE, ours.not_valid_before_utc, f"{now:%Y-%m-%d %H:%M}"),
        )


def _certificates(pem: bytes, path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise FailedPrecondition(
            f"{path} is no certificate; expected one or more in PEM. Copy it again"
        ) from error
