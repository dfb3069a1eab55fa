"""TensorRT, whichever of its two libraries is installed; from an ONNX file to a plan.

What runs is what the file says: from version 10 on, the network is strongly typed, and TF32 is
off, so that no layer computes in a precision that no gate has measured. Versions 8.6 and 9 know
no such network; there a flag allows the precision of the file, and no other.

Parsed and built with tensorrt_rtx 1.7, which needs no GPU for it. Not yet tried: tensorrt itself
(8.6 to 11), whose timing cache tensorrt_rtx does without.
"""

import hashlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from misgiving.runtime.durable import write_durably
from misgiving.runtime.engines.base import outputs_of
from misgiving.runtime.engines.cache import Profile, Say
from misgiving.runtime.engines.cuda import Gpu
from misgiving.runtime.errors import EngineError

log = logging.getLogger(__name__)

LIBRARIES = ("tensorrt", "tensorrt_rtx")
OLDEST = (8, 6)


@dataclass(frozen=True, slots=True)
class Library:
    """One of TensorRT's two libraries."""

    module: Any
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def release(self) -> tuple[int, int]:
        major, minor = self.version.split(".")[:2]
        return int(major), int(minor)


@dataclass(frozen=True, slots=True)
class Network:
    """What is to be built."""

    name: str
    """Of the file, for messages."""
    graph: bytes
    """The ONNX file's own, as they were verified."""
    precision: str
    height: int
    width: int
    profile: Profile


def find_library() -> Library:
    """The installed TensorRT; where both are, not the one for RTX, which compiles at start.

    Raises:
        EngineError: none is there, it does not load, or it is older than 8.6.
    """
    for name in LIBRARIES:
        try:
            module = import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise _broken(name, error) from error
        except (ImportError, OSError, RuntimeError) as error:
            raise _broken(name, error) from error
        else:
            return _checked(Library(module, name, module.__version__))
    raise EngineError(
        "TensorRT is not installed; expected the module tensorrt or tensorrt_rtx. On a Jetson "
        "it comes with JetPack (make the environment with --system-site-packages); elsewhere run: "
        "pip install tensorrt-rtx-cu13"
    )


def build_plan(library: Library, network: Network, gpu: Gpu, timings: Path, say: Say) -> bytes:
    """Parse and build; takes seconds to minutes, and memory on the GPU.

    Args:
        library: of the process.
        network: what to build.
        gpu: to build for.
        timings: file of the timing cache; made where there is none.
        say: told how far it is.

    Raises:
        EngineError: the graph is not ours, or TensorRT refuses it.
    """
    trt = library.module
    logger = new_logger(library)
    builder = trt.Builder(logger)
    graph = builder.create_network(_network_flags(library))
    _parse(trt, graph, logger, network)
    _check(graph, network)
    config = builder.create_builder_config()
    _set_precision(library, config, network.precision)
    _set_target(library, config, gpu)
    if graph.get_input(0).shape[0] == -1:  # a fixed batch is in the graph, and needs no profile
        _set_sizes(builder, config, network)
    monitor = _watched(trt, config, say)
    _read_timings(library, config, timings)
    # Signals are answered in the main thread: there, not in a call of TensorRT's, they may raise.
    with ThreadPoolExecutor(1, thread_name_prefix="build") as thread:
        building = thread.submit(builder.build_serialized_network, graph, config)
        try:
            plan = building.result()
        except BaseException as error:
            monitor.stopped = error
            raise
    if monitor.stopped:
        raise monitor.stopped
    if plan is None:
        raise EngineError(
            f"{library} builds no engine of {network.name}: {logger.told()}; "
            "take another precision, or --device cpu"
        )
    _write_timings(library, config, timings)
    return bytes(plan)


def new_logger(library: Library) -> Any:
    """TensorRT's messages go to ours; ``told()`` gives the first error."""
    severity = library.module.ILogger.Severity
    serious = severity.INTERNAL_ERROR, severity.ERROR

    class Logger(library.module.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            log.debug("%s", message)
            if severity in serious:
                self.errors.append(message)

        def told(self) -> str:
            return " ".join(self.errors[0].split()) if self.errors else "it does not say why"

    return Logger()


def _broken(name: str, error: Exception) -> EngineError:
    said = " ".join(str(error).split())
    return EngineError(
        f"{name} does not load: {said}; expected an installation that fits this system. "
        "Install it again, or take --device cpu"
    )


def _checked(library: Library) -> Library:
    if library.name == "tensorrt" and library.release < OLDEST:
        raise EngineError(
            f"tensorrt is {library.version}; expected 8.6 or newer (JetPack 6). "
            "Install that, or take --device cpu"
        )
    return library


def _network_flags(library: Library) -> int:
    flags = library.module.NetworkDefinitionCreationFlag
    if _is_typed(library):
        return int(1 << int(flags.STRONGLY_TYPED))
    return int(1 << int(flags.EXPLICIT_BATCH))


def _is_typed(library: Library) -> bool:
    return library.name == "tensorrt_rtx" or library.release >= (10, 0)


def _set_precision(library: Library, config: Any, precision: str) -> None:
    flags = library.module.BuilderFlag
    config.clear_flag(flags.TF32)
    if not _is_typed(library) and precision != "fp32":
        config.set_flag({"fp16": flags.FP16, "int8-trt": flags.INT8}[precision])


def _set_target(library: Library, config: Any, gpu: Gpu) -> None:
    """TensorRT builds for the GPU that it finds; its sibling for RTX for those that it is told."""
    if library.name != "tensorrt_rtx":
        return
    known = library.module.ComputeCapability.__members__
    if gpu.architecture not in known:
        able = ", ".join(name for name in known if name.startswith("SM"))
        raise EngineError(
            f"{library} builds for {able}; this GPU is {gpu}. Install tensorrt, or take "
            "--device cuda"
        )
    config.num_compute_capabilities = 1
    config.set_compute_capability(known[gpu.architecture], 0)


def _set_sizes(builder: Any, config: Any, network: Network) -> None:
    profile = builder.create_optimization_profile()
    sizes = network.profile.min, network.profile.opt, network.profile.max
    profile.set_shape("image", *((size, network.height, network.width, 3) for size in sizes))
    config.add_optimization_profile(profile)


def _parse(trt: Any, graph: Any, logger: Any, network: Network) -> None:
    parser = trt.OnnxParser(graph, logger)
    if not parser.parse(network.graph):
        errors = [parser.get_error(i).desc() for i in range(parser.num_errors)]
        said = " ".join((errors or [logger.told()])[0].split())
        raise EngineError(
            f"TensorRT cannot read {network.name}: {said}; expected a graph written by "
            "'misgiving export'. Export it again with this version"
        )


def _check(graph: Any, network: Network) -> None:
    """Raise EngineError where the parsed graph is not the bundle's contract."""
    outputs = [graph.get_output(i).name for i in range(graph.num_outputs)]
    outputs_of(network.name, outputs)
    inputs = {
        graph.get_input(i).name: tuple(graph.get_input(i).shape) for i in range(graph.num_inputs)
    }
    expected = {"image": (-1, network.height, network.width, 3)}
    alone = {"image": (1, network.height, network.width, 3)}
    if inputs != expected and not (network.profile.max == 1 and inputs == alone):
        raise EngineError(
            f"{network.name} takes {inputs}; expected {expected}, -1 for any batch. Export it again"
        )


def _watched(trt: Any, config: Any, say: Say) -> Any:
    """Report how far a build is; gives the monitor, whose ``stopped`` ends the build."""

    base: Any = getattr(trt, "IProgressMonitor", object)  # the oldest ones cannot tell

    class Monitor(base):  # type: ignore[misc]
        """Called by TensorRT; what is raised in here must not pass through its C++."""

        def __init__(self) -> None:
            super().__init__()
            self.stopped: BaseException | None = None
            self.progress = Progress(say)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._guarded(self.progress.start, phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._guarded(self.progress.step, phase_name, step)
            return self.stopped is None

        def phase_finish(self, phase_name: str) -> None:
            self._guarded(self.progress.finish, phase_name)

        def _guarded(self, call: Callable[..., None], *arguments: Any) -> None:
            try:
                call(*arguments)
            except Exception as error:  # nobody reads the progress any more, for example
                self.stopped = error

    monitor = Monitor()
    if base is not object:
        config.progress_monitor = monitor
    return monitor


class Progress:
    """The share of a whole build that is done, from TensorRT's nested phases."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._phases: dict[str, tuple[str | None, int, int]] = {}
        """Phase → (parent, steps done, steps)."""
        self._most = 0.0

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        self._phases[phase] = parent, 0, max(1, steps)
        self._tell(phase)

    def step(self, phase: str, step: int) -> None:
        if phase in self._phases:
            parent, _, steps = self._phases[phase]
            self._phases[phase] = parent, min(step + 1, steps), steps
            self._tell(phase)

    def finish(self, phase: str) -> None:
        self._phases.pop(phase, None)

    def share(self, phase: str) -> float:
        """How much of the whole build is done, 0 to 1, while in a phase."""
        parent, done, steps = self._phases[phase]
        share = done / steps
        while parent in self._phases:
            parent, done, steps = self._phases[parent]
            share = min(1.0, (done + share) / steps)
        return share

    def _tell(self, phase: str) -> None:
        self._most = max(self._most, self.share(phase))  # a phase may end before its last step
        self._say(self._most, phase)


def _read_timings(library: Library, config: Any, path: Path) -> None:
    """Reuse what earlier builds measured; tensorrt_rtx measures nothing when it builds."""
    if library.name != "tensorrt":
        return
    data = b""
    with suppress(FileNotFoundError, ValueError):
        data = unsealed(path.read_bytes())
    config.set_timing_cache(config.create_timing_cache(data), ignore_mismatch=False)


def _write_timings(library: Library, config: Any, path: Path) -> None:
    if library.name != "tensorrt":
        return
    try:
        write_durably(path, sealed(bytes(config.get_timing_cache().serialize())))
    except OSError as error:  # the next build takes longer, that is all
        log.warning("%s cannot be written: %s", path, error.strerror)


def sealed(data: bytes) -> bytes:
    """Data behind its own sha256."""
    return hashlib.sha256(data).digest() + data


def unsealed(file: bytes) -> bytes:
    """What :func:`sealed` was given; ValueError where it is not whole."""
    digest, data = file[:32], file[32:]
    if hashlib.sha256(data).digest() != digest:
        raise ValueError("altered or cut short")
    return data
