"""Real commands that meet a fault and go on: what each row says is counted or asked of them."""

import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from signal import SIGCONT, SIGSTOP, SIGTERM
from subprocess import PIPE, STDOUT, Popen
from threading import Thread

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from misgiving.runtime import Client
from misgiving.runtime.errors import MisgivingError

MJPEG = Path(__file__).parents[1] / "tests" / "runtime" / "mjpeg_server.py"
DESCRIPTORS = 64
FRAMES = 20

ENGINE = """
import os, time
from misgiving.runtime.engines.onnx import OnnxEngine

real, path = OnnxEngine.infer, os.environ["FAULT"]


def infer(self, images):
    with open(path) as file:
        said = file.read()
    if said == "throw":
        raise RuntimeError("out of memory")
    while said == "hang":
        time.sleep(1)
    return real(self, images)


OnnxEngine.infer = infer
"""
"""Python runs a ``sitecustomize`` before anything else."""


class Command:
    """``misgiving`` with a fault that a file turns on, and what it says on the way."""

    def __init__(
        self, folder: Path, hook: str, fault: object, *arguments: object, **variables: str
    ) -> None:
        self.fault = folder / "fault"
        self.put(fault)
        (folder / "hook").mkdir(exist_ok=True)
        (folder / "hook" / "sitecustomize.py").write_text(hook)
        environment = os.environ | variables
        environment |= {"PYTHONPATH": str(folder / "hook"), "FAULT": str(self.fault)}
        command = [sys.executable, "-m", "misgiving", *map(str, arguments)]
        self.process = Popen(command, env=environment, stdout=PIPE, stderr=STDOUT, text=True)
        self.said: list[str] = []
        self._reader = Thread(target=self._read)
        self._reader.start()

    def put(self, fault: object) -> None:
        part = self.fault.with_suffix(".part")
        part.write_text(str(fault))
        part.replace(self.fault)

    def says(self, words: str, longest_s: float = 60) -> str:
        """The first line that has these words, waited for."""
        return waited(partial(self._line, words), longest_s) or f"never said {words!r}"

    def address(self, words: str = "serving ") -> str:
        return self.says(words).split(" on ")[1].split()[0]

    def end(self) -> int:
        """Exit code after SIGTERM, or of before."""
        self.process.send_signal(SIGTERM)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(60)
        self._reader.join()
        return code

    @property
    def tracebacks(self) -> int:
        return "".join(self.said).count("Traceback")

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _line(self, words: str) -> str | None:
        return next((line for line in list(self.said) if words in line), None)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            self.said.extend(iter(lines.readline, ""))


def waited(ask: Callable[[], str | None], longest_s: float = 60) -> str | None:
    """What is said, as soon as something is."""
    deadline = time.monotonic() + longest_s
    while not (said := ask()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return said


@contextmanager
def serving(bundle: Path, hook: str = "", fault: object = 0) -> Iterator[Command]:
    with (
        tempfile.TemporaryDirectory() as folder,
        started(Path(folder), bundle, hook, fault, "--audit-rate", 1) as command,
    ):
        yield command


@contextmanager
def started(
    folder: Path, bundle: Path, hook: str, fault: object, *more: object, **variables: str
) -> Iterator[Command]:
    """``misgiving serve`` with a spool in a folder, which may be another server's after it."""
    listen = ("serve", "--listen", "127.0.0.1:0", "--bundle", bundle, "--threads", 1)
    spool = ("--spool", folder / "spool", *more)
    command = Command(folder, hook, fault, *listen, *spool, **variables)
    try:
        yield command
    finally:
        command.process.kill()
        command.wait()


def answered(client: Client, count: int = FRAMES) -> Counter[str]:
    """What became of frames of noise."""
    seen = Counter[str]()
    rng = np.random.default_rng()
    for _ in range(count):
        try:
            client.infer(rng.integers(0, 256, (48, 64, 3), np.uint8))
            seen["answered"] += 1
        except MisgivingError:
            seen["refused"] += 1
    return seen


def health(address: str) -> str:
    with grpc.insecure_channel(address) as channel:
        reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))


def engines(bundle: Path) -> Iterator[str]:
    """An engine that throws, and one that hangs."""
    yield "| engine | before | meanwhile | health | after | exit code | tracebacks |"
    yield "|---|---:|---:|---|---:|---:|---:|"
    with serving(bundle, ENGINE, "") as command, Client(command.address(), wait_s=0) as client:
        before = answered(client)["answered"]
        command.put("throw")
        refused = answered(client)["refused"]
        command.says("NOT_SERVING until")
        meanwhile = health(command.address())
        command.put("")
        command.says("engine answers again")
        said = f"{meanwhile}, then {health(command.address())}"
        after, code = answered(client)["answered"], command.end()
        yield (
            f"| throws | {before} answered | {refused} refused | {said} | {after} answered "
            f"| {code} | {command.tracebacks} |"
        )
    with serving(bundle, ENGINE, "") as command, Client(command.address(), wait_s=0) as client:
        before = answered(client)["answered"]
        command.put("hang")
        since = time.monotonic()
        refused = answered(client, 1)["refused"]
        code = command.wait()
        took = time.monotonic() - since
        yield (
            f"| hangs | {before} answered | {refused} refused | it ends after {took:.0f} s "
            f"| | {code} | {command.tracebacks} |"
        )


def descriptors(bundle: Path) -> Iterator[str]:
    """Connections until no descriptor is left."""
    yield (
        "| connections tried | descriptors, of these held | of those in, answered "
        "| CPU seconds over 3 s | a new one | once they hang up | exit code | tracebacks |"
    )
    yield "|---:|---:|---:|---:|---|---|---:|---:|"
    with serving(bundle) as command, ExitStack() as held:
        address = command.address()
        host, port = address.rsplit(":", 1)
        resource.prlimit(command.process.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
        with Client(address, wait_s=0) as client:
            answered(client, 1)
            for _ in range(2 * DESCRIPTORS):
                held.enter_context(socket.create_connection((host, int(port)), 5))
            handles = Path(f"/proc/{command.process.pid}/fd")
            waited(lambda: "full" if len(list(handles.iterdir())) == DESCRIPTORS else None)
            open_now, began = len(list(handles.iterdir())), command.cpu_s()
            time.sleep(3)
            spent = command.cpu_s() - began
            count = answered(client)["answered"]
        meanwhile = "waits" if _another(address, 2) else "is answered"
        held.close()
        after = "waits" if _another(address, 20) else "is answered"
        yield (
            f"| {2 * DESCRIPTORS} | {open_now} of {DESCRIPTORS} | {count} of {FRAMES} "
            f"| {spent:.2f} | {meanwhile} | {after} | {command.end()} | {command.tracebacks} |"
        )


def _another(address: str, longest_s: float) -> int:
    """0 where a client of its own, in its own process, is answered."""
    code = (
        "import sys, grpc\n"
        "grpc.channel_ready_future(grpc.insecure_channel(sys.argv[1])).result(float(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, address, str(longest_s)]
    return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode


@contextmanager
def watching(bundle: Path, *more: object) -> Iterator[tuple[Command, "Popen[str]", str]]:
    """``misgiving watch`` for two seconds, the camera's process, and where the metrics are."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Popen([sys.executable, MJPEG, "0", "user", "secret"], stdout=PIPE, text=True) as source,
    ):
        assert source.stdout is not None
        url = f"http://user:secret@127.0.0.1:{source.stdout.readline().strip()}/"
        file = Path(folder, "misgiving.toml")
        file.write_text(f"[camera.front]\nsource = {json.dumps(url)}\nfrozen_after = 1\n")
        options = ("--bundle", bundle, "--threads", 1, "--metrics", "127.0.0.1:0", *more)
        command = Command(Path(folder), "", 0, "watch", "--config", file, *options)
        try:
            address = command.address("metrics on").removeprefix("http://")
            time.sleep(2)
            yield command, source, address
        finally:
            command.process.kill()
            command.wait()
            source.kill()


def camera(bundle: Path) -> Iterator[str]:
    """A camera whose process is stopped, and goes on."""
    yield "| the camera's process gets | the log | misgiving_camera_frozen |"
    yield "|---|---|---|"
    with watching(bundle) as (command, source, address):
        yield f"| nothing, for 2 s | | {_frozen(address)} |"
        for signal, words in ((SIGSTOP, "is frozen"), (SIGCONT, "a frame came after")):
            source.send_signal(signal)
            said = command.says(words).split(": ", 1)[1].strip()
            yield f"| {signal.name} | {said} | {_frozen(address)} |"
        yield f"\nExit code {command.end()}, {command.tracebacks} tracebacks; at the end it says:"
        yield f"`{command.said[-1].strip()}`"


def event(bundle: Path, folder: Path) -> str:
    """What ``watch`` says of one event that is drawn and cut."""
    places = ("--draw", str(folder / "drawn"), "--clips", str(folder / "clips"))
    with watching(bundle, *places, "--before", 1, "--after", 1) as (command, _, _):
        code = command.end()
    lines = [line for line in command.said if " WARNING " in line or " ERROR " in line]
    kept = [len(list(Path(place).glob("[!.]*"))) for place in (places[1], places[3])]
    frames = command.said[-1].split(", ")[1]
    said = f"{frames}, {kept[0]} pictures, {kept[1]} clips, exit code {code}"
    return f"{said}, {len(lines)} lines in the log, {command.tracebacks} tracebacks"


def _frozen(address: str) -> str | None:
    """What the metric says, as soon as there is a camera."""

    def ask() -> str | None:
        with urllib.request.urlopen(f"http://{address}", timeout=10) as page:
            lines = page.read().decode().splitlines()
        said = (x.split()[-1] for x in lines if x.startswith("misgiving_camera_frozen{"))
        return next(said, None)

    return waited(ask)
