"""What is timed: one graph on one engine, so many persons at a time.

Every case is made from the bundle's own graphs; for torch from the recipe in its manifest, with
random weights: how long a network takes does not depend on them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.bundles.bundle import MODEL, Bundle
from misgiving.runtime.bundles.precisions import MODELS
from misgiving.runtime.engines.onnx import PROVIDERS, open_session
from misgiving.runtime.errors import EngineError, InvalidInput

FUSED, POSE, HEAD = "all outputs", "pose only", "pose + head"
PASSES, ENSEMBLE = "10 dropout passes", "ensemble of 5"
ALTERNATIVES = (POSE, HEAD, PASSES, ENSEMBLE)
"""What the bundle is compared with: no score; the predicted loss without free scores and embedding;
and the two that cost more than one pass. Passes are of the network without its head; what spreads
or averages their answers is not counted."""
_CALLS = {FUSED: 1, POSE: 1, HEAD: 1, PASSES: 10, ENSEMBLE: 5}
_SCORED = ("keypoints", "predicted_loss")

ENGINES = (
    *("onnxruntime", "onnxruntime-tensorrt", "tensorrt", "trtexec"),
    *("openvino", "torch", "torch-compile"),
)

Call = Callable[[], object]
Images = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One row of the table."""

    engine: str
    """One of ENGINES."""
    device: str
    """cpu or cuda."""
    threads: int
    """CPU threads within one inference."""
    batch: int
    file: str = MODEL
    """The bundle's graph."""
    variant: str = FUSED

    def __str__(self) -> str:
        return f"{self.engine} {self.device}, {self.file}, {self.variant}, batch {self.batch}"


def prepare(case: Case, bundle: Bundle) -> Call:
    """Load what a case needs; each call of the answer is one inference.

    Raises:
        EngineError: the engine is not installed, or does not run here.
        InvalidInput: torch does not know the bundle's recipe, or its pose net is a foreign one.
    """
    rule = bundle.manifest.crop
    shape = (case.batch, rule.height, rule.width, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    if case.engine.startswith("torch"):
        return _torch_call(case, bundle.manifest.provenance.config, images)
    if case.engine == "tensorrt":
        return _tensorrt_call(case, bundle, images)
    model = bundle.read(case.file)
    outputs = _SCORED if case.variant == HEAD else _SCORED[:1]
    graph = model if case.variant == FUSED else with_outputs(model, outputs)
    call = _openvino_call if case.engine == "openvino" else _onnx_call
    calls = [call(case, graph, images)] * _CALLS[case.variant]
    if case.variant == ENSEMBLE:  # each member has weights of its own in memory
        calls = [call(case, graph, images) for _ in calls]
    return lambda: [one() for one in calls]


def _onnx_call(case: Case, graph: bytes, images: Images) -> Call:
    tensorrt = case.engine == "onnxruntime-tensorrt"
    provider = "TensorrtExecutionProvider" if tensorrt else PROVIDERS[case.device]
    session = open_session(graph, provider, case.threads)
    return lambda: session.run(None, {"image": images})


def _tensorrt_call(case: Case, bundle: Bundle, images: Images) -> Call:
    """The runtime's own engine; the plan is built where it is not in the cache."""
    from misgiving.runtime.engines.building import Workshop

    precision = next(name for name, file in MODELS.items() if file == case.file)
    engine = Workshop(bundle, precision).ready()
    return lambda: engine.infer(images)


def _openvino_call(case: Case, graph: bytes, images: Images) -> Call:
    openvino = _imported("openvino", "openvino")
    # f32: its own choice on a CPU that has bfloat16 is that, and another answer.
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": case.threads}
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(graph, b""), "CPU", options)
    return lambda: compiled({"image": images})


def _torch_call(case: Case, config: Mapping[str, Any], images: Images) -> Call:
    """The network of the bundle's recipe, fused as the exporter does it."""
    torch = _imported("torch", "train")
    from misgiving.export.graph import FusedGraph
    from misgiving.runtime.keypoints import LSP
    from misgiving.trainer import Compute
    from misgiving.trainer.config import from_dict
    from misgiving.trainer.foreign_config import ForeignConfig
    from misgiving.trainer.models import Network

    device = Compute(device=case.device, threads=case.threads).prepare()
    model = from_dict(config).model
    if isinstance(model.net, ForeignConfig):
        raise InvalidInput(
            f"its pose net is an ONNX file ({model.net.file}), which torch cannot run"
        )
    graph = FusedGraph(Network(model, LSP)).to(device)
    graph.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = torch.compile(graph) if case.engine == "torch-compile" else graph
    batch = torch.from_numpy(images).to(device)

    def call() -> object:
        with torch.inference_mode():
            return [part.cpu() for part in run(batch).values()]  # waits for a GPU

    return call


def with_outputs(model: bytes, outputs: Sequence[str]) -> bytes:
    """A bundle's graph with nothing left but what some of its outputs need.

    Raises:
        EngineError: onnx is not installed.
    """
    onnx = _imported("onnx", "export")
    graph = onnx.load_from_string(model).graph
    wanted, kept = set(outputs), []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    parts = {
        "node": kept[::-1],
        "output": [output for output in graph.output if output.name in wanted],
        "initializer": [weight for weight in graph.initializer if weight.name in wanted],
    }
    short = onnx.load_from_string(model)
    for name, items in parts.items():
        short.graph.ClearField(name)
        getattr(short.graph, name).extend(items)
    onnx.checker.check_model(short)
    content: bytes = short.SerializeToString()
    return content


def _imported(module: str, extra: str) -> Any:
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise EngineError(
            f"{module} is not installed; run: pip install 'misgiving[{extra}]'"
        ) from error
