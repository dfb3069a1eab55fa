"""TensorRT found, asked and watched; with a real parse and build where it is installed."""

import signal
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

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
from misgiving.runtime.loading import DEFAULT_BUNDLE
from runtime import tiny

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
    with pytest.raises(EngineError, match=r"libcuda\.so\.1 is not here; expected NVIDIA's driver"):
        Driver()


@pytest.fixture
def library() -> Library:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed; it builds here")
    return find_library()


def network(model: Path = MODEL, size: int = 128) -> Network:
    return Network(model, "fp32", size, size, Profile())


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
    assert told[-1] > 0.6


def test_the_tiny_bundle(library: Library, tmp_path: Path) -> None:
    shape = (tiny.HEIGHT, tiny.WIDTH)
    small = Network(tiny.BUNDLE / "model.onnx", "fp32", *shape, Profile(2, 2, 2))
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
    with pytest.raises(EngineError, match=r"takes .*128, 128, 3.*; expected .*256, 256, 3"):
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
    foreign = Network(tmp_path / "model.onnx", "fp32", *shape, Profile())
    with pytest.raises(EngineError, match=f"lacks the outputs {', '.join(lacking)}; expected"):
        build_plan(library, foreign, SM86, tmp_path / "timings", ignore)


def test_a_signal_ends_a_build(library: Library, tmp_path: Path) -> None:
    """It comes while TensorRT's C++ runs, which bears no exception of ours."""

    def interrupt(share: float, what: str) -> None:
        if share > 0.4:
            signal.raise_signal(signal.SIGINT)

    assert threading.current_thread() is threading.main_thread()
    with pytest.raises(KeyboardInterrupt):
        build_plan(library, network(), SM86, tmp_path / "timings", interrupt)
