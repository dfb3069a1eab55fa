"""ONNX Runtime as an engine, with the asked provider asserted."""

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from misgiving.runtime.bundles.precisions import FP32
from misgiving.runtime.engines.base import (
    LARGEST_BATCH,
    Prediction,
    Provider,
    in_passes,
    outputs_of,
)
from misgiving.runtime.errors import EngineError

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxEngine:
    """Runs a bundle's graph on one device.

    ONNX Runtime falls back to the CPU without a word when a provider cannot be loaded; here
    that is an error, because a vehicle that silently runs on its CPU drops frames.
    """

    def __init__(
        self,
        model: Path | bytes,
        device: str = "cpu",
        threads: int = 1,
        precision: str = FP32,
        max_batch: int = LARGEST_BATCH,
    ) -> None:
        """Load a graph.

        Args:
            model: the ONNX file, or its bytes where just these were verified.
            device: ``cpu`` or ``cuda``.
            threads: CPU threads within one inference.
            precision: the file's, for ``provider``.
            max_batch: what the manifest says; a graph of a fixed batch has its own.

        Raises:
            EngineError: the device is unknown or its provider does not run here, or the file
                is no graph of ours.
        """
        if device not in PROVIDERS:
            devices = ", ".join([*PROVIDERS, "tensorrt"])
            raise EngineError(f"device is {device!r}; expected one of {devices}")
        refuse_both_wheels()
        self._precision = precision
        self._session = open_session(model, PROVIDERS[device], threads)
        batch = self._session.get_inputs()[0].shape[0]
        self._max_batch = min(max_batch, batch) if isinstance(batch, int) else max_batch
        names = [output.name for output in self._session.get_outputs()]
        self._outputs = outputs_of(_name(model), names)

    @property
    def provider(self) -> Provider:
        device = self._session.get_providers()[0]
        return Provider("onnxruntime", "onnxruntime", device, self._precision)

    @property
    def max_batch(self) -> int:
        return self._max_batch

    def infer(self, images: NDArray[np.uint8]) -> Prediction:
        return in_passes(self._pass, images, self._max_batch)

    def _pass(self, images: NDArray[np.uint8]) -> Prediction:
        answers = self._session.run(self._outputs, {"image": images})
        return Prediction.of(dict(zip(self._outputs, answers, strict=True)))


def refuse_both_wheels() -> None:
    """Raise EngineError where onnxruntime and onnxruntime-gpu are both installed."""
    names: Sequence[str] = ("onnxruntime", "onnxruntime-gpu")
    if all(_installed(name) for name in names):
        raise EngineError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files; "
            "expected one. Run: pip uninstall -y onnxruntime onnxruntime-gpu, "
            "then install misgiving[cpu] or misgiving[gpu]"
        )


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def open_session(model: Path | bytes, provider: str, threads: int) -> ort.InferenceSession:
    """A graph on a provider that is asserted to run it.

    Raises:
        EngineError: the provider does not run here, or the graph cannot be loaded.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads take a core from the decoder and the network for little latency.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    available = ort.get_available_providers()
    if provider not in available:
        raise EngineError(
            f"{provider} was asked for; this onnxruntime has {', '.join(available)}. "
            "Install misgiving[gpu] for CUDA, or choose another device"
        )
    try:
        session = ort.InferenceSession(model, options, providers=[provider])
    except Exception as error:  # onnxruntime's own exceptions share no public base class
        raise EngineError(f"{_name(model)} cannot be loaded: {_first_line(error)}") from error
    if session.get_providers()[0] != provider:
        raise EngineError(
            f"{provider} was asked for, but onnxruntime runs {session.get_providers()[0]}; "
            "the driver or a CUDA library is missing. Install it, or choose another device"
        )
    return session


def _name(model: Path | bytes) -> str:
    return "graph" if isinstance(model, bytes) else model.name


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
