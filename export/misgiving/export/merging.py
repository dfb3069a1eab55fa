"""A foreign graph, its weights untouched, between what feeds it and what reads it: one model.

Front: uint8 RGB crops → what the net wants. Tail: adapter, head, signals and embedding, traced
from the same torch code that trained the head.
"""

from collections import Counter
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from misgiving.export.graph import FusedGraph
from misgiving.export.tracing import IR_VERSION, OPSET, traced
from misgiving.trainer.foreign.pose import ForeignPose
from misgiving.trainer.foreign.shapes import reads

NET = "net/"
"""Before every name of the foreign graph in the merged one."""
TAIL = "tail/"
"""Before the names of what reads it."""
_FRONT = "front/"


def merged(graph: FusedGraph, pose: ForeignPose) -> onnx.ModelProto:
    """The whole model: ``image`` (B, H, W, 3) uint8 → the graph's outputs.

    Args:
        graph: in evaluation mode, on the CPU.
        pose: its pose net.
    """
    net = onnx.compose.add_prefix(pose.model, NET)
    net.ir_version = IR_VERSION  # older ones read alike
    (into,), raw = net.graph.input, [output.name for output in net.graph.output]
    front = _front(pose, into.type.tensor_type.elem_type)
    fed = onnx.compose.merge_models(front, net, [(_FRONT + "prepared", into.name)])
    tail = onnx.compose.add_prefix(_tail(graph, pose), TAIL)
    names = [value.name for value in tail.graph.input]
    whole = onnx.compose.merge_models(fed, tail, list(zip(raw, names, strict=True)))
    _rename(whole, {TAIL + name: name for name in graph.outputs})
    whole.graph.name = "misgiving"
    _tidy(whole)
    return whole


def _front(pose: ForeignPose, kind: int) -> onnx.ModelProto:
    """From crops to the net's input of an ONNX element type."""
    rule, channels_last = pose.rule, pose.config.input.layout == "NHWC"
    reordered = pose.config.input.colour == "BGR"
    batch = 1 if pose.one_by_one else "batch"
    net = _Chain("image")
    # Planes change places faster than the three bytes of every pixel do; the two turns of a net
    # that takes pixels meet its own, and ONNX Runtime takes both away.
    turned = reordered or not channels_last
    if turned:
        net.add("Transpose", perm=[0, 3, 1, 2])
    if reordered:
        net.add("Gather", np.array([2, 1, 0], np.int64), axis=1)
    net.add("Cast", to=TensorProto.FLOAT)
    shape = (3, 1, 1) if turned else (3,)
    mean, std = pose.config.input.mean, pose.config.input.std
    if any(mean):
        net.add("Sub", np.array(mean, np.float32).reshape(shape))
    if any(each != 1 for each in std):
        net.add("Div", np.array(std, np.float32).reshape(shape))
    if turned and channels_last:
        net.add("Transpose", perm=[0, 2, 3, 1])
    if kind != TensorProto.FLOAT:
        net.add("Cast", to=kind)
    size = [rule.height, rule.width]
    shape_out = [batch, *size, 3] if channels_last else [batch, 3, *size]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, *size, 3])
    return net.model(image, helper.make_tensor_value_info(_FRONT + "prepared", kind, shape_out))


class _Chain:
    """Nodes, each of which takes what the one before gives."""

    def __init__(self, first: str) -> None:
        self.last = first
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, operator: str, constant: NDArray[Any] | None = None, **attributes: Any) -> None:
        inputs, name = [self.last], f"{_FRONT}{len(self.nodes)}"
        if constant is not None:
            self.constants.append(numpy_helper.from_array(constant, f"{name}/constant"))
            inputs.append(f"{name}/constant")
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        self.last = name

    def model(self, first: onnx.ValueInfoProto, last: onnx.ValueInfoProto) -> onnx.ModelProto:
        self.nodes[-1].output[0] = last.name
        graph = helper.make_graph(self.nodes, "front", [first], [last], self.constants)
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)


class _Tail(nn.Module):
    """What reads the foreign graph's outputs and taps."""

    def __init__(self, graph: FusedGraph, pose: ForeignPose) -> None:
        super().__init__()
        self.fused = graph  # "graph" is a word of torch.export
        self.pose = pose

    def forward(self, *outputs: Tensor) -> dict[str, Tensor]:
        return self.fused.said(self.pose.read(outputs))


def _tail(graph: FusedGraph, pose: ForeignPose) -> onnx.ModelProto:
    count = 1 if pose.one_by_one else 2
    crops = torch.zeros(count, 3, pose.rule.height, pose.rule.width)
    examples = {f"raw{i}": one for i, one in enumerate(pose.run(crops))}
    tail = traced(_Tail(graph, pose).eval(), examples, graph.outputs, not pose.one_by_one)
    _pool_whole(tail, {(tap.height, tap.width) for tap in pose.config.taps})
    return tail


def _pool_whole(tail: onnx.ModelProto, sizes: set[tuple[int, ...]]) -> None:
    """Say of pools over whole maps that they are: ONNX Runtime takes half as long for these."""
    for node in tail.graph.node:
        kernel = next(
            (tuple(each.ints) for each in node.attribute if each.name == "kernel_shape"), ()
        )
        if node.op_type in ("MaxPool", "AveragePool") and kernel in sizes:
            node.op_type = f"Global{node.op_type}"
            del node.attribute[:]


def _tidy(model: onnx.ModelProto) -> None:
    """Name every opset once, and every node by a name of its own: who quantises needs both; and
    keep no constant that nobody reads any more, of which ONNX Runtime would warn."""
    opsets = {entry.domain: entry for entry in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(opsets.values())
    names = Counter(node.name for node in model.graph.node)
    for place, node in enumerate(model.graph.node):
        if not node.name or names[node.name] > 1:
            node.name = f"{NET}{node.op_type}#{place}"
    used = {name for node in model.graph.node for name in reads(node)}
    constants = [one for one in model.graph.initializer if one.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants)


def _rename(model: onnx.ModelProto, names: dict[str, str]) -> None:
    """Give outputs other names; nothing else in the model may have them."""
    for node in model.graph.node:
        node.output[:] = [names.get(name, name) for name in node.output]
        node.input[:] = [names.get(name, name) for name in node.input]
    for value in (*model.graph.output, *model.graph.value_info):
        value.name = names.get(value.name, value.name)
