"""What the services share: the address that they listen on, and the signal to stop."""

import asyncio
import contextlib
import ipaddress
import signal
import socket
import socketserver
import time
from pathlib import Path
from typing import Any

from misgiving.runtime.errors import InvalidInput

RETRY_S = 0.1
"""Before a connection is accepted that could not be."""


def check_address(address: str) -> str:
    """The host of HOST:PORT; raises InvalidInput where it is something else."""
    host, _, port = address.rpartition(":")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise InvalidInput(f"address is {address!r}; expected {_mended(address, host, port)}")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise InvalidInput(
            f"address is {address!r}; expected HOST:PORT with a port from 0 to 65535, "
            "for example 127.0.0.1:50051"
        )
    return host


def is_loopback(host: str) -> bool:
    """Whether a host, in brackets or not, is this machine by its name or number."""
    if (number := _number(host)) is not None:
        return number.is_loopback or number.is_unspecified
    name = host.rstrip(".").lower()
    return name == "localhost" or name.endswith(".localhost")


def check_exposed(listen: str, tls: Path | None, insecure: bool) -> None:
    """Raise InvalidInput for an address that others reach, without TLS and without being told so.

    It is one too where it is no HOST:PORT.
    """
    if is_exposed(listen) and not (tls or insecure):
        raise InvalidInput(
            f"--listen is {listen}, which other machines reach, and there is no TLS; expected "
            "certificates. Add --tls DIR, or --insecure where the network is safe"
        )


def check_plain(metrics: str, insecure: bool) -> None:
    """The same for metrics, which have no TLS."""
    if is_exposed(metrics) and not insecure:
        raise InvalidInput(
            f"--metrics is {metrics}, which other machines reach, over plain HTTP; expected an "
            "address of this machine. Take 127.0.0.1, or add --insecure, tls.insecure in the file, "
            "where the network is safe"
        )


def accept_patiently(server: socketserver.TCPServer) -> None:
    """Without a file descriptor left, try again a little later: who asks still waits, and a server
    of the standard library would try at once, for ever.
    """
    accept = server.get_request

    def get_request() -> Any:
        try:
            return accept()
        except OSError:
            time.sleep(RETRY_S)
            raise

    server.get_request = get_request  # type: ignore[method-assign]


def answer_briefly(server: socketserver.TCPServer, most: int, longest_s: float) -> None:
    """Hang up on whoever takes longer than ``longest_s``, or is the oldest of more than ``most``.

    A server of the standard library has a thread and a descriptor for each connection, and waits
    for ever for one that says nothing.
    """
    accept, end, tick = server.get_request, server.shutdown_request, server.service_actions
    since: dict[Any, float] = {}  # the oldest first

    def get_request() -> Any:
        connection, address = accept()
        since[connection] = time.monotonic()
        for oldest in list(since)[:-most]:
            hang_up(oldest)
        return connection, address

    def hang_up(connection: Any) -> None:
        """Whoever reads or writes it is told at once, and ends."""
        if since.pop(connection, None) is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def shutdown_request(request: Any) -> None:
        since.pop(request, None)
        end(request)

    def service_actions() -> None:
        late = time.monotonic() - longest_s
        for connection in [one for one, begun in list(since.items()) if begun < late]:
            hang_up(connection)
        tick()

    server.get_request = get_request  # type: ignore[method-assign]
    server.shutdown_request = shutdown_request  # type: ignore[method-assign]
    server.service_actions = service_actions  # type: ignore[method-assign]


def stop_signal() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal() -> None:
        stop.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return stop


def _mended(address: str, host: str, port: str) -> str:
    """What was meant by an address with several colons: IPv6 without brackets, or a URL."""
    if _is_ipv6(number := host.strip("[]")):
        return f"IPv6 in brackets, [{number}]:{port}"
    if _is_ipv6(alone := address.strip("[]")):
        return f"IPv6 in brackets and a port, [{alone}]:50051"
    return "HOST:PORT alone, for example 127.0.0.1:50051 or [::1]:50051"


def is_exposed(address: str) -> bool:
    """Whether other machines reach HOST:PORT; InvalidInput where it is something else."""
    host = check_address(address)
    number = _number(host)
    return not is_loopback(host) or (number is not None and number.is_unspecified)


def _number(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """That of a host, in brackets or not, where it is one; of IPv4 within IPv6, the former."""
    try:
        number = ipaddress.ip_address(host.strip("[]").rstrip("."))
    except ValueError:
        return None
    return getattr(number, "ipv4_mapped", None) or number


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
