"""``misgiving build`` and ``serve --device tensorrt`` as real processes.

They believe in a GPU (pretended_gpu); parsing, building, cache and switch are real.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import misgiving.runtime
from misgiving.runtime.bundles.bundle import Bundle, sha256_file
from misgiving.runtime.bundles.locate import DEFAULT_BUNDLE
from misgiving.runtime.bundles.manifest import MANIFEST, write_manifest
from misgiving.runtime.client import Client
from misgiving.runtime.engines import building
from misgiving.runtime.engines.cache import Plan, Profile
from misgiving.runtime.engines.cuda import Gpu
from misgiving.runtime.engines.onnx import OnnxEngine
from misgiving.runtime.engines.tensorrt import StalePlan
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1.detector_pb2_grpc import FailureDetectorStub
from shared import tiny
from shared.collecting import eventually
from shared.serving import BLACK, wire_frame
from shared.single import single_bundle

pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed; it builds here")

ONNX = "onnxruntime CPUExecutionProvider fp32"
STAND_IN = "tensorrt stand-in fp32"
PRETENDED = Path(__file__).parent / "pretended_gpu"
NAMESPACES = os.pathsep.join(str(Path(path).parent) for path in misgiving.__path__)


def start(cache: Path, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(PRETENDED), NAMESPACES]),
        "MISGIVING_CACHE": str(cache),
        **variables,
    }
    command = [sys.executable, "-m", "misgiving", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def run(cache: Path, *arguments: str, **variables: str) -> tuple[int, str, str]:
    with start(cache, *arguments, **variables) as process:
        out, said = process.communicate(timeout=240)
        return process.returncode, out, said.splitlines()[-1] if said else ""


def plans(cache: Path) -> dict[str, float]:
    return {path.name: path.stat().st_mtime for path in cache.glob("*.plan")}


def test_it_builds_once(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    code, out, progress = run(cache, "build")
    assert code == 0
    assert "fp32 for batches of 1 to 8 on Pretended (SM86) with tensorrt_rtx" in out
    assert "% " in progress
    built = plans(cache)
    assert len(built) == 1
    code, out, said = run(cache, "build")
    assert (code, said, plans(cache)) == (0, "", built)
    assert "was built before" in out


def test_a_graph_of_one_crop_at_a_time(tmp_path: Path) -> None:
    folder = single_bundle(tmp_path / "single")
    code, out, said = run(tmp_path / "cache", "build", "--bundle", str(folder))
    assert code == 0, said
    assert "fp32 for batches of 1 to 1 on" in out


def test_another_gpu_builds_its_own(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert run(cache, "build")[0] == 0
    code, out, _ = run(cache, "build", PRETENDED_SM="SM120")
    assert code == 0
    assert "on Pretended (SM120) with tensorrt_rtx 1.7.1.116: built," in out
    assert len(plans(cache)) == 2


def test_an_altered_plan_is_built_again(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert run(cache, "build")[0] == 0
    (path,) = cache.glob("*.plan")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    code, out, _ = run(cache, "build")
    assert code == 0
    assert ": built," in out


def test_two_at_once_build_once(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with start(cache, "build") as first, start(cache, "build") as second:
        told = [process.communicate(timeout=240) for process in (first, second)]
        assert (first.returncode, second.returncode) == (0, 0)
    ends = sorted("was built before" in out for out, _ in told)
    assert ends == [False, True]
    assert len(plans(cache)) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_stopped_in_the_middle(number: signal.Signals, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with start(cache, "build") as process:
        assert process.stderr is not None
        assert "Building engine" in process.stderr.readline()
        process.send_signal(number)
        said = process.communicate(timeout=240)[1]
        ends = {-signal.SIGKILL} if number == signal.SIGKILL else {128 + number}
        assert process.returncode in ends, said
    assert plans(cache) == {}
    assert run(cache, "build")[0] == 0


def foreign(folder: Path) -> Path:
    """A bundle whose manifest fits, around a graph from elsewhere."""
    onnx = pytest.importorskip("onnx")
    shutil.copytree(tiny.BUNDLE, folder)
    model = onnx.load(folder / "model.onnx")
    del model.graph.output[-1]
    onnx.save(model, folder / "model.onnx")
    manifest = Bundle.load(tiny.BUNDLE).manifest
    files = manifest.files | {"model.onnx": sha256_file(folder / "model.onnx")}
    write_manifest(folder, manifest.model_copy(update={"files": files}))
    assert (folder / MANIFEST).is_file()
    return folder


def test_a_graph_from_elsewhere(tmp_path: Path) -> None:
    cache, bundle = tmp_path / "cache", foreign(tmp_path / "foreign")
    code, out, said = run(cache, "build", "--bundle", str(bundle))
    assert (code, out) == (2, "")
    assert said.startswith(f"misgiving: {bundle}/model.onnx lacks the output embedding; expected")
    assert plans(cache) == {}


def test_a_gpu_that_tensorrt_rtx_does_not_know(tmp_path: Path) -> None:
    code, _, said = run(tmp_path / "cache", "build", PRETENDED_SM="SM90")
    assert code == 2
    assert "this GPU is Pretended (SM90). Install tensorrt" in said


@pytest.mark.parametrize("verb", ["build", "serve --device tensorrt --listen 127.0.0.1:0"])
def test_a_cache_that_others_may_touch(verb: str, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o755)
    code, _, said = run(tmp_path / "cache", *verb.split())
    assert code == 2
    assert f"cache {tmp_path / 'cache'} has mode 755" in said


def test_an_unwritable_cache(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, _, said = run(tmp_path / "file" / "cache", "build")
    assert code == 2
    assert "cannot be used: Not a directory; expected a folder of yours" in said


def test_a_full_disk(tmp_path: Path) -> None:
    """4 MB are to be written."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000,) * 2); "
        "from misgiving.runtime.verbs.command import main; main()"
    )
    path = os.pathsep.join([str(PRETENDED), NAMESPACES])
    environment = os.environ | {"PYTHONPATH": path, "MISGIVING_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", code, "build"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 2
    assert (
        "cannot be used: File too large; expected a folder of yours on a disk with room"
        in (done.stderr.splitlines()[-1])
    )
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_plan_that_tensorrt_refuses_is_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a change that the cache's key does not know of."""
    monkeypatch.setenv("MISGIVING_CACHE", str(tmp_path / "cache"))
    gpu = SimpleNamespace(gpu=Gpu("Pretended", "SM86", "CUDA 13.0"))
    monkeypatch.setattr(building, "open_driver", lambda: gpu)
    made = iter([b"old", b"new"])
    monkeypatch.setattr(building, "build_plan", lambda *_: next(made))

    def load(plan: Plan, *_: object) -> OnnxEngine:
        if plan.data == b"old":
            raise StalePlan("tensorrt refuses the plan")
        return tiny.engine()

    monkeypatch.setattr(building, "TensorrtEngine", load)
    workshop = building.Workshop(Bundle.load(tiny.BUNDLE))
    assert workshop.find() is None
    workshop.build(Profile(1, 2, 4), print)
    assert workshop.find() is None
    assert "tensorrt refuses the plan; it is built again" in caplog.text
    assert workshop.ready().provider == tiny.engine().provider
    assert [path.read_bytes() for path in (tmp_path / "cache").glob("*.plan")] == [b"new"]


@contextmanager
def served(
    cache: Path, *more: str, **variables: str
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """``misgiving serve --device tensorrt`` and its address."""
    arguments = ["serve", "--device", "tensorrt", "--listen", "127.0.0.1:0"]
    with start(cache, *arguments, *more, **variables) as process:
        try:
            line = said(process)
            assert line.startswith("serving "), line
            assert said(process).startswith("flags from ")
            assert said(process).startswith("weights of ")
            yield process, line.partition(" on ")[2].split()[0]
        finally:
            process.kill()


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    return process.stderr.readline().rstrip()


def engine_of(address: str) -> str:
    return answers(address)[1]


def answered(address: str) -> int:
    with grpc.insecure_channel(address) as channel:
        request = wire.InferRequest(frame=wire_frame(BLACK, frame_id="0"))
        return len(FailureDetectorStub(channel).Infer(request).result.persons)


def watched(address: str, service: str) -> None:
    """Wait, as a client does, until an engine answers."""
    with grpc.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        for update in health_pb2_grpc.HealthStub(channel).Watch(request, timeout=240):
            if update.status == health_pb2.HealthCheckResponse.SERVING:
                return


def test_it_serves_while_it_builds_and_switches(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with served(cache) as (process, address):
        building = f"building TensorRT's engine; {ONNX} answers meanwhile"
        assert said(process) == building
        watched(address, "engine.tensorrt")
        assert engine_of(address) == STAND_IN
        assert answered(address) == 1
        assert said(process) == f"{STAND_IN} answers now"
        process.terminate()
        assert process.wait(60) == 0
    with served(cache) as (process, address):  # the plan is there now
        assert engine_of(address) == STAND_IN


def test_it_goes_on_where_the_build_fails(tmp_path: Path) -> None:
    with served(tmp_path / "cache", PRETENDED_SM="SM90") as (process, address):
        assert "answers meanwhile" in said(process)
        line = said(process)
        assert "misgiving build ended with 2: misgiving: tensorrt_rtx 1.7.1.116 builds for" in line
        assert line.endswith(f"{ONNX} goes on")
        assert engine_of(address) == ONNX
        assert answered(address) == 1


def version(folder: Path, name: str) -> Path:
    """The bundle in the package in another version, whose graph takes a plan of its own."""
    onnx = pytest.importorskip("onnx")
    shutil.copytree(DEFAULT_BUNDLE, folder)
    model = onnx.load(folder / "model.onnx")
    model.doc_string = name
    onnx.save(model, folder / "model.onnx")
    bundle = Bundle.load(DEFAULT_BUNDLE)
    files = bundle.manifest.files | {"model.onnx": sha256_file(folder / "model.onnx")}
    write_manifest(folder, bundle.manifest.model_copy(update={"files": files, "version": name}))
    return folder


@contextmanager
def following(tmp_path: Path, **variables: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """``misgiving serve --device tensorrt`` of the bundle behind a link, and its address."""
    (tmp_path / "current").symlink_to(DEFAULT_BUNDLE)
    file = tmp_path / "misgiving.toml"
    file.write_text('[bundle]\npath = "current"\n')
    with served(tmp_path / "cache", "--config", str(file), **variables) as server:
        yield server


def turned(process: "subprocess.Popen[str]", link: Path, target: Path) -> str:
    """What the server says next once another bundle is behind the link, and it has been told."""
    link.unlink()
    link.symlink_to(target)
    process.send_signal(signal.SIGHUP)
    assert said(process).endswith(" is being loaded")
    return said(process)


def answers(address: str) -> tuple[str, str]:
    """Which version, on what."""
    with grpc.insecure_channel(address) as channel:
        model = FailureDetectorStub(channel).GetModel(wire.GetModelRequest()).model
        return model.version, model.engine


def test_a_plan_that_gets_ready_late_is_not_the_new_bundle_s(tmp_path: Path) -> None:
    """The first one's build is held up until the second bundle, whose plan is there, answers."""
    second = version(tmp_path / "second", "of a test")
    assert run(tmp_path / "cache", "build", "--bundle", str(second))[0] == 0
    with following(tmp_path) as (process, address):
        assert "answers meanwhile" in said(process)
        os.kill(builder := builder_of(process.pid), signal.SIGSTOP)
        assert " on probation, instead of " in turned(process, tmp_path / "current", second)
        os.kill(builder, signal.SIGCONT)
        assert said(process) == f"{STAND_IN} is ready; its bundle answers no more"
        assert len(plans(tmp_path / "cache")) == 2
        assert answers(address) == ("of a test", STAND_IN)
        assert answered(address) == 1


def test_an_altered_plan_of_the_new_bundle_is_built_again(tmp_path: Path) -> None:
    second, cache = version(tmp_path / "second", "of a test"), tmp_path / "cache"
    assert run(cache, "build", "--bundle", str(second))[0] == 0
    (path,) = cache.glob("*.plan")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert run(cache, "build")[0] == 0
    with following(tmp_path) as (process, address):
        line = turned(process, tmp_path / "current", second)
        assert line.endswith("is not the plan that was built here; it is built again")
        assert " on probation, instead of " in said(process)
        assert answers(address) == ("of a test", STAND_IN)


def test_a_new_bundle_whose_build_fails_is_refused(tmp_path: Path) -> None:
    second = version(tmp_path / "second", "of a test")
    with following(tmp_path, PRETENDED_SM="SM90") as (process, address):
        assert "answers meanwhile" in said(process)
        assert said(process).endswith(f"{ONNX} goes on")
        before = answers(address)
        line = turned(process, tmp_path / "current", second)
        assert "misgiving build ended with 2: misgiving: tensorrt_rtx 1.7.1.116 builds for" in line
        assert line.endswith(") goes on")
        assert answers(address) == before
        with Client(address) as client:
            assert client.status().last_exchange.startswith("refused: misgiving build ended")


def test_it_ends_while_it_builds(tmp_path: Path) -> None:
    """The build, which is held up here, does not outlive the server."""
    cache = tmp_path / "cache"
    with served(cache) as (process, _):
        child = builder_of(process.pid)
        os.kill(child, signal.SIGSTOP)
        process.terminate()
        assert process.wait(60) == 0
    assert not Path(f"/proc/{child}").exists()


def builder_of(pid: int) -> int:
    """Its child process, as soon as that is what it shall be."""
    children = Path(f"/proc/{pid}/task/{pid}/children")

    def builders() -> list[int]:
        commands = {child: Path(f"/proc/{child}/cmdline") for child in children.read_text().split()}
        return [int(child) for child, path in commands.items() if b"build" in path.read_bytes()]

    eventually(lambda: bool(builders()))
    return builders()[0]
