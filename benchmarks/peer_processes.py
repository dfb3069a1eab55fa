"""The servers of ``peers.py``: started, measured with all their processes, and ended."""

import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

PATIENCE = 300.0
"""s until a server that has not answered is given up."""


class NoAnswer(Exception):
    """A server that ended, or was waited for in vain."""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def wait_for(process: "subprocess.Popen[bytes]", port: int) -> None:
    """Until somebody listens: a gRPC channel that is refused would wait a second and more."""
    deadline = time.perf_counter() + PATIENCE
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.perf_counter() > deadline:
            raise NoAnswer(f"{process.args!r} does not listen")
        time.sleep(0.01)


def alone() -> None:
    """What a server's process does first: the first core is its own, and so is a process group."""
    os.setpgid(0, 0)
    os.sched_setaffinity(0, {0})


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask it to end, and kill what it leaves: LitServe leaves its workers, Ray starts new ones."""
    family = family_of(process.pid)
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pid in family[1:]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def family_of(pid: int) -> list[int]:
    """A process and all below it."""
    below: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        if text := _read(int(folder.name), "stat"):
            parent = int(text.rpartition(")")[2].split()[1])
            below.setdefault(parent, []).append(int(folder.name))
    family = [pid]
    for each in family:
        family += below.get(each, [])
    return family


def cpu_ms(pid: int) -> float:
    """Of a process and all below it, those that ended and were waited for among them."""
    return sum(map(_cpu_ticks, family_of(pid))) / os.sysconf("SC_CLK_TCK") * 1e3


def _cpu_ticks(pid: int) -> int:
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return sum(map(int, fields[11:15]))


def memory_mb(pid: int) -> float:
    """Proportional set size of a process and all below it: what they share counts once."""
    lines = [line for each in family_of(pid) for line in _read(each, "smaps_rollup").splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _read(pid: int, name: str) -> str:
    """Empty where the process has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""


ASK_VERSIONS = """
import platform, sys
from importlib import metadata
print("CPython", platform.python_version(), end="")
for name in sys.argv[1:]:
    print(",", name, metadata.version(name), end="")
"""


def versions(python: Path, package: str) -> str:
    names = [package, "onnxruntime", "opencv-python-headless", "numpy"]
    asked = subprocess.run([python, "-c", ASK_VERSIONS, *names], capture_output=True, check=True)
    return asked.stdout.decode()


def installed_mb(python: Path) -> float:
    """Its site-packages, without what every new environment has."""
    (packages,) = python.parent.parent.glob("lib/python3*/site-packages")
    ours = ("pip", "setuptools", "pkg_resources", "_distutils_hack")
    folders = [each for each in packages.iterdir() if not each.name.startswith(ours)]
    files = [file for folder in folders for file in (folder, *folder.rglob("*"))]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6
