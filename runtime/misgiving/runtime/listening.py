"""What the services share: the address that they listen on, and the signal to stop."""

import asyncio
import signal

from misgiving.runtime.errors import InvalidInput


def check_address(address: str) -> str:
    """The host of HOST:PORT; raises InvalidInput where it is something else."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise InvalidInput(
            f"address is {address!r}; expected HOST:PORT with a port from 0 to 65535, "
            "for example 127.0.0.1:50051"
        )
    return host


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
