"""What is asked of CUDA's driver, and what happens when it refuses; the driver is a double.

It is written in Python, so that it cannot show whether the real one takes these arguments.
"""

import ctypes
import gc
from typing import Any

import pytest

from misgiving.runtime.engines.cuda import Buffer, Driver
from misgiving.runtime.errors import EngineError


class FakeDriver:
    """libcuda as far as it is used: the GPU's memory is the machine's."""

    def __init__(self, integrated: bool) -> None:
        self.integrated = integrated
        self.calls: list[str] = []
        self.fails = ""
        self.memory: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu"):
            raise AttributeError(name)

        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name == self.fails:
                return 2
            getattr(self, f"_{name}", lambda *_: None)(*arguments)
            return 0

        return call

    def _cuDeviceGetName(self, name: Any, length: Any, device: Any) -> None:
        name.value = b"Orin"

    def _cuDriverGetVersion(self, version: Any) -> None:
        version._obj.value = 12060

    def _cuDeviceGetAttribute(self, value: Any, which: Any, device: Any) -> None:
        value._obj.value = {75: 8, 76: 7, 18: int(self.integrated)}[which.value]

    def _allocate(self, to: Any, size: Any) -> None:
        memory = (ctypes.c_uint8 * size.value)(*b"\xff" * size.value)
        to._obj.value = ctypes.addressof(memory)
        self.memory[to._obj.value] = memory

    def _cuMemHostAlloc(self, to: Any, size: Any, flags: Any) -> None:
        self._allocate(to, size)

    def _cuMemAlloc_v2(self, to: Any, size: Any) -> None:
        self._allocate(to, size)

    def _cuMemHostGetDevicePointer_v2(self, to: Any, host: Any, flags: Any) -> None:
        to._obj.value = host.value

    def _cuMemcpyHtoDAsync_v2(self, device: Any, host: Any, size: Any, stream: Any) -> None:
        ctypes.memmove(device.value, host.value, size.value)

    def _cuMemcpyDtoHAsync_v2(self, host: Any, device: Any, size: Any, stream: Any) -> None:
        ctypes.memmove(host.value, device.value, size.value)

    def _cuStreamCreate(self, to: Any, flags: Any) -> None:
        to._obj.value = 7

    def _cuGraphInstantiateWithFlags(self, to: Any, graph: Any, flags: Any) -> None:
        to._obj.value = 9

    def _cuGetErrorString(self, code: Any, to: Any) -> None:
        to._obj.value = b"out of memory"


def opened(monkeypatch: pytest.MonkeyPatch, integrated: bool) -> tuple[Driver, FakeDriver]:
    fake = FakeDriver(integrated)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: fake)
    driver = Driver()
    driver.enter()
    fake.calls.clear()
    return driver, fake


def test_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    driver, fake = opened(monkeypatch, integrated=True)
    assert str(driver.gpu) == "Orin (SM87)"
    assert driver.gpu.driver.startswith("CUDA 12.6")
    assert driver.gpu.integrated
    driver.enter()
    assert fake.calls == ["cuCtxSetCurrent"]  # the context is made once


def filled(driver: Driver) -> Buffer:
    buffer = driver.buffer(8)
    assert buffer.host.tolist() == [0] * 8
    buffer.host[:] = range(8)
    return buffer


def test_memory_of_its_own_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    driver, fake = opened(monkeypatch, integrated=False)
    buffer = filled(driver)
    assert buffer.device != buffer.host.ctypes.data
    driver.to_device(buffer, 5, 7)
    assert list(fake.memory[buffer.device]) == [0, 1, 2, 3, 4, 255, 255, 255]
    buffer.host[:] = 0
    driver.to_host(buffer, 3, 7)
    assert buffer.host.tolist() == [0, 1, 2, 0, 0, 0, 0, 0]


def test_shared_memory_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    driver, fake = opened(monkeypatch, integrated=True)
    buffer = filled(driver)
    assert buffer.device == buffer.host.ctypes.data
    fake.calls.clear()
    driver.to_device(buffer, 8, 7)
    driver.to_host(buffer, 8, 7)
    assert fake.calls == []


@pytest.mark.parametrize("integrated", [False, True])
def test_memory_is_given_back(integrated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    driver, fake = opened(monkeypatch, integrated)
    buffer = filled(driver)
    fake.calls.clear()
    del buffer
    gc.collect()
    of_the_gpu = [] if integrated else ["cuMemFree_v2"]
    assert fake.calls == ["cuCtxSetCurrent", *of_the_gpu, "cuMemFreeHost"]


def test_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    driver, fake = opened(monkeypatch, integrated=False)
    stream = driver.stream()
    graph = driver.capture(stream, lambda: fake.calls.append("work"))
    driver.launch(graph, stream)
    driver.wait(stream)
    assert (stream, graph) == (7, 9)
    assert fake.calls == [
        *("cuStreamCreate", "cuStreamBeginCapture_v2", "work", "cuStreamEndCapture"),
        *("cuGraphInstantiateWithFlags", "cuGraphDestroy", "cuGraphLaunch", "cuStreamSynchronize"),
    ]


def test_a_capture_ends_where_its_work_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    driver, fake = opened(monkeypatch, integrated=False)

    def fail() -> None:
        raise EngineError("TensorRT failed")

    with pytest.raises(EngineError, match="TensorRT failed"):
        driver.capture(7, fail)
    assert fake.calls == ["cuStreamBeginCapture_v2", "cuStreamEndCapture"]


def test_a_call_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    driver, fake = opened(monkeypatch, integrated=False)
    fake.fails = "cuMemHostAlloc"
    with pytest.raises(EngineError, match=r"CUDA's cuMemHostAlloc failed: out of memory \(2\)"):
        driver.buffer(8)


def test_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeDriver(integrated=False)
    fake.fails = "cuDeviceGet"
    monkeypatch.setattr(ctypes, "CDLL", lambda name: fake)
    with pytest.raises(EngineError, match="cuDeviceGet failed: .* See what nvidia-smi says"):
        Driver()
