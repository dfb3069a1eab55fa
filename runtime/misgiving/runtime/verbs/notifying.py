"""What systemd is told of a service of Type=notify: sd_notify, without its library."""

import logging
import os
import socket
import time

log = logging.getLogger(__name__)

READY = "READY=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"


def notify(*said: str) -> None:
    """Say something to whoever started this process as a service; nothing where nobody did."""
    if not (address := os.environ.get("NOTIFY_SOCKET")):
        return
    if address.startswith("@"):  # of Linux's abstract names
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)  # frames never wait for systemd
            sender.sendto("\n".join(said).encode(), address)
    except OSError as error:
        log.warning("systemd was not told %s: %s", said[0], error)


def reloading() -> tuple[str, str]:
    """Said before settings are read again; READY has to follow."""
    return "RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"
