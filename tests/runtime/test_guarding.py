"""Health and watchdog tell what the engine does: it fails and comes back, or hangs."""

import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray

from misgiving.runtime.engines.base import Prediction
from misgiving.runtime.outbox.spool import Spool
from misgiving.runtime.serving.vitals import FAILURES, HANG_S, Vitals
from misgiving.runtime.verbs import guarding
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1.detector_pb2_grpc import FailureDetectorStub
from shared import tiny
from shared.serving import BLACK, Gated, infer, named, serving, wire_frame

Status = health_pb2.HealthCheckResponse


def test_vitals() -> None:
    vitals = Vitals()
    assert not vitals.hung(1e9)  # an idle engine never hangs
    vitals.began(100.0)
    assert (vitals.hung(100.0 + HANG_S), vitals.hung(100.1 + HANG_S)) == (False, True)
    for count in range(1, FAILURES + 1):
        vitals.ended(False)
        assert vitals.failed == (count == FAILURES)
    assert not vitals.hung(1e9)
    vitals.ended(True)
    assert not vitals.failed


class Moody(Gated):
    """Fails for as long as it is told to."""

    broken = True

    def infer(self, images: NDArray[np.uint8]) -> Prediction:
        self.error = RuntimeError("device lost") if self.broken else None
        return super().infer(images)


@pytest.mark.parametrize("switched", [False, True], ids=["it comes back", "another comes"])
def test_health_follows_the_engine(monkeypatch: pytest.MonkeyPatch, switched: bool) -> None:
    """Back without anybody's frame: clients stay away from a server that says NOT_SERVING."""
    monkeypatch.setattr(guarding, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(guarding, "PROBE_EVERY_S", 1e9 if switched else 0.0)
    engine = Moody(permits=1000)
    with serving(engine) as server:
        watch = health_pb2_grpc.HealthStub(server.channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == Status.SERVING
        guarding_it = server.begin(guarding.guard(server.server, server.pipeline))
        for _ in range(FAILURES):
            with pytest.raises(grpc.RpcError, match="device lost"):
                infer(server, named("lost"))
        assert next(watch).status == Status.NOT_SERVING
        engine.broken = switched
        if switched:
            server.pipeline.switch(tiny.engine())
        assert next(watch).status == Status.SERVING
        assert len(infer(server, named("back")).persons) == 1
        guarding_it.cancel()


HANGS = """
import sys, threading
from pathlib import Path
from misgiving.runtime import Settings, run_server
from misgiving.runtime.engines.onnx import OnnxEngine
from misgiving.runtime.serving import vitals
from misgiving.runtime.verbs import guarding, serve
guarding.LOOK_EVERY_S, serve.GRACE_S = 0.05, 0.5
answer = OnnxEngine.infer
def infer(engine, images):
    if images.mean() > 100:  # of a bright frame
        vitals.HANG_S = float(sys.argv[3])
        print("hangs", file=sys.stderr, flush=True)
        threading.Event().wait()  # as a driver does
    return answer(engine, images)
OnnxEngine.infer = infer
bundle, spool = map(Path, sys.argv[1:3])
tables = {"bundle": {"path": bundle, "threads": 1}, "spool": {"folder": spool}}
run_server(Settings.model_validate({"server": {"listen": "127.0.0.1:0"}, **tables}))
"""


@pytest.mark.parametrize(
    ("hang_s", "said"),
    [(0.0, "engine has not ended a batch for"), (1e9, "engine has not ended its last batch")],
    ids=["while it serves", "in a drain"],
)
def test_a_hung_engine_ends_the_process(tmp_path: Path, hang_s: float, said: str) -> None:
    """What was kept is on disk; the exit code lets systemd start the server anew."""
    spool = tmp_path / "spool"
    command = [sys.executable, "-c", HANGS, str(tiny.BUNDLE), str(spool), str(hang_s)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            _hang(process, in_a_drain=hang_s > 0)
            assert process.wait(60) == 1
            assert said in process.stderr.read()
        finally:
            process.kill()
    opened = Spool(spool)
    assert len(opened.pending()) == 1
    opened.close()


def _hang(process: "subprocess.Popen[str]", in_a_drain: bool) -> None:
    """One frame is answered and kept; the engine hangs on the next, and health says so."""
    address = process.stderr.readline().split(" on ")[1].split()[0]
    said = [process.stderr.readline() for _ in range(2)]
    assert said[1].startswith("weights of ")
    with grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(watch).status == Status.SERVING
        stub = FailureDetectorStub(channel)
        stub.Infer(wire.InferRequest(frame=wire_frame(BLACK)))
        hanging = stub.Infer.future(wire.InferRequest(frame=wire_frame(BLACK + 255)))
        assert process.stderr.readline() == "hangs\n"
        if in_a_drain:
            process.terminate()
        assert next(watch).status == Status.NOT_SERVING
        assert isinstance(hanging.exception(60), grpc.RpcError)


LOADS = """
import sys
from misgiving.runtime import Settings, run_server
from misgiving.runtime.verbs import serve
load = serve.load_at_once
def slowly(options):
    print("loading", file=sys.stderr, flush=True)
    sys.stdin.readline()
    return load(options)
serve.load_at_once = slowly
tables = {"server": {"listen": "127.0.0.1:0"}, "bundle": {"path": sys.argv[1], "threads": 1}}
run_server(Settings.model_validate(tables))
"""


def test_a_server_that_is_stopped_while_it_loads_never_says_that_it_serves() -> None:
    command = [sys.executable, "-c", LOADS, str(tiny.BUNDLE)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stderr.readline() == "loading\n"
            process.terminate()
            _, said = process.communicate("go on\n", timeout=60)
            assert (process.returncode, said) == (0, "")
        finally:
            process.kill()
