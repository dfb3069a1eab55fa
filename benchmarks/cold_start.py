"""From nothing to the first reply of a server, and to the end of a help text; files in memory.

Run: python benchmarks/cold_start.py > benchmarks/cold_start_cpu_<yyyymm>.md
"""

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from misgiving.runtime.client import Client

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "misgiving"]
ROUNDS = 9


def main() -> None:
    """Measure in turn, and print; the first round of each only brings the files into memory."""
    ways = {"`misgiving --help`": _help, "`misgiving serve`, to its first reply": _first_reply}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS + 1):
        for name, way in ways.items():
            seconds = _timed(way)
            taken[name] += [seconds] if number else []
    print("# Cold start\n")
    print(
        f"`python benchmarks/cold_start.py`, {time.strftime('%Y-%m-%d')}, {platform.machine()}, "
        f"{os.cpu_count()} cores, CPython {platform.python_version()}; {ROUNDS} rounds, files in "
        "memory, the bundle that ships, 1 thread, one JPEG of 640 × 425 px.\n"
    )
    print("| | s, median | least | most |\n|---|---:|---:|---:|")
    for name, each in taken.items():
        print(f"| {name} | {statistics.median(each):.2f} | {min(each):.2f} | {max(each):.2f} |")


def _timed(way: Callable[[], None]) -> float:
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


def _help() -> None:
    subprocess.run([*COMMAND, "--help"], check=True, stdout=subprocess.DEVNULL)


def _first_reply() -> None:
    command = [*COMMAND, "serve", "--listen", "127.0.0.1:0", "--threads", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        address = process.stderr.readline().split()[4]
        with Client(address) as client:
            client.infer((ROOT / "docs" / "photo.jpg").read_bytes())
        process.kill()  # a drain is no part of a start


if __name__ == "__main__":
    main()
