"""Channels to a server or a collector; loopback never goes through a proxy."""

import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc

from misgiving.runtime.errors import MisgivingError
from misgiving.runtime.net.backoff import reconnecting
from misgiving.runtime.net.listening import check_address, is_loopback

log = logging.getLogger(__name__)

_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
"""The variables that gRPC reads, in its order."""
_BYPASSES = ("no_grpc_proxy", "no_proxy")


def open_channel(
    address: str,
    longest_wait_s: float,
    options: Sequence[tuple[str, Any]] = (),
    tls: Path | None = None,
) -> grpc.Channel:
    """A channel to HOST:PORT; it connects with its first call.

    Args:
        address: of the server.
        longest_wait_s: between two attempts of gRPC to connect.
        options: of gRPC, beside these.
        tls: folder of our certificates, see ``tls.py``; None for a channel without TLS.

    Raises:
        InvalidInput: ``address`` is something else.
        FailedPrecondition: there are no certificates that can be used.
    """
    proxies = not is_loopback(check_address(address))
    ours = (*reconnecting(longest_wait_s), ("grpc.enable_http_proxy", int(proxies)))
    if tls is None:
        return grpc.insecure_channel(address, [*options, *ours])
    from misgiving.runtime.net.tls import channel_credentials  # loaded where it is needed

    return grpc.secure_channel(address, channel_credentials(tls), [*options, *ours])


class Reopening:
    """A channel to HOST:PORT that is opened again once our certificates have changed.

    gRPC never reads those of a channel again. Arguments are those of :func:`open_channel`.
    """

    def __init__(
        self,
        address: str,
        longest_wait_s: float,
        options: Sequence[tuple[str, Any]] = (),
        tls: Path | None = None,
    ) -> None:
        self._tls = tls
        self._open = partial(open_channel, address, longest_wait_s, options, tls)
        self._seen = self._stamps()
        self.channel = self._open()

    def reopen(self) -> bool:
        """After a failure: whether there is a new channel, for newer certificates."""
        if (now := self._stamps()) == self._seen:
            return False
        self._seen = now
        before = self.channel
        try:
            self.channel = self._open()
        except MisgivingError as error:  # a certificate without its key yet
            log.warning("%s; the former certificates are tried again", error)
            return False
        before.close()
        return True

    def _stamps(self) -> object:
        if self._tls is None:
            return None
        from misgiving.runtime.net.tls import stamps  # loaded where it is needed

        return stamps(self._tls)


def through_proxy(address: str) -> str:
    """Words for a message about an address that gRPC reaches through a proxy, else empty.

    A user and password in the proxy's URL are not shown.
    """
    name = next((name for name in _PROXIES if os.environ.get(name)), None)
    host = check_address(address)
    if name is None or is_loopback(host) or _bypassed(host):
        return ""
    proxy = urlsplit(os.environ[name]).netloc.rpartition("@")[2]
    return f" through the proxy {proxy} of the variable {name}"


def _bypassed(host: str) -> bool:
    hosts = next((os.environ[name] for name in _BYPASSES if os.environ.get(name)), "")
    ends = (entry.strip().lstrip(".") for entry in hosts.split(","))
    return any(end and host.endswith(end) for end in ends)
