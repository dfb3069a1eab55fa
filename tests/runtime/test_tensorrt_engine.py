"""What the engine asks of TensorRT and CUDA, in which order, and what it makes of the answers.

Both are doubles that record: neither runs without a GPU. They answer as the tiny bundle does, by
its real graph in ONNX Runtime, so that a row, a size or an address that is mixed up shows.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.engines.base import OUTPUTS
from misgiving.runtime.engines.builder import Library
from misgiving.runtime.engines.cache import Plan, Profile
from misgiving.runtime.engines.cuda import Buffer, Gpu
from misgiving.runtime.engines.self_check import self_check
from misgiving.runtime.engines.tensorrt import StalePlan, TensorrtEngine
from misgiving.runtime.errors import BundleError, EngineError
from shared import tiny

SHAPES = {
    "image": (tiny.HEIGHT, tiny.WIDTH, 3),
    "keypoints": (tiny.JOINTS, 3),
    "predicted_loss": (),
    "signals": (4,),
    "embedding": (8,),
}


class RecordingCuda:
    """Memory of a GPU that is not there. What is queued happens when it is waited for."""

    gpu = Gpu("Orin", "SM87", "CUDA 12.6")

    def __init__(self, shared: bool = False) -> None:
        self.calls: list[str] = []
        self.memory: dict[int, NDArray[np.uint8]] = {}
        self.queue: list[Callable[[], None]] = []
        self.graphs: list[list[Callable[[], None]]] = []
        self.shared = shared
        self.refuses_capture = False

    def enter(self) -> None:
        self.calls.append("enter")

    def stream(self) -> int:
        return 7

    def buffer(self, size: int) -> Buffer:
        self.calls.append(f"buffer {size}")
        host = np.zeros(size, np.uint8)
        address = 1000 * (len(self.memory) + 1)
        self.memory[address] = host if self.shared else np.full(size, 255, np.uint8)
        return Buffer(host, address, self.shared)

    def to_device(self, buffer: Buffer, size: int, stream: int) -> None:
        self._copy(f"in {size}", self.memory[buffer.device], buffer.host, size)

    def to_host(self, buffer: Buffer, size: int, stream: int) -> None:
        self._copy(f"out {size}", buffer.host, self.memory[buffer.device], size)

    def _copy(self, call: str, to: NDArray[Any], source: NDArray[Any], size: int) -> None:
        self.calls.append(call)
        self.queue.append(lambda: np.copyto(to[:size], source[:size]))

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        assert self.queue == [], "a capture must begin on an idle stream"
        self.calls.append("capture")
        if self.refuses_capture:
            raise EngineError("CUDA's cuStreamEndCapture failed")
        work()
        self.graphs.append(self.queue)
        self.queue = []
        return len(self.graphs)

    def launch(self, graph: int, stream: int) -> None:
        self.calls.append("launch")
        self.queue += self.graphs[graph - 1]

    def wait(self, stream: int) -> None:
        assert stream == 7
        self.calls.append("wait")
        for each in self.queue:
            each()
        self.queue = []


class Context:
    """Runs the tiny graph on what lies at its addresses when the stream gets there."""

    def __init__(self, trt: "FakeTensorrt") -> None:
        self.trt = trt
        self.addresses: dict[str, int] = {}
        self.batch = 0

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert (name, shape[1:]) == ("image", SHAPES["image"])
        self.batch = shape[0]
        return True

    def execute_async_v3(self, stream: int) -> bool:
        batch, cuda = self.batch, self.trt.cuda
        cuda.calls.append(f"run {batch}")
        cuda.queue.append(lambda: self._run(batch))
        return not self.trt.fails

    def _run(self, batch: int) -> None:
        assert batch == self.batch, "a graph holds the shapes that its context had"
        memory = self.trt.cuda.memory
        size = batch * int(np.prod(SHAPES["image"]))
        images = memory[self.addresses["image"]][:size].reshape(batch, *SHAPES["image"])
        answer = tiny.engine().infer(images)
        answer = replace(answer, keypoint_loss=answer.keypoints[..., 2])
        for name in SHAPES.keys() - {"image"}:
            data = np.ascontiguousarray(getattr(answer, name)).view(np.uint8).ravel()
            memory[self.addresses[name]][: data.size] = data


class FakeTensorrt:
    """As much of the module as an engine touches."""

    class ILogger:
        Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1)

    def __init__(self, cuda: RecordingCuda) -> None:
        self.cuda = cuda
        self.fails = False
        self.types = dict.fromkeys(SHAPES, np.float32) | {"image": np.uint8}
        self.logger: Any = None
        self.num_io_tensors = len(SHAPES)

    def Runtime(self, logger: Any) -> "FakeTensorrt":
        self.logger = logger
        return self

    def deserialize_cuda_engine(self, plan: bytes) -> "FakeTensorrt | None":
        if plan == b"plan":
            return self
        self.logger.log(1, "The engine plan file\nis not compatible")
        return None

    def get_tensor_name(self, index: int) -> str:
        return list(self.types)[index]

    def get_tensor_dtype(self, name: str) -> Any:
        return self.types[name]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, *SHAPES[name])

    @staticmethod
    def nptype(dtype: Any) -> Any:
        return dtype

    def create_execution_context(self) -> Context:
        return Context(self)


def made(
    profile: Profile, cuda: RecordingCuda | None = None
) -> tuple[TensorrtEngine, RecordingCuda, FakeTensorrt]:
    cuda = cuda or RecordingCuda()
    trt = FakeTensorrt(cuda)
    library = Library(trt, "tensorrt", "10.3.0")
    return TensorrtEngine(Plan(b"plan", profile, "fp16"), library, cuda), cuda, trt


def images(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, *SHAPES["image"]), np.uint8)


def assert_right(engine: TensorrtEngine, count: int) -> None:
    got, expected = engine.infer(images(count)), tiny.engine().infer(images(count))
    for name in OUTPUTS:
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name))
        assert getattr(got, name).dtype == np.float32


BYTES_IN = 56 * 42 * 3
COPIES_OUT = (14 * 3 * 4, 4, 16, 32)


def passed(batch: int) -> list[str]:
    """The calls of one pass without a graph."""
    outputs = [f"out {batch * size}" for size in COPIES_OUT]
    return [f"in {batch * BYTES_IN}", f"run {batch}", *outputs]


def test_a_plan_that_tells_joints_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "keypoint_loss", (tiny.JOINTS,))
    engine, _, _ = made(Profile(1, 2, 4))
    for count in (1, 2, 5):
        got = engine.infer(images(count))
        assert got.keypoint_loss.shape == (count, tiny.JOINTS)
        np.testing.assert_array_equal(got.keypoint_loss, got.keypoints[..., 2])


def test_everything_is_made_once_and_the_graph_at_the_start() -> None:
    engine, cuda, _ = made(Profile(1, 2, 4))
    buffers = [f"buffer {4 * size}" for size in (BYTES_IN, *COPIES_OUT)]
    assert cuda.calls == ["enter", *buffers, *passed(2), "wait", "capture", *passed(2)]
    assert str(engine.provider) == "tensorrt 10.3.0 Orin (SM87) fp16"


RUNS = [
    # (profile, batch, calls after "enter")
    (Profile(1, 2, 4), 2, ["launch", "wait"]),  # tuned for: one call to the GPU
    (Profile(1, 2, 4), 1, [*passed(1), "wait"]),
    (Profile(1, 2, 4), 4, [*passed(4), "wait"]),
    (Profile(1, 2, 4), 6, [*passed(4), "wait", "launch", "wait"]),  # more than fit: in parts
    (Profile(1, 1, 1), 3, ["launch", "wait"] * 3),
    (Profile(3, 3, 3), 2, ["launch", "wait"]),  # a fixed batch: padded
    (Profile(2, 3, 4), 1, [*passed(2), "wait"]),
]


@pytest.mark.parametrize(("profile", "batch", "calls"), RUNS)
@pytest.mark.parametrize("shared", [False, True])
def test_a_batch(profile: Profile, batch: int, calls: list[str], shared: bool) -> None:
    engine, cuda, _ = made(profile, RecordingCuda(shared))
    assert_right(engine, 4)  # something else lies in the buffers
    cuda.calls.clear()
    assert_right(engine, batch)
    assert cuda.calls == ["enter", *calls]


def test_answers_stay_when_the_next_batch_comes() -> None:
    engine, _, _ = made(Profile(1, 2, 4))
    first = engine.infer(images(2))
    kept = first.keypoints.copy()
    engine.infer(images(2)[::-1])
    np.testing.assert_array_equal(first.keypoints, kept)


def test_it_goes_on_without_a_graph(caplog: pytest.LogCaptureFixture) -> None:
    cuda = RecordingCuda()
    cuda.refuses_capture = True
    with caplog.at_level(logging.WARNING):
        engine, _, _ = made(Profile(1, 2, 4), cuda)
    assert "going on without a CUDA graph: CUDA's cuStreamEndCapture failed" in caplog.text
    for batch in (1, 2, 3):
        assert_right(engine, batch)


def test_it_passes_the_bundle_s_self_check() -> None:
    engine, _, _ = made(Profile())
    self_check(Bundle.load(tiny.BUNDLE), engine)


def test_one_that_computes_something_else_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the self-check is for: a GPU that mixes up its tensors."""
    engine, _, trt = made(Profile())
    monkeypatch.setattr(Context, "_run", lambda self, batch: None)
    with pytest.raises(BundleError, match="self-check failed"):
        self_check(Bundle.load(tiny.BUNDLE), engine)


def test_a_plan_that_tensorrt_refuses() -> None:
    trt = FakeTensorrt(RecordingCuda())
    library = Library(trt, "tensorrt", "10.3.0")
    with pytest.raises(StalePlan, match="refuses the plan: The engine plan file is not comp"):
        TensorrtEngine(Plan(b"junk", Profile(), "fp16"), library, trt.cuda)


STRANGE: list[tuple[Callable[[FakeTensorrt], object], str]] = [
    (lambda trt: trt.types.pop("signals"), "plan lacks the outputs signals"),
    (lambda trt: trt.types.update(image=np.float32), "plan has tensors"),
    (lambda trt: trt.types.update(keypoints=np.float16), "plan has tensors"),
    (lambda trt: setattr(trt, "create_execution_context", lambda: None), "no memory to run in"),
    (lambda trt: setattr(trt, "fails", True), "failed on a batch of 1"),
]


@pytest.mark.parametrize(("change", "said"), STRANGE)
def test_a_plan_that_is_not_ours(change: Callable[[FakeTensorrt], object], said: str) -> None:
    trt = FakeTensorrt(RecordingCuda())
    change(trt)
    trt.num_io_tensors = len(trt.types)
    with pytest.raises(EngineError, match=said):
        TensorrtEngine(
            Plan(b"plan", Profile(), "fp16"), Library(trt, "tensorrt", "10.3.0"), trt.cuda
        )
