"""Channels to a server or a collector; loopback never goes through a proxy."""

import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import grpc

from misgiving.runtime.net.backoff import reconnecting
from misgiving.runtime.net.listening import check_address, is_loopback

_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
"""The variables that gRPC reads, in its order."""
_BYPASSES = ("no_grpc_proxy", "no_proxy")


def open_channel(
    address: str, longest_wait_s: float, options: Sequence[tuple[str, Any]] = ()
) -> grpc.Channel:
    """A channel to HOST:PORT; it connects with its first call.

    Args:
        address: of the server.
        longest_wait_s: between two attempts of gRPC to connect.
        options: of gRPC, beside these.

    Raises:
        InvalidInput: ``address`` is something else.
    """
    proxies = not is_loopback(check_address(address))
    ours = (*reconnecting(longest_wait_s), ("grpc.enable_http_proxy", int(proxies)))
    return grpc.insecure_channel(address, [*options, *ours])


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
