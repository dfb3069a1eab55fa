"""What is known of a foreign graph's inner tensors: shapes, layouts, and what reads what.

Axes: N batch, C channels, H W height and width, as letters of a layout.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeVar

import onnx
from onnx import shape_inference

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer.foreign.reading import Graph, Shape, graph_of, graphs_in, shape_of
from misgiving.trainer.foreign_config import ForeignInput

T = TypeVar("T")

CHANNELS_FIRST = frozenset(
    ("Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "LRN")
    + ("MaxPool", "AveragePool", "LpPool", "DepthToSpace", "SpaceToDepth")
    + ("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool")
)
"""Operators that ONNX defines for NCHW alone."""


@dataclass(frozen=True, slots=True)
class Inner:
    """Type and shape of a tensor."""

    kind: int
    """An ``onnx.TensorProto.DataType``."""
    shape: Shape


def inner_tensors(model: onnx.ModelProto) -> dict[str, Inner]:
    """All tensors whose rank is known, by name: of inputs, nodes and outputs."""
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    values = [*graph.input, *graph.value_info, *graph.output]
    shapes = {one.name: (one.type.tensor_type.elem_type, shape_of(one)) for one in values}
    return {name: Inner(kind, shape) for name, (kind, shape) in shapes.items() if shape is not None}


def sized(graph: Graph, net_input: ForeignInput, height: int, width: int) -> Graph:
    """The same graph with the height and width of its image input filled in.

    Args:
        graph: whose input may leave them, its batch and its channels free.
        net_input: its name and layout count.
        height: px.
        width: px.

    Raises:
        InvalidInput: there is no such input, or its own size is another.
    """
    name, layout = net_input.name, net_input.layout
    sizes = {"C": 3, "H": height, "W": width}
    shape = look_up(name, graph.inputs, f"{graph.name} has no input")
    own = shape or (None,) * 4  # a rank that is not told
    wanted = tuple(sizes.get(axis, size) for axis, size in zip(layout, own, strict=False))
    if len(own) != 4 or any(a and a != b for a, b in zip(own, wanted, strict=True)):
        raise InvalidInput(
            f"{graph.name}: input {name!r} is {written(shape)}; "
            f"expected {written(wanted)}, {layout}"
        )
    if shape == wanted:
        return graph
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    set_shape(next(one for one in model.graph.input if one.name == name), wanted)
    forget_shapes(model)
    known = inner_tensors(model)
    for output in model.graph.output:
        if output.name in known:
            set_shape(output, known[output.name].shape)
    return graph_of(model, graph.name, graph.sha256, graph.converted)


def forget_shapes(model: onnx.ModelProto) -> None:
    """Drop what the file says of inner tensors, and of its outputs all but their rank."""
    del model.graph.value_info[:]
    for output in model.graph.output:
        for dim in output.type.tensor_type.shape.dim:
            dim.Clear()


def set_shape(value: onnx.ValueInfoProto, shape: Shape) -> None:
    """Write a shape; free sizes stay without a name."""
    dims = value.type.tensor_type.shape.dim
    del dims[:]
    for size in shape:
        dim = dims.add()
        if size is not None:
            dim.dim_value = size


def look_up(name: str, known: Mapping[str, T], problem: str) -> T:
    """What stands under a name.

    Raises:
        InvalidInput: nothing does; the line is ``problem``, the name, and names that look like it.
    """
    if name in known:
        return known[name]
    near = get_close_matches(name, known, cutoff=0.4) or list(known)[:3]
    raise InvalidInput(f"{problem} {name!r}; expected one of its names, such as {', '.join(near)}")


def written(shape: Iterable[int | None]) -> str:
    """As in messages: (?, 3, 256, 192)."""
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"


def reads(node: onnx.NodeProto) -> set[str]:
    """All tensors that a node needs, those that its branches take from outside among them."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for part in graphs_in(graph):
                names |= {name for inner in part.node for name in inner.input if name}
                names |= {output.name for output in part.output}
    return names


def needed_for(model: onnx.ModelProto, outputs: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes that some tensors are computed by, in the graph's order."""
    wanted, kept = set(outputs), []
    for node in reversed(model.graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= reads(node)
    return kept[::-1]


def depths(nodes: Iterable[onnx.NodeProto], start: str) -> dict[str, int]:
    """How many nodes lie between an input and each tensor that depends on it, at most."""
    deep = {start: 0}
    for node in nodes:
        above = [deep[name] for name in reads(node) if name in deep]
        if above:
            deep |= dict.fromkeys(filter(None, node.output), max(above) + 1)
    return deep


def layouts(
    model: onnx.ModelProto, known: dict[str, Inner], start: str, layout: str
) -> dict[str, str]:
    """The layout of each tensor of rank 4 whose axes can be followed from the input, or that a
    convolution reads."""
    found = {start: layout}
    for node in model.graph.node:
        if node.op_type in CHANNELS_FIRST:
            found.setdefault(node.input[0], "NCHW")  # where tokens become a picture
        told = _layout_after(node, found)
        for name in node.output if told else ():
            if name in known and len(known[name].shape) == 4:
                found[name] = told
    return found


def _layout_after(node: onnx.NodeProto, found: dict[str, str]) -> str:
    if node.op_type in CHANNELS_FIRST:
        return "NCHW"
    before = next((found[name] for name in node.input if name in found), "")
    if node.op_type == "Transpose" and before:
        order = next((list(one.ints) for one in node.attribute if one.name == "perm"), [3, 2, 1, 0])
        return "".join(before[axis] for axis in order)
    return "" if node.op_type in ("Reshape", "MatMul", "Einsum", "Gather") else before
