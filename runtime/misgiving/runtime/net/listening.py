"""What the services share: the address that they listen on, and the signal to stop."""

import asyncio
import ipaddress
import signal

from misgiving.runtime.errors import InvalidInput


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
    host = host.strip("[]").rstrip(".").lower()
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    number = getattr(number, "ipv4_mapped", None) or number
    return number.is_loopback or number.is_unspecified


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


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
