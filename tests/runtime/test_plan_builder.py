"""TensorRT found, asked and watched; with a real parse and build where it is installed."""

import os
import signal
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from misgiving.runtime.bundles.locate import DEFAULT_BUNDLE
from misgiving.runtime.engines.base import REQUIRED
from misgiving.runtime.engines.builder import (
    Library,
    Network,
    Progress,
    build_plan,
    find_library,
    sealed,
    unsealed,
)
from misgiving.runtime.engines.cache import Profile
from misgiving.runtime.engines.cuda import Driver, Gpu, driver_version
from misgiving.runtime.errors import EngineError
from shared import tiny

MODEL = DEFAULT_BUNDLE / "model.onnx"
SM86 = Gpu("Pretended", "SM86", "CUDA 13.0")


def module(name: str, version: str) -> ModuleType:
    made = ModuleType(name)
    made.__version__ = version  # type: ignore[attr-defined]
    return made


FOUND = [
    # (modules there are with their versions, what is taken)
    ({"tensorrt": "8.6.1"}, "tensorrt 8.6.1"),
    ({"tensorrt": "10.3.0", "tensorrt_rtx": "1.7.1.116"}, "tensorrt 10.3.0"),
    ({"tensorrt": "11.4.1"}, "tensorrt 11.4.1"),
    ({"tensorrt_rtx": "1.7.1.116"}, "tensorrt_rtx 1.7.1.116"),
]


@pytest.mark.parametrize(("there", "taken"), FOUND)
def test_which_library(there: dict[str, str], taken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt", "tensorrt_rtx"):
        made = module(name, there[name]) if name in there else None
        monkeypatch.setitem(sys.modules, name, made)
    assert str(find_library()) == taken


def test_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EngineError, match="is not installed; .* pip install tensorrt-rtx-cu13"):
        find_library()


def test_a_library_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", module("tensorrt", "8.5.2.2"))
    with pytest.raises(EngineError, match=r"tensorrt is 8\.5\.2\.2; expected 8\.6 or newer"):
        find_library()


@pytest.mark.parametrize("code", ["import nvidia_nowhere", "raise ImportError('libnvinfer.so')"])
def test_a_library_that_does_not_load(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorrt.py").write_text(code)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EngineError, match="tensorrt does not load: .*(nowhere|libnvinfer)"):
        find_library()


def test_the_share_of_nested_phases() -> None:
    told: list[tuple[float, str]] = []
    progress = Progress(lambda share, what: told.append((share, what)))
    progress.start("all", None, 4)
    progress.step("all", 0)
    progress.start("graph", "all", 10)
    progress.step("graph", 4)
    progress.start("layer", "graph", 2)
    progress.step("layer", 0)
    progress.finish("layer")
    progress.finish("graph")
    progress.step("all", 1)
    progress.step("unknown", 3)
    expected = [0, 1 / 4, 1 / 4, 1.5 / 4, 1.5 / 4, 1.55 / 4, 2 / 4]
    assert [share for share, _ in told] == pytest.approx(expected)
    assert told[-1][1] == "all"


def test_the_share_never_falls() -> None:
    """TensorRT ends a phase before its last step when it is done earlier."""
    told: list[float] = []
    progress = Progress(lambda share, what: told.append(share))
    progress.start("all", None, 2)
    progress.start("graph", "all", 10)
    progress.step("graph", 8)
    progress.finish("graph")
    progress.start("costs", "all", 3)
    assert told == pytest.approx([0, 0, 0.45, 0.45])


def test_a_timing_cache_that_was_altered() -> None:
    assert unsealed(sealed(b"timings")) == b"timings"
    for spoiled in (b"", b"short", sealed(b"timings")[:-1], sealed(b"timings") + b"x"):
        with pytest.raises(ValueError, match="altered or cut short"):
            unsealed(spoiled)


def test_the_driver_s_version(tmp_path: Path) -> None:
    file = tmp_path / "version"
    assert driver_version(12060, file) == "CUDA 12.6"
    file.write_text("NVRM version: NVIDIA UNIX  Kernel Module  540.4.0  x\nGCC version: 11\n")
    known = "CUDA 13.0, NVRM version: NVIDIA UNIX Kernel Module 540.4.0 x"
    assert driver_version(13000, file) == known
    file.write_text("")
    assert driver_version(13000, file) == "CUDA 13.0"


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", refuse)
    with pytest.raises(
        EngineError, match=r"libcuda\.so\.1 was not found; expected NVIDIA's driver"
    ):
        Driver()


@pytest.fixture
def library() -> Library:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed; it builds here")
    return find_library()


def network(model: Path = MODEL, size: int = 144) -> Network:
    return Network(model.name, model.read_bytes(), "fp32", size, size, Profile())


def ignore(share: float, what: str) -> None:
    pass


@pytest.mark.parametrize("architecture", ["SM86", "SM120"])
def test_the_shipped_bundle(architecture: str, library: Library, tmp_path: Path) -> None:
    told: list[float] = []
    gpu = Gpu("Pretended", architecture, "CUDA 13.0")
    plan = build_plan(
        library, network(), gpu, tmp_path / "timings", lambda share, what: told.append(share)
    )
    assert len(plan) > 1_000_000  # the weights alone are 850 kB
    assert told == sorted(told)
    assert told[-1] > 0.8


def test_the_tiny_bundle(library: Library, tmp_path: Path) -> None:
    shape = (tiny.HEIGHT, tiny.WIDTH)
    small = Network(
        "model.onnx", (tiny.BUNDLE / "model.onnx").read_bytes(), "fp32", *shape, Profile(2, 2, 2)
    )
    assert build_plan(library, small, SM86, tmp_path / "timings", ignore)


def test_a_gpu_that_the_library_does_not_know(library: Library, tmp_path: Path) -> None:
    gpu = Gpu("H100", "SM90", "CUDA 13.0")
    with pytest.raises(EngineError, match=r"builds for SM75, .*; this GPU is H100 \(SM90\)"):
        build_plan(library, network(), gpu, tmp_path / "timings", ignore)


BROKEN = [
    (b"\0junk" * 100, "lacks the outputs keypoints, predicted_loss"),
    (MODEL.read_bytes()[:-1000], r"cannot read model\.onnx: .*; expected a graph written by"),
    (b"", "lacks the outputs"),
]


@pytest.mark.parametrize(("data", "said"), BROKEN)
def test_a_file_that_is_no_graph(data: bytes, said: str, library: Library, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(EngineError, match=said):
        build_plan(library, network(tmp_path / "model.onnx"), SM86, tmp_path / "t", ignore)


def test_another_input_size_than_the_manifest_s(library: Library, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"takes .*144, 144, 3.*; expected .*256, 256, 3"):
        build_plan(library, network(size=256), SM86, tmp_path / "timings", ignore)


@pytest.mark.parametrize("lacking", [["signals"], ["keypoints", "embedding"]])
def test_a_graph_from_elsewhere(lacking: list[str], library: Library, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(tiny.BUNDLE / "model.onnx")
    for output in list(model.graph.output):
        if output.name in lacking:
            model.graph.output.remove(output)
    onnx.save(model, tmp_path / "model.onnx")
    shape = (tiny.HEIGHT, tiny.WIDTH)
    foreign = Network(
        "model.onnx", (tmp_path / "model.onnx").read_bytes(), "fp32", *shape, Profile()
    )
    with pytest.raises(EngineError, match=f"lacks the outputs {', '.join(lacking)}; expected"):
        build_plan(library, foreign, SM86, tmp_path / "timings", ignore)


def test_a_signal_ends_a_build(library: Library, tmp_path: Path) -> None:
    """It comes while TensorRT's C++ runs, which bears no exception of ours."""
    told: list[float] = []
    handled = threading.Event()

    def handle(number: int, frame: object) -> None:
        handled.set()
        raise KeyboardInterrupt

    def interrupt(share: float, what: str) -> None:
        told.append(share)
        if share > 0.4 and not handled.is_set():
            os.kill(os.getpid(), signal.SIGINT)  # not this thread's alone: the main one is woken
            assert handled.wait(60)

    before = signal.signal(signal.SIGINT, handle)
    try:
        with pytest.raises(KeyboardInterrupt):
            build_plan(library, network(), SM86, tmp_path / "timings", interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert max(told) < 0.8  # a whole build comes to 0.83


class Recorded:
    """Stands in for anything of TensorRT's that is only told things; keeps what it was told."""

    def __init__(self, **answers: Any) -> None:
        self.told: list[tuple[str, tuple[Any, ...]]] = []
        self.answers = answers

    def __getattr__(self, name: str) -> Any:
        def tell(*arguments: Any, **named: Any) -> Any:
            self.told.append((name, (*arguments, *named.values())))
            return self.answers.get(name)

        return tell

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [arguments for called, arguments in self.told if called == name]


def tensor(name: str, *shape: int) -> SimpleNamespace:
    return SimpleNamespace(name=name, shape=shape)


def recorded(version: str, config: Recorded) -> tuple[Library, Recorded]:
    """TensorRT as far as a build goes, which gives ``config``; and its builder."""
    graph = SimpleNamespace(num_inputs=1, num_outputs=4)
    graph.get_input = lambda i: tensor("image", -1, 144, 144, 3)
    graph.get_output = lambda i: tensor(REQUIRED[i])
    builder = Recorded(
        create_network=graph,
        create_builder_config=config,
        create_optimization_profile=Recorded(),
        build_serialized_network=b"plan",
    )
    flags = {"EXPLICIT_BATCH": 0} | (
        {"STRONGLY_TYPED": 1} if int(version.split(".")[0]) > 9 else {}
    )
    precisions = {} if version.startswith("11") else {"FP16": "FP16", "INT8": "INT8"}
    severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1)
    module = SimpleNamespace(
        ILogger=type("ILogger", (), {"Severity": severity}),
        Builder=lambda logger: builder,
        OnnxParser=lambda graph, logger: Recorded(parse=True),
        NetworkDefinitionCreationFlag=SimpleNamespace(**flags),
        BuilderFlag=SimpleNamespace(TF32="TF32", **precisions),
    )
    return Library(module, "tensorrt", version), builder


VERSIONS = [
    # (version, precision, flags of the network, precisions that are allowed beside the file's)
    ("8.6.1", "fp32", 0b01, []),
    ("8.6.1", "fp16", 0b01, [("FP16",)]),
    ("8.6.1", "int8-trt", 0b01, [("INT8",)]),
    ("10.3.0", "fp32", 0b10, []),
    ("10.3.0", "fp16", 0b10, []),
    ("11.4.1", "int8-trt", 0b10, []),
]


@pytest.mark.parametrize(("version", "precision", "flags", "allowed"), VERSIONS)
def test_what_each_tensorrt_is_asked(
    version: str, precision: str, flags: int, allowed: list[tuple[str]], tmp_path: Path
) -> None:
    """With a double that records: none of these runs here."""
    config = Recorded(get_timing_cache=Recorded(serialize=b"measured"))
    library, builder = recorded(version, config)
    wanted = Network(MODEL.name, MODEL.read_bytes(), precision, 144, 144, Profile(1, 2, 4))
    for before in (b"", b"measured"):
        assert build_plan(library, wanted, SM86, tmp_path / "timings", ignore) == b"plan"
        assert config.of("create_timing_cache")[-1] == (before,)
    assert unsealed((tmp_path / "timings").read_bytes()) == b"measured"
    assert builder.of("create_network")[0] == (flags,)
    assert config.of("set_flag")[: len(allowed)] == allowed
    assert len(config.of("set_flag")) == 2 * len(allowed)
    assert config.of("clear_flag")[0] == ("TF32",)
    profile = builder.answers["create_optimization_profile"]
    assert profile.of("set_shape")[0] == ("image", *((n, 144, 144, 3) for n in (1, 2, 4)))


def test_timings_that_cannot_be_used_are_measured_again(tmp_path: Path) -> None:
    config = Recorded(get_timing_cache=Recorded(serialize=b"measured"))
    library, _ = recorded("10.3.0", config)
    (tmp_path / "timings").write_bytes(b"junk" * 20)
    build_plan(library, network(), SM86, tmp_path / "timings", ignore)
    assert config.of("create_timing_cache") == [(b"",)]
    build_plan(library, network(), SM86, tmp_path / "no folder" / "timings", ignore)


def test_tensorrt_gives_no_engine(tmp_path: Path) -> None:
    library, builder = recorded("10.3.0", Recorded())
    builder.answers["build_serialized_network"] = None
    with pytest.raises(EngineError, match=r"builds no engine of model\.onnx: it does not say why"):
        build_plan(library, network(), SM86, tmp_path / "timings", ignore)
