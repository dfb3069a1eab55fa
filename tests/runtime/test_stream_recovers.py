"""``misgiving stream`` while its server is stopped, killed, restarted or late: real processes.

The replies go to a named pipe, which holds a few dozen of them: a stream whose first replies have
been read is in the middle of its recording.
"""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from runtime.cameras import PASSWORD, USER, camera
from runtime.commands import COMMAND
from shared import tiny
from shared.ports import unused_port
from shared.tiny import write_video

FRAMES = 400


@pytest.fixture
def address() -> str:
    """Where nobody listens yet."""
    return f"127.0.0.1:{unused_port()}"


@contextmanager
def serving(address: str) -> Iterator["subprocess.Popen[str]"]:
    command = [*COMMAND, "serve", "--listen", address, "--bundle", str(tiny.BUNDLE)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert process.stderr.readline().startswith("serving ")
            yield process
        finally:
            process.kill()


@contextmanager
def streaming(source: object, address: str, *options: str) -> Iterator["subprocess.Popen[str]"]:
    command = [*COMMAND, "stream", str(source), "--server", address, *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def replies(tmp_path: Path) -> Path:
    path = tmp_path / "replies"
    os.mkfifo(path)
    return path


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write_video(tmp_path / "v.mp4", FRAMES)


def names(lines: IO[str]) -> list[str]:
    return [json.loads(line)["frame_id"] for line in lines]


def some(lines: IO[str], number: int = 5) -> list[str]:
    return [json.loads(lines.readline())["frame_id"] for _ in range(number)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_recording_goes_on_where_it_was(
    recording: Path, replies: Path, address: str, number: signal.Signals
) -> None:
    options = ("--json", str(replies))
    with (
        serving(address) as first,
        streaming(recording, address, *options) as process,
        replies.open() as lines,
    ):
        answered = some(lines)
        first.send_signal(number)
        first.wait()
        with serving(address):
            answered += names(lines)
            out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert answered == [f"{i:06d}" for i in range(FRAMES)]  # each once, in order
    assert out.startswith(f"frames: {FRAMES} sent, {FRAMES} answered, 0 failed, 0 dropped\n")
    assert len(out.splitlines()) == 3
    assert err.count("waiting up to 60 s") <= 1  # where it was not back before that was asked


@pytest.mark.parametrize(("number", "live"), [(signal.SIGTERM, False), (signal.SIGKILL, True)])
def test_a_stream_whose_server_stays_away_says_what_was_not_sent(
    recording: Path, replies: Path, address: str, number: signal.Signals, live: bool
) -> None:
    options = ("--json", str(replies), "--wait", "0", *(["--live"] if live else []))
    with serving(address) as server, streaming(recording, address, *options) as process:
        with replies.open() as lines:
            answered = some(lines)
            server.send_signal(number)
            server.wait()
            answered += names(lines)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.startswith(f"misgiving: no answer from {address} (")
    assert err.count("\n") == 1
    found = re.match(r"frames: (\d+) sent, (\d+) answered, 0 failed, (\d+) dropped\n", out)
    assert found
    sent, told, dropped = map(int, found.groups())
    assert told == len(answered) == len(set(answered)) < FRAMES
    left: dict[str, int] = {}
    for words in ("no server", "not answered", "not sent"):
        number_of = re.search(rf"^{words}: (\d+) ", out, re.MULTILINE)
        left[words] = int(number_of[1]) if number_of else 0
    assert sent + left["no server"] + left["not sent"] == FRAMES
    assert told + dropped + left["not answered"] == sent


def test_a_camera_outlives_its_server(replies: Path, address: str) -> None:
    with serving(address) as first, camera("http") as (_, port):
        url = f"http://{USER}:{PASSWORD.replace('@', '%40')}@127.0.0.1:{port}/stream1"
        options = ("--json", str(replies))
        with streaming(url, address, *options) as process, replies.open() as lines:
            some(lines)
            first.send_signal(signal.SIGTERM)
            first.wait()
            assert process.stderr is not None
            assert "waiting up to 60 s" in process.stderr.readline()
            with serving(address):
                assert process.stderr.readline().endswith(f" {address} answers\n")
                some(lines)
                process.send_signal(signal.SIGINT)
                lines.read()
                out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert re.search(r"^no server: \d+ frames dropped meanwhile$", out, re.MULTILINE)
    assert "not answered" not in out
    assert "not sent" not in out


def test_a_server_that_comes_later_is_waited_for(recording: Path, address: str) -> None:
    with streaming(recording, address) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert f"no answer from {address} (" in line
        assert line.endswith("; waiting up to 60 s\n")
        with serving(address):
            out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert err.endswith(f" {address} answers\n")
    assert err.count("\n") == 1
    assert out.startswith(f"frames: {FRAMES} sent, {FRAMES} answered, ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_wait_ends_with_a_signal(recording: Path, address: str, number: signal.Signals) -> None:
    with streaming(recording, address, "--wait", "3600") as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert err.startswith(f"misgiving: no answer from {address} (")
    assert out.startswith("frames: 0 sent, ")
    assert f"not sent: {FRAMES} of {FRAMES} frames\n" in out
