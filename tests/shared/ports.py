"""Ports of this machine where nobody answers, or nobody yet; other tests open many meanwhile."""

import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def nobody() -> Iterator[str]:
    """HOST:PORT that refuses connections, and that nobody else is given meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def unused_port() -> int:
    """One to listen at later, and again: below those that are given to whoever names none."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = lowest // 2 + secrets.randbelow(lowest // 2)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
