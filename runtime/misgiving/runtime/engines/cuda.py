"""The CUDA calls of an engine, through the driver's own library.

``libcuda`` comes with every driver, on a Jetson as on a PC, and under one name: nothing is to be
installed beside it, where libcudart has a name for each major version and cuda-python is one more
wheel to match. A stream and an address of the primary context are what TensorRT takes.

Not yet run on hardware: tests cover what an engine asks of :class:`Cuda`, not the calls below.
"""

import ctypes
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.errors import EngineError

# CUdevice_attribute
_INTEGRATED, _MAJOR, _MINOR = 18, 75, 76
_MAPPED = 0x02  # CU_MEMHOSTALLOC_DEVICEMAP
_OF_THIS_THREAD = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may go on allocating
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING


@dataclass(frozen=True, slots=True)
class Gpu:
    """What a plan is tied to, beside TensorRT."""

    name: str
    """As the driver calls it."""
    architecture: str
    """For example ``SM86``."""
    driver: str
    """The CUDA version that the driver speaks, and its own version where the system tells it."""
    integrated: bool = False
    """It shares its memory with the CPU, as on a Jetson: nothing needs to be copied."""

    def __str__(self) -> str:
        return f"{self.name} ({self.architecture})"


@dataclass(eq=False)
class Buffer:
    """Memory that both sides see: the CPU at ``host``, the GPU at the address ``device``."""

    host: NDArray[np.uint8]
    """Page-locked, flat."""
    device: int
    shared: bool
    """It is the same memory, and needs no copying."""


class Cuda(Protocol):
    """What an engine asks of CUDA. Streams and graphs are the driver's handles."""

    @property
    def gpu(self) -> Gpu: ...

    def enter(self) -> None:
        """Make the GPU current in this thread; before anything else, and in each thread."""

    def stream(self) -> int:
        """A new stream."""

    def buffer(self, size: int) -> Buffer:
        """Memory of ``size`` bytes, given back when the buffer is collected."""

    def to_device(self, buffer: Buffer, size: int, stream: int) -> None:
        """Queue a copy of the first ``size`` bytes."""

    def to_host(self, buffer: Buffer, size: int, stream: int) -> None:
        """Queue a copy of the first ``size`` bytes."""

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        """What ``work`` queues, as a graph that can be launched again and again."""

    def launch(self, graph: int, stream: int) -> None:
        """Queue a graph."""

    def wait(self, stream: int) -> None:
        """Until everything queued is done."""


class Driver:
    """CUDA's driver on the first GPU that it shows (``CUDA_VISIBLE_DEVICES`` chooses it).

    Every method raises EngineError where a call fails.
    """

    def __init__(self) -> None:
        """Open the driver; the GPU's context is made by the first :meth:`enter`.

        Raises:
            EngineError: there is no driver, or no GPU.
        """
        self._library = _open("libcuda.so.1")
        self._call("cuInit", ctypes.c_uint(0))
        device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(0))
        self._device = device
        self._context: ctypes.c_void_p | None = None
        self._gpu = self._describe()

    @property
    def gpu(self) -> Gpu:
        return self._gpu

    def enter(self) -> None:
        if self._context is None:
            context = ctypes.c_void_p()
            self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device)
            self._context = context
        self._call("cuCtxSetCurrent", self._context)

    def stream(self) -> int:
        stream = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(stream), ctypes.c_uint(_NON_BLOCKING))
        return stream.value or 0

    def buffer(self, size: int) -> Buffer:
        host = ctypes.c_void_p()
        flags = ctypes.c_uint(_MAPPED)
        self._call("cuMemHostAlloc", ctypes.byref(host), ctypes.c_size_t(size), flags)
        device = ctypes.c_uint64()
        if self._gpu.integrated:
            self._call("cuMemHostGetDevicePointer_v2", ctypes.byref(device), host, ctypes.c_uint(0))
        else:
            self._call("cuMemAlloc_v2", ctypes.byref(device), ctypes.c_size_t(size))
        memory = (ctypes.c_uint8 * size).from_address(host.value or 0)
        view = np.ctypeslib.as_array(memory)
        view[:] = 0
        buffer = Buffer(view, device.value, self._gpu.integrated)
        weakref.finalize(buffer, self._free, host, device).atexit = False
        return buffer

    def to_device(self, buffer: Buffer, size: int, stream: int) -> None:
        if not buffer.shared:
            device, host = ctypes.c_uint64(buffer.device), _address(buffer)
            self._call("cuMemcpyHtoDAsync_v2", device, host, *_amount(size, stream))

    def to_host(self, buffer: Buffer, size: int, stream: int) -> None:
        if not buffer.shared:
            device, host = ctypes.c_uint64(buffer.device), _address(buffer)
            self._call("cuMemcpyDtoHAsync_v2", host, device, *_amount(size, stream))

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        on = ctypes.c_void_p(stream)
        graph, ready = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuStreamBeginCapture_v2", on, ctypes.c_int(_OF_THIS_THREAD))
        try:
            work()
        except BaseException:
            self._library.cuStreamEndCapture(on, ctypes.byref(graph))  # else it captures for ever
            raise
        self._call("cuStreamEndCapture", on, ctypes.byref(graph))
        flags = ctypes.c_ulonglong(0)
        self._call("cuGraphInstantiateWithFlags", ctypes.byref(ready), graph, flags)
        self._call("cuGraphDestroy", graph)
        return ready.value or 0

    def launch(self, graph: int, stream: int) -> None:
        self._call("cuGraphLaunch", ctypes.c_void_p(graph), ctypes.c_void_p(stream))

    def wait(self, stream: int) -> None:
        self._call("cuStreamSynchronize", ctypes.c_void_p(stream))

    def _describe(self) -> Gpu:
        name, version = ctypes.create_string_buffer(256), ctypes.c_int()
        self._call("cuDeviceGetName", name, ctypes.c_int(len(name)), self._device)
        self._call("cuDriverGetVersion", ctypes.byref(version))
        return Gpu(
            name.value.decode(errors="replace"),
            f"SM{self._attribute(_MAJOR)}{self._attribute(_MINOR)}",
            driver_version(version.value),
            bool(self._attribute(_INTEGRATED)),
        )

    def _attribute(self, number: int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(number), self._device)
        return value.value

    def _free(self, host: ctypes.c_void_p, device: ctypes.c_uint64) -> None:
        self._library.cuCtxSetCurrent(self._context)
        if not self._gpu.integrated:
            self._library.cuMemFree_v2(device)
        self._library.cuMemFreeHost(host)

    def _call(self, name: str, *arguments: Any) -> None:
        if code := getattr(self._library, name)(*arguments):
            text = ctypes.c_char_p()
            self._library.cuGetErrorString(ctypes.c_int(code), ctypes.byref(text))
            said = (text.value or b"unknown error").decode(errors="replace")
            raise EngineError(
                f"CUDA's {name} failed: {said} ({code}); expected a GPU that this driver runs. "
                "See what nvidia-smi says, or take --device cpu"
            )


@cache
def open_driver() -> Driver:
    """The process's one way to the GPU; errors as :class:`Driver`."""
    return Driver()


def driver_version(cuda: int, module: Path = Path("/proc/driver/nvidia/version")) -> str:
    """A driver's version in words.

    Args:
        cuda: as cuDriverGetVersion gives it, for example 12060.
        module: where the kernel module tells its own.
    """
    speaks = f"CUDA {cuda // 1000}.{cuda % 1000 // 10}"
    try:
        lines = module.read_text("utf-8", errors="replace").splitlines()
    except OSError:  # a container may hide it
        return speaks
    return f"{speaks}, {' '.join(lines[0].split())}" if lines else speaks


def _open(name: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise EngineError(
            f"{name} was not found; expected NVIDIA's driver, which brings it. Install the driver "
            "(in a container: start it with the GPU), or take --device cpu"
        ) from error


def _address(buffer: Buffer) -> ctypes.c_void_p:
    return ctypes.c_void_p(buffer.host.ctypes.data)


def _amount(size: int, stream: int) -> tuple[ctypes.c_size_t, ctypes.c_void_p]:
    return ctypes.c_size_t(size), ctypes.c_void_p(stream)
