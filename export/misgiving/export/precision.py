"""The exported graph in fewer bits: fp16, and int8 for CPUs and for TensorRT.

Only the graph's core is converted, from the first layer with weights to the last. The ends stay in
fp32: normalisation, whose input is uint8, and the read-out, where a cell's number and the
logarithms around a peak need more than the eleven bits of an fp16. So input and outputs have the
same types in every precision, and one engine runs them all.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from misgiving.export.merging import TAIL
from misgiving.runtime.errors import EngineError

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
BATCH = 16
"""Images of one pass while ranges are measured."""
_PREPARED = ("onnx.quant.pre_process", "onnxruntime.quant")
"""Tells the quantiser that shapes are known already; without it it warns twice."""


def core_of(graph: GraphProto) -> set[str]:
    """Names of the nodes between the first and the last weighted one on any path, both included.

    A node that gives one of the graph's outputs is none of them, nor is what reads a foreign net:
    its logarithms of small numbers, and a head that costs nothing.
    """
    nodes = [node for node in graph.node if not node.name.startswith(TAIL)]
    reached, after = set[str](), set[str]()
    for node in nodes:
        if node.op_type in WEIGHTED or after.intersection(node.input):
            reached.add(node.name)
            after.update(node.output)
    core, before = set[str](), set[str]()
    outputs = {output.name for output in graph.output}
    for node in reversed(nodes):
        if node.op_type in WEIGHTED or before.intersection(node.output):
            before.update(node.input)
            if not outputs.intersection(node.output):
                core.add(node.name)
    return core & reached


def read_out_of(graph: GraphProto) -> set[str]:
    """Names of the loss head's fully connected layers, and of what nothing but them reads.

    Their input puts peaks from 0 to 1 beside features of any size: in eight bits little is left of
    the peaks. And they cost nothing.
    """
    outputs = {output.name for output in graph.output}
    readers: dict[str, list[str]] = {}
    found = set[str]()
    for node in reversed(graph.node):
        connected = node.op_type in ("Gemm", "MatMul")
        if connected and any(name.startswith("head.") for name in node.input):
            found.add(node.name)
        elif node.op_type not in WEIGHTED and not outputs.intersection(node.output):
            reading = [reader for name in node.output for reader in readers.get(name, [])]
            if reading and found.issuperset(reading):
                found.add(node.name)
        for name in node.input:
            readers.setdefault(name, []).append(node.name)
    return found


def to_fp16(model: ModelProto) -> ModelProto:
    """A copy whose core computes in fp16."""
    half = ModelProto()
    half.CopyFrom(model)
    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    _Halving(half.graph, _floats(model), core_of(model.graph), opset).run()
    onnx.checker.check_model(half, full_check=True)
    return half


def _floats(model: ModelProto) -> set[str]:
    """Names of all float32 tensors."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.input, *graph.output, *graph.value_info)
    floats = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    return floats | {t.name for t in graph.initializer if t.data_type == TensorProto.FLOAT}


class _Halving:
    """Rewrites one graph: weights of the core in fp16, a cast wherever core and ends meet."""

    def __init__(self, graph: GraphProto, floats: set[str], core: set[str], opset: int) -> None:
        self._graph, self._floats, self._core, self._opset = graph, floats, core, opset
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._halves = {name for n in graph.node if n.name in core for name in n.output}
        self._nodes: list[NodeProto] = []
        self._made: dict[str, TensorProto | None] = {}

    def run(self) -> None:
        for node in list(self._graph.node):
            for place, name in enumerate(node.input):
                if name in self._floats:
                    node.input[place] = self._input_of(node, place, name)
            if node.name in self._core and node.op_type == "Cast":
                _cast_to_half(node)
            self._nodes.append(node)
        used = {name for node in self._nodes for name in node.input}
        made = [tensor for tensor in self._made.values() if tensor is not None]
        kept = [t for t in (*self._weights.values(), *made) if t.name in used]
        for field, content in (("node", self._nodes), ("initializer", kept), ("value_info", ())):
            del getattr(self._graph, field)[:]
            getattr(self._graph, field).extend(content)

    def _input_of(self, node: NodeProto, place: int, name: str) -> str:
        """The name under which a node finds a float input in its own precision."""
        wants_half = node.name in self._core and _takes_half(node, place, self._opset)
        if wants_half == (name in self._halves):
            return name
        made = f"{name}_fp16" if wants_half else f"{name}_fp32"
        if made not in self._made:
            self._made[made] = self._make(name, made, wants_half)
        return made

    def _make(self, name: str, made: str, half: bool) -> TensorProto | None:
        if name in self._weights:
            # Out of range becomes infinite, and the gate then says so.
            with np.errstate(over="ignore"):
                values = numpy_helper.to_array(self._weights[name]).astype(np.float16)
            return numpy_helper.from_array(values, made)
        to = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        self._nodes.append(helper.make_node("Cast", [name], [made], name=f"cast_{made}", to=to))
        return None


def _takes_half(node: NodeProto, place: int, opset: int) -> bool:
    """Whether the operator allows fp16 there; the scales of a Resize, for one, stay float."""
    schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    kind = schema.inputs[min(place, len(schema.inputs) - 1)].type_str
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    return "tensor(float16)" in allowed.get(kind, [kind])


def _cast_to_half(node: NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16


@dataclass(frozen=True, slots=True)
class _Scheme:
    """How one kind of int8 is made."""

    layers: tuple[str, ...]
    """Operators that round by themselves."""
    followers: tuple[str, ...]
    """Operators that go on in int8 where what comes in is int8 already."""
    activations: QuantType
    options: dict[str, Any]


_MULTIPLIED = ("Conv", "Gemm", "MatMul")
_SCHEMES: dict[str, _Scheme] = {
    # What stands between two convolutions stays in int8 too: each way back to float costs time.
    "int8": _Scheme(
        layers=(*_MULTIPLIED, "Add"),
        followers=("Relu", "Clip", "MaxPool", "Resize", "Concat"),
        activations=QuantType.QUInt8,
        options={},
    ),
    # TensorRT fuses what stands between by itself and wants scales on a layer's inputs alone.
    "int8-trt": _Scheme(
        layers=_MULTIPLIED,
        followers=(),
        activations=QuantType.QInt8,
        options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "AddQDQPairToWeight": True,
            "OpTypesToExcludeOutputQuantization": list(_MULTIPLIED),
        },
    ),
}


class Quantiser:
    """Makes int8 graphs of one fp32 graph, from ranges that are measured once."""

    def __init__(
        self, model: ModelProto, precision: str, images: NDArray[np.uint8], scratch: Path
    ) -> None:
        """Prepare; ranges are measured by the first call of ``quantise``.

        Args:
            model: the fp32 graph.
            precision: ``int8`` or ``int8-trt``.
            images: crops (N, H, W, 3) whose activations set the ranges.
            scratch: a folder for what lies about meanwhile.

        Raises:
            EngineError: onnxruntime is too old.
        """
        _check_version()
        self._scheme = _SCHEMES[precision]
        self._images, self._scratch = images, scratch
        self._source = ModelProto()
        self._source.CopyFrom(model)
        self._core = core_of(model.graph) - read_out_of(model.graph)

    @property
    def layers(self) -> list[str]:
        """Names of the nodes that round, in the graph's order."""
        nodes = self._source.graph.node
        return [n.name for n in nodes if n.name in self._core and n.op_type in self._scheme.layers]

    def quantise(self, target: Path, layers: Collection[str] | None = None) -> None:
        """Write a graph in which these layers compute in int8, and what follows them.

        Args:
            target: the file.
            layers: some of ``layers``; None for all.
        """
        chosen = set(self.layers if layers is None else layers)
        followers = {
            node.name
            for node in self._source.graph.node
            if node.name in self._core and node.op_type in self._scheme.followers
        }
        source = self._scratch / "source.onnx"
        model = ModelProto()
        model.CopyFrom(self._source)
        helper.set_model_props(model, dict([_PREPARED]))
        onnx.save_model(onnx.shape_inference.infer_shapes(model), source)
        quantize_static(
            source,
            target,
            _Reader(self._images, batch_of(self._source)),
            op_types_to_quantize=[*self._scheme.layers, *self._scheme.followers],
            per_channel=True,
            activation_type=self._scheme.activations,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=sorted(chosen | followers),
            extra_options=self._scheme.options,
            calibration_cache_path=self._scratch / "ranges.json",
        )
        _tidy(target, self._source)


def _check_version() -> None:
    if "calibration_cache_path" not in signature(quantize_static).parameters:
        raise EngineError(
            f"onnxruntime is {onnxruntime.__version__}; expected one that keeps the ranges "
            "of a calibration, such as 1.31, to make int8. Run: pip install -U onnxruntime"
        )


def batch_of(model: ModelProto) -> int:
    """How many crops a graph is given at a time: BATCH, or its own number where that is fixed."""
    return model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or BATCH


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Hands images to onnxruntime's calibration."""

    def __init__(self, images: NDArray[np.uint8], batch: int) -> None:
        starts = range(0, len(images), batch)
        self._batches: Iterator[NDArray[np.uint8]] = (images[s : s + batch] for s in starts)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"image": batch}


def _tidy(path: Path, source: ModelProto) -> None:
    """Give a quantised file the header of its source: versions, and what it says of itself."""
    model = onnx.load(path)
    model.ir_version = source.ir_version
    used = {node.domain for node in model.graph.node}
    opsets = [entry for entry in model.opset_import if entry.domain in used]
    for field, content in (("opset_import", opsets), ("metadata_props", source.metadata_props)):
        copies = list(content)
        del getattr(model, field)[:]
        getattr(model, field).extend(copies)
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, path)


def layer_name(model: ModelProto, node_name: str) -> str:
    """What a person calls a layer: by its weights, else by its node."""
    node = next(node for node in model.graph.node if node.name == node_name)
    weights = {tensor.name for tensor in model.graph.initializer}
    named = [n for n in node.input if n in weights and n.endswith(".weight")]
    return named[0].removeprefix("network.").removesuffix(".weight") if named else node_name
