"""A foreign graph with just the outputs that are asked for."""

from collections.abc import Sequence

import onnx
from onnx import helper

from misgiving.trainer.foreign.reading import Graph
from misgiving.trainer.foreign.shapes import inner_tensors, look_up, needed_for, reads


def with_outputs(graph: Graph, names: Sequence[str]) -> onnx.ModelProto:
    """The model with just these outputs, in this order, and nothing that they do not need.

    Args:
        graph: stays as it is.
        names: of outputs or of inner tensors, each once.

    Raises:
        InvalidInput: there is no tensor of such a name.
    """
    known = inner_tensors(graph.model)
    own = {one.name: one for one in graph.model.graph.output}
    outputs = []
    for name in names:
        inner = look_up(name, known, f"{graph.name} has no tensor")
        told = helper.make_tensor_value_info(name, inner.kind, inner.shape)
        outputs.append(own.get(name, told))
    nodes = needed_for(graph.model, names)
    used = {name for node in nodes for name in reads(node)} | set(names)
    return _made_of(graph.model, nodes, outputs, used)


def _made_of(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    outputs: Sequence[onnx.ValueInfoProto],
    used: set[str],
) -> onnx.ModelProto:
    """The same model of fewer parts."""
    old = model.graph
    new = onnx.GraphProto(name=old.name)
    new.node.extend(nodes)
    new.input.extend(one for one in old.input if one.name in used)
    new.output.extend(outputs)
    new.initializer.extend(one for one in old.initializer if one.name in used)
    new.sparse_initializer.extend(one for one in old.sparse_initializer if one.values.name in used)
    new.value_info.extend(one for one in old.value_info if one.name in used)
    result = onnx.ModelProto(ir_version=model.ir_version, graph=new)
    result.opset_import.extend(model.opset_import)
    return result
