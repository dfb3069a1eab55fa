"""From a path to a bundle and an engine that has checked itself."""

import importlib.util
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from misgiving.runtime.bundles.bundle import Bundle, digest_at
from misgiving.runtime.bundles.locate import find_bundle
from misgiving.runtime.bundles.precisions import FP32
from misgiving.runtime.bundles.trust import read_trust
from misgiving.runtime.cores import usable_cores
from misgiving.runtime.engines.base import Engine
from misgiving.runtime.engines.self_check import self_check
from misgiving.runtime.errors import EngineError


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelOptions:
    """Which bundle answers, and on what."""

    bundle: Path | None = None
    """None for MISGIVING_BUNDLE, else the package's own."""
    device: str = "cpu"
    """``cpu``, ``cuda``, or ``tensorrt``, whose plan is built where there is none."""
    threads: int = 0
    """CPU threads within one inference; 0 takes half of those that may be used, so that decoding
    and the network have the rest."""
    precision: str = FP32
    """One that the bundle has."""
    trust: Path | None = None
    """Folder of the public keys whose bundles are taken, or one such key; None for
    MISGIVING_TRUST, else everybody's."""


def load(options: ModelOptions) -> tuple[Bundle, Engine]:
    """Load a bundle, start its engine and let it check itself.

    Raises:
        BundleError, EngineError: it does not load, or computes something else here.
        FailedPrecondition: the trusted keys cannot be read.
    """
    bundle = load_bundle(options)
    if options.device == "tensorrt":
        from misgiving.runtime.engines.building import Workshop

        return bundle, Workshop(bundle, options.precision).ready()
    return bundle, _onnx(bundle, options.device, options.threads)


Later = Callable[[], Awaitable[Engine]]
"""Gives the engine that was asked for, when there is one."""
InThread = Callable[..., Awaitable[Any]]
"""Runs a function with its arguments in a thread, and gives what that gave."""


def load_at_once(options: ModelOptions) -> tuple[Bundle, Engine, Later | None]:
    """As :func:`load`, but while a plan is to be built, ONNX Runtime answers.

    Returns:
        The third is None where the engine is already the one that was asked for.
    """
    if options.device != "tensorrt":
        return *load(options), None
    from misgiving.runtime.engines.building import Workshop

    bundle = load_bundle(options)
    workshop = Workshop(bundle, options.precision)
    if engine := workshop.find():
        return bundle, engine, None
    if importlib.util.find_spec("onnxruntime") is None:  # nothing else could answer
        return bundle, workshop.ready(), None
    return bundle, _first(bundle, options.threads), workshop.ready_elsewhere


async def start_beside(bundle: Bundle, options: ModelOptions, in_thread: InThread) -> Engine:
    """The engine that was asked for, while another bundle answers; a plan is built by a process
    of its own, which ends where nobody waits for it any more.

    Args:
        bundle: whose engine.
        options: by which it was loaded.
        in_thread: runs what takes long.

    Raises:
        BundleError, EngineError: it does not start, or computes something else here.
    """
    if options.device != "tensorrt":
        engine: Engine = await in_thread(_onnx, bundle, options.device, options.threads)
        return engine
    from misgiving.runtime.engines.building import Workshop

    workshop: Workshop = await in_thread(Workshop, bundle, options.precision)
    return await in_thread(workshop.find) or await workshop.ready_elsewhere()


def asked_digest(options: ModelOptions) -> str:
    """The digest of the bundle that would be loaded, which is not verified.

    Raises:
        BundleError: there is none.
        FailedPrecondition: the trusted keys cannot be read.
    """
    read_trust(options.trust)
    return digest_at(find_bundle(options.bundle))


def load_bundle(options: ModelOptions) -> Bundle:
    """Load a bundle in the asked precision, without an engine.

    Raises:
        BundleError: it does not load.
        FailedPrecondition: the trusted keys cannot be read.
    """
    path = find_bundle(options.bundle)
    path = path.resolve() if path.is_symlink() else path  # what is read later is of the same one
    bundle = Bundle.load(path, read_trust(options.trust))
    return bundle.in_precision(options.precision)


def _first(bundle: Bundle, threads: int) -> Engine:
    try:
        return _onnx(bundle, "cuda", threads)
    except EngineError:
        return _onnx(bundle, "cpu", threads)


def _onnx(bundle: Bundle, device: str, threads: int) -> Engine:
    from misgiving.runtime.engines.onnx import OnnxEngine  # the only use of onnxruntime

    threads = threads or max(1, usable_cores() // 2)
    graph = bundle.read(bundle.model.name)
    engine = OnnxEngine(graph, device, threads, bundle.precision, bundle.manifest.max_batch)
    self_check(bundle, engine)
    return engine
