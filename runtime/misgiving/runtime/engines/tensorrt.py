"""TensorRT as an engine.

Everything that a pass needs is made once: page-locked memory and its counterpart on the GPU for
the largest batch, a stream, and for the batch that the plan is tuned for a CUDA graph of the whole
pass. A pass copies the crops once into that memory, and the few answers out of it; between CPU and
GPU it copies where these have memories of their own.

Not yet run on hardware, in no version (tensorrt 8.6 to 11, tensorrt_rtx): tests cover the order of
calls with doubles for TensorRT and CUDA. The bundle's self-check stands between it and a vehicle.
"""

import logging
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.engines.base import Prediction, Provider, in_passes, outputs_of
from misgiving.runtime.engines.builder import Library, new_logger
from misgiving.runtime.engines.cache import Plan
from misgiving.runtime.engines.cuda import Cuda
from misgiving.runtime.errors import EngineError

log = logging.getLogger(__name__)


class StalePlan(EngineError):
    """A plan that TensorRT does not take here; another one is to be built."""


class TensorrtEngine:
    """Runs a plan. Not thread-safe: one call at a time, from any thread."""

    def __init__(self, plan: Plan, library: Library, cuda: Cuda) -> None:
        """Load a plan and capture its graph.

        Raises:
            StalePlan: the plan is not for this GPU and TensorRT.
            EngineError: it is no graph of ours, or does not run.
        """
        cuda.enter()
        self._cuda = cuda
        self._profile = plan.profile
        self._precision = plan.precision
        self._library = library
        self._logger = new_logger(library)  # must outlive the rest
        self._runtime = library.module.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan.data)
        if self._engine is None:
            raise StalePlan(
                f"{library} refuses the plan: {self._logger.told()}; expected one that was built "
                "for this GPU"
            )
        tensors = self._tensors()
        self._outputs = [name for name in tensors if name != "image"]
        largest = plan.profile.max
        self._buffers = {
            name: cuda.buffer(largest * prod(shape) * dtype.itemsize)
            for name, (shape, dtype) in tensors.items()
        }
        self._rows = {
            name: self._buffers[name].host.view(dtype).reshape(largest, *shape)
            for name, (shape, dtype) in tensors.items()
        }
        """The tensors in page-locked memory, for the largest batch."""
        self._stream = cuda.stream()
        # A graph holds its context's state: other batches have a context of their own.
        self._any = self._context()
        self._tuned = self._context()
        self._graph = self._capture(plan.profile.opt)

    @property
    def provider(self) -> Provider:
        return Provider("tensorrt", str(self._library), str(self._cuda.gpu), self._precision)

    @property
    def max_batch(self) -> int:
        return self._profile.max

    def infer(self, images: NDArray[np.uint8]) -> Prediction:
        self._cuda.enter()
        return in_passes(self._pass, images, self.max_batch)

    def _pass(self, images: NDArray[np.uint8]) -> Prediction:
        """One run over at most the largest batch; rows up to the smallest one are padding."""
        count = len(images)
        batch = max(count, self._profile.min)
        self._rows["image"][:count] = images
        if self._graph is not None and batch == self._profile.opt:
            self._cuda.launch(self._graph, self._stream)
        else:
            self._enqueue(self._any, batch)
        self._cuda.wait(self._stream)
        return Prediction.of({name: self._rows[name][:count].copy() for name in self._outputs})

    def _enqueue(self, context: Any, batch: int) -> None:
        """Queue a whole pass: copy in, run, copy out."""
        context.set_input_shape("image", (batch, *self._rows["image"].shape[1:]))
        self._queue(context, batch)

    def _queue(self, context: Any, batch: int) -> None:
        self._cuda.to_device(self._buffers["image"], self._size("image", batch), self._stream)
        if not context.execute_async_v3(self._stream):
            raise EngineError(
                f"{self._library} failed on a batch of {batch}: {self._logger.told()}; "
                "expected it to run. See what nvidia-smi says, or take --device cpu"
            )
        for name in self._outputs:
            self._cuda.to_host(self._buffers[name], self._size(name, batch), self._stream)

    def _capture(self, batch: int) -> int | None:
        """The graph of a batch; None where TensorRT cannot be captured here."""
        self._enqueue(self._tuned, batch)  # the first run after a new shape does more than run
        self._cuda.wait(self._stream)
        try:
            return self._cuda.capture(self._stream, partial(self._queue, self._tuned, batch))
        except EngineError as error:
            log.warning("going on without a CUDA graph: %s", error)
            return None

    def _context(self) -> Any:
        context = self._engine.create_execution_context()
        if context is None:
            raise EngineError(
                f"{self._library} has no memory to run in: {self._logger.told()}; "
                "build for smaller batches, or free memory of the GPU"
            )
        for name, buffer in self._buffers.items():
            context.set_tensor_address(name, buffer.device)
        return context

    def _tensors(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Tensor → its shape without the batch, and its type."""
        engine, nptype = self._engine, self._library.module.nptype
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        outputs = outputs_of("plan", names)
        types = {name: np.dtype(nptype(engine.get_tensor_dtype(name))) for name in names}
        expected = {"image": np.dtype(np.uint8), **dict.fromkeys(outputs, np.dtype(np.float32))}
        if types != expected:
            raise EngineError(
                f"plan has tensors {types}; expected {expected}. Export the bundle again"
            )
        return {
            name: (tuple(engine.get_tensor_shape(name))[1:], dtype) for name, dtype in types.items()
        }

    def _size(self, name: str, batch: int) -> int:
        """Bytes of a tensor."""
        return self._rows[name][:batch].nbytes
