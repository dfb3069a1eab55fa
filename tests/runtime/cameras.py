"""Servers of network streams, which run as processes of their own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.ports import unused_port

HERE = Path(__file__).parent
SERVERS = {
    "rtsp": ["/usr/bin/python3", str(HERE / "rtsp_server.py")],
    "http": [sys.executable, str(HERE / "mjpeg_server.py")],
}
USER, PASSWORD = "anneliese", "geh@eim"


@contextmanager
def camera(scheme: str, port: int = 0) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A server of red pictures behind a login, and its port; killed at the end."""
    command = [*SERVERS[scheme], str(port or unused_port()), USER, PASSWORD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()
