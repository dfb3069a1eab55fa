"""Ctrl-C and SIGTERM, at moments that the process itself announces, and a pipe that closes.

Moments without a word of their own are announced by ``-X importtime``, which names on stderr each
module that has just been imported.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from shared.serving import Gated, serving

COMMAND = ["-m", "misgiving"]
TRAIN = "train --data synthetic:1,16 --val synthetic:2,8 --threads 1 --out new"
CYCLE = (
    "cycle demo --base synthetic:1,16 --pool synthetic:2,32 --test synthetic:3,8 --budget 8 "
    "--method learned_loss"
)
INT, TERM = signal.SIGINT, signal.SIGTERM


@pytest.fixture(autouse=True)
def _tidy(world: Path) -> Iterator[None]:
    yield
    for path in world.glob("new*"):
        shutil.rmtree(path)


@contextmanager
def started(
    folder: Path, *arguments: str, imports: bool = False
) -> Iterator["subprocess.Popen[str]"]:
    """A command in a process group of its own, which is gone at the end.

    Args:
        folder: that it runs in.
        arguments: of ``misgiving``.
        imports: announce them; stderr must then be read, or the command comes to a halt.
    """
    python = [sys.executable, *(["-X", "importtime"] if imports else [])]
    process = subprocess.Popen(
        [*python, *COMMAND, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def wait_for(lines: IO[str] | None, moment: str) -> None:
    """Read up to the line that has the moment in it."""
    assert lines is not None
    said = ""
    while moment not in said:
        assert (said := lines.readline()), f"{moment!r} was never said"


def words(lines: IO[str] | None) -> list[str]:
    """What is still said, but for the imports."""
    assert lines is not None
    return [line.strip() for line in lines if not line.startswith("import time:")]


@pytest.mark.parametrize(
    ("arguments", "moment", "number"),
    [
        # while the command itself is put together
        ("infer a.png", "typer.main", INT),
        # while numpy and gRPC are imported
        ("infer a.png --bundle bundle", "numpy.linalg", INT),
        ("serve --bundle bundle --listen 127.0.0.1:0", "grpc._cython", INT),
        # while torch is imported
        (TRAIN, "torch.nn.functional", INT),
        # while it trains; between two stages
        pytest.param(TRAIN, "training: epoch 1/", TERM, marks=pytest.mark.slow),
        pytest.param(
            f"{CYCLE} --epochs 1 --threads 1 --out new",
            "stage 1: epoch 1/1",
            INT,
            marks=pytest.mark.slow,
        ),
        # while the graph is exported, into a folder that must vanish
        pytest.param(
            "export checkpoint --out new --val synthetic:9,256",
            "onnxscript",
            INT,
            marks=pytest.mark.slow,
        ),
        # while a store is opened
        ("annotations export --store store --out new", "sqlalchemy.engine", TERM),
    ],
)
def test_a_signal_ends_a_command(
    arguments: str,
    moment: str,
    number: signal.Signals,
    world: Path,
) -> None:
    with started(world, *arguments.split(), imports=True) as process:
        wait_for(process.stderr, moment)
        process.send_signal(number)
        said = [line for line in words(process.stderr) if ": epoch " not in line]
        assert said == [f"misgiving: stopped by {number.name}; what was finished is kept"]
        assert process.wait(60) == 128 + number
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
    left = {path.name for path in world.glob("new*")}
    assert left <= {"new-logs", *(["new"] if "cycle" in arguments else [])}
    assert not list(world.glob("new/*.part"))


@pytest.mark.slow
def test_the_demo_takes_its_processes_along(world: Path) -> None:
    """The signal comes while the first one is being started."""
    with started(world, "demo", "--out", "new") as process:
        wait_for(process.stdout, "$ misgiving cycle")
        process.send_signal(INT)
        assert words(process.stderr) == ["misgiving: stopped by SIGINT; what was finished is kept"]
        assert process.wait(60) == 130
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)


def test_a_stream_that_waits_for_its_server_can_be_stopped(world: Path, tmp_path: Path) -> None:
    for name, source in (("0.png", "cut.png"), ("1.png", "a.png")):
        (tmp_path / name).write_bytes((world / source).read_bytes())
    gate = Gated()  # which never answers
    with serving(gate) as server:
        with started(tmp_path, "stream", ".", "--server", server.address) as process:
            wait_for(process.stderr, "cut short")
            assert gate.entered.acquire(timeout=60)  # the other has been sent
            process.send_signal(INT)
            assert words(process.stderr) == ["misgiving: left before the last answers had come"]
            assert process.wait(60) == 130
        gate.permits.release(9)


@pytest.mark.parametrize("number", [INT, TERM])
def test_a_collector_finishes_and_ends_with_0(number: signal.Signals, tmp_path: Path) -> None:
    with started(tmp_path, "collect", "--listen", "127.0.0.1:0", "--store", "store") as process:
        wait_for(process.stderr, "collecting on ")
        process.send_signal(number)
        assert process.wait(60) == 0
        assert words(process.stderr) == []


def test_a_server_that_dies_is_told(world: Path, tmp_path: Path) -> None:
    """Killed while a stream waits for it; what was answered until then is in the file."""
    serve = ("serve", "--bundle", "bundle", "--listen", "127.0.0.1:0")
    with started(world, *serve) as server:
        assert server.stderr is not None
        said = ""
        while not said.startswith("serving "):
            said = server.stderr.readline()
        (tmp_path / "cut.png").write_bytes((world / "cut.png").read_bytes())
        (tmp_path / "frames").mkdir()
        for i in range(500):
            os.link(world / "a.png", tmp_path / "frames" / f"{i:04d}.png")
        (tmp_path / "frames" / "0000.png").unlink()
        os.link(world / "cut.png", tmp_path / "frames" / "0000.png")
        address = said.split()[4]
        stream = ("stream", "frames", "--server", address, "--json", "replies.jsonl", "--wait", "0")
        with started(tmp_path, *stream) as process:
            wait_for(process.stderr, "cut short")
            server.kill()
            (line,) = words(process.stderr)
            assert line.startswith(f"misgiving: no answer from {address}")
            assert process.wait(60) == 1
            assert process.stdout is not None
            assert " of 500 frames" in process.stdout.read().splitlines()[-1]


def test_a_pipe_that_closes_says_nothing(world: Path) -> None:
    many = ["a.png"] * 2000
    with started(world, "infer", "--bundle", "bundle", *many) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert words(process.stderr) == []
        assert process.wait(60) == 1
