"""The graph of somebody else's net, read from one ONNX file and made of one kind.

What is asked of the file: plain operators, weights inside, opset 18 or older. What is made of it:
opset 18, weights that are constants and no inputs, functions written out.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import onnx
from google.protobuf.message import DecodeError
from onnx import checker, defs, inliner, shape_inference, version_converter

from misgiving.runtime.bundles.graphfile import MAX_GRAPH_BYTES, MAX_OPSET, STANDARD
from misgiving.runtime.errors import InvalidInput

Shape = tuple[int | None, ...]
"""None where a size is free."""

IR_VERSION = 8
"""Opset 18's own; before 4 every weight is an input too."""


@dataclass(frozen=True, slots=True)
class Graph:
    """A foreign net as everything here takes it."""

    name: str
    """Of its file, for messages."""
    model: onnx.ModelProto
    """Opset 18; never changed in place."""
    sha256: str
    """Of the file as it was."""
    converted: bool
    """Whether the file was of an older opset."""
    inputs: dict[str, Shape]
    outputs: dict[str, Shape]


def read_graph(content: bytes, name: str) -> Graph:
    """An ONNX file → Graph; its weights stay bit by bit what they are.

    Args:
        content: of the file.
        name: of the file, for messages.

    Raises:
        InvalidInput: damaged or no ONNX, too large, too new, with operators of its own, with
            weights in another file, or of an older opset that cannot be converted.
    """
    if len(content) > MAX_GRAPH_BYTES:
        raise InvalidInput(
            f"{name} has {len(content):,} bytes; expected at most {MAX_GRAPH_BYTES:,}"
        )
    model = _parsed(content, name)
    _check_weights(model, name)
    model = _without_functions(model, name)
    _check_operators(model, name)
    converted = opset_of(model) < MAX_OPSET
    _tidy(model)
    if converted:
        model = _converted(model, name)
    _tell_outputs(model)
    try:
        checker.check_model(model)
    except checker.ValidationError as error:
        raise InvalidInput(f"{name} is no valid graph: {first_line(error)}") from error
    return graph_of(model, name, hashlib.sha256(content).hexdigest(), converted)


def graph_of(model: onnx.ModelProto, name: str, sha256: str, converted: bool) -> Graph:
    """A prepared model with the shapes of its ends."""
    inputs, outputs = _shapes(model.graph.input), _shapes(model.graph.output)
    return Graph(name, model, sha256, converted, inputs, outputs)


def opset_of(model: onnx.ModelProto) -> int:
    """Version of ONNX's own operators; 0 where the file says none."""
    return max((one.version for one in model.opset_import if one.domain in STANDARD), default=0)


def shape_of(value: onnx.ValueInfoProto) -> Shape | None:
    """None where the value has no known rank."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(one.dim_value or None for one in tensor.shape.dim)


def graphs_in(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all graphs in it: branches, loop bodies."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from graphs_in(inner)


def first_line(error: Exception) -> str:
    """What another library says, short."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]


def _shapes(values: Iterable[onnx.ValueInfoProto]) -> dict[str, Shape]:
    return {value.name: shape_of(value) or () for value in values}


def _parsed(content: bytes, name: str) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise InvalidInput(
            f"{name} is no ONNX file, or a damaged one; copy or export it again"
        ) from error
    if not (model.graph.node and model.graph.output and opset_of(model)):
        raise InvalidInput(f"{name} is no ONNX file, or one without nodes, outputs or opset")
    if opset_of(model) > MAX_OPSET:
        raise InvalidInput(
            f"{name} has opset {opset_of(model)}; expected at most {MAX_OPSET}. "
            f"Export the net again with opset {MAX_OPSET}"
        )
    return model


def _check_weights(model: onnx.ModelProto, name: str) -> None:
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise InvalidInput(
                f"{name} keeps {tensor.name!r} in another file; expected all weights inside. "
                "Load it with onnx.load beside its weights, and write it with onnx.save_model"
            )


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in graphs_in(model.graph):
        yield from graph.initializer
        for node in graph.node:
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)


def _without_functions(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    if not model.functions:
        return model
    try:
        return inliner.inline_local_functions(model)
    except (RuntimeError, ValueError, checker.ValidationError) as error:
        raise InvalidInput(
            f"{name} holds functions that cannot be written out: {first_line(error)}"
        ) from error


def _check_operators(model: onnx.ModelProto, name: str) -> None:
    for graph in graphs_in(model.graph):
        for node in graph.node:
            own = node.domain not in STANDARD
            if own or not defs.has(node.op_type, opset_of(model), ""):
                whose = f" of domain {node.domain!r}" if own else ""
                raise InvalidInput(
                    f"{name} has a node {node.op_type}{whose}; expected ONNX's own operators of "
                    f"opset {opset_of(model)}. Export the net without it"
                )


def _tidy(model: onnx.ModelProto) -> None:
    """Weights are no inputs, and nothing of the exporter's machine or of other domains is left."""
    version = opset_of(model)
    del model.opset_import[:], model.training_info[:]
    model.opset_import.add(domain="", version=version)
    model.ir_version = IR_VERSION
    for graph in graphs_in(model.graph):
        weights = {one.name for one in graph.initializer}
        inputs = [one for one in graph.input if one.name not in weights]
        del graph.input[:]
        graph.input.extend(inputs)
        for node in graph.node:
            node.ClearField("doc_string")
            node.ClearField("metadata_props")
            node.ClearField("domain")


def _tell_outputs(model: onnx.ModelProto) -> None:
    """The shapes of outputs that the file leaves out, as far as they follow from the nodes."""
    if all(shape_of(one) is not None for one in model.graph.output):
        return
    known = {one.name: one for one in shape_inference.infer_shapes(model).graph.output}
    for output in model.graph.output:
        output.CopyFrom(known[output.name])


def _converted(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    try:
        return version_converter.convert_version(model, MAX_OPSET)
    except (RuntimeError, version_converter.ConvertError) as error:
        said = str(error)
        operator = re.search(r"for (\w+)\s*$", said) or re.search(r"\bOp (\w+)", said)
        what = f"its {operator[1]}" if operator else first_line(error)
        raise InvalidInput(
            f"{name} has opset {opset_of(model)}, which cannot be converted to {MAX_OPSET}: "
            f"{what}. Export the net again with opset {MAX_OPSET}"
        ) from error
