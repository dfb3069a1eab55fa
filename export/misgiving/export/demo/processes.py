"""The demo's processes: commands that run to their end, and services that run until stopped."""

import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from misgiving.runtime.errors import MisgivingError

READY_S = 60.0
STOP_S = 30.0


class DemoError(MisgivingError):
    """A step of the demo fell short."""


def run(arguments: list[str], log: Path) -> str:
    """Run ``misgiving ARGUMENTS`` to its end and give what it printed on stdout.

    What it says on stderr goes into ``log``; on a terminal its last line is shown meanwhile.

    Raises:
        DemoError: it ended with another code than 0.
    """
    print(f"$ misgiving {shlex.join(arguments)}", flush=True)
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        with _started(arguments, stdout=said) as process:
            last_line = _follow(process, log)
            code = process.wait()
        said.seek(0)
        output = said.read()
    if code != 0:
        raise DemoError(
            f"'misgiving {arguments[0]}' ended with code {code}: "
            f"{last_line or 'no message'} (all of it in {log})"
        )
    for line in output.splitlines():
        print(f"  {line}", flush=True)
    return output


def _follow(process: "subprocess.Popen[str]", log: Path) -> str:
    """Copy stderr into a log until it ends; gives its last line."""
    assert process.stderr is not None
    shown = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns - 3
    last_line = ""
    with log.open("w", encoding="utf-8") as file, process.stderr as lines:
        for line in lines:
            file.write(line)
            last_line = line.strip() or last_line
            if shown:
                print(f"\r\x1b[K  {last_line[:width]}", end="", flush=True)
    if shown:
        print("\r\x1b[K", end="", flush=True)
    return last_line


@contextmanager
def service(arguments: list[str], log: Path) -> Iterator[str]:
    """Run ``misgiving ARGUMENTS`` beside the caller; gives its HOST:PORT once it is ready.

    At the end it is asked to stop, and must end with code 0.

    Raises:
        DemoError: it did not become ready, or did not end well.
    """
    print(f"$ misgiving {shlex.join(arguments)} &", flush=True)
    with _started(arguments) as process:
        watch = _Watch(process, log)
        try:
            yield watch.address(arguments[0])
            _stop(process, arguments[0], log)
        finally:
            process.kill()
            watch.join()


@contextmanager
def _started(
    arguments: list[str], stdout: IO[str] | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """A process that does not outlive the block, however that ends.

    A signal that comes while it is being started is held back until it is known here.
    """
    command = [sys.executable, "-m", "misgiving", *arguments]
    held: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {n: signal.signal(n, lambda number, _: held.append(number)) for n in numbers}
    try:
        process = subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    try:
        for late in held:
            signal.raise_signal(late)
        yield process
    finally:
        process.kill()
        process.wait()


def _stop(process: "subprocess.Popen[str]", name: str, log: Path) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        code = process.wait(STOP_S)
    except subprocess.TimeoutExpired as error:
        raise DemoError(f"'misgiving {name}' did not end in {STOP_S:g} s; see {log}") from error
    if code != 0:
        raise DemoError(f"'misgiving {name}' ended with code {code}; expected 0. See {log}")


class _Watch:
    """Copies a service's stderr into its log and waits for the line that says it is ready."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self._process = process
        self._log = log
        self._found = ""
        self._settled = threading.Event()
        self._thread = threading.Thread(target=self._copy, daemon=True)
        self._thread.start()

    def _copy(self) -> None:
        assert self._process.stderr is not None
        with self._log.open("w", encoding="utf-8") as log, self._process.stderr as lines:
            for line in lines:
                log.write(line)
                log.flush()
                if not self._found and (match := re.search(r" on (\S+:\d+) ", line)):
                    self._found = match[1]
                    self._settled.set()
        self._settled.set()

    def join(self) -> None:
        """Wait until everything that an ended process said is in the log."""
        self._thread.join()

    def address(self, name: str) -> str:
        if not self._settled.wait(READY_S) or not self._found:
            raise DemoError(f"'misgiving {name}' did not become ready; see {self._log}")
        return self._found
