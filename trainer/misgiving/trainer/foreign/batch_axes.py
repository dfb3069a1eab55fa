"""Where the batch lies in each tensor of a graph whose batch is one.

Axes: counted from 0; a batch that is merged with another size lies in theirs, outermost.
"""

import math
from collections.abc import Iterable

import onnx

from misgiving.trainer.foreign.reading import Shape
from misgiving.trainer.foreign.shapes import Inner

_RESHAPING = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def batch_axes(model: onnx.ModelProto, known: dict[str, Inner], start: str) -> dict[str, int]:
    """The axis of each tensor that depends on an input, as well as it can be followed.

    Args:
        model: of fixed sizes.
        known: its tensors.
        start: the input, whose batch comes first.
    """
    axes = {start: 0}
    for node in model.graph.node:
        source = next((name for name in node.input if name in axes), None)
        if source is not None:
            before = known[source].shape if source in known else ()
            for name in filter(None, node.output):
                after = known[name].shape if name in known else before
                axes[name] = _after(node, axes[source], before, after)
    return axes


def _after(node: onnx.NodeProto, axis: int, before: Shape, after: Shape) -> int:
    if node.op_type == "Transpose":
        order = _attribute(node, "perm", range(len(before))[::-1])
        return order.index(axis) if axis in order else axis
    if node.op_type in _RESHAPING:
        return _same_place(axis, before, after)
    if node.op_type == "Gather" and len(after) < len(before):
        (taken,) = _attribute(node, "axis", [0])
        return axis - (taken % len(before) < axis)
    return axis + max(0, len(after) - len(before))  # broadcasting adds axes in front


def _same_place(axis: int, before: Shape, after: Shape) -> int:
    """The axis before which as many numbers lie as before the batch."""
    outer = math.prod(size or 1 for size in before[:axis])
    steps = [math.prod(size or 1 for size in after[:place]) for place in range(len(after))]
    return steps.index(outer) if outer in steps else 0


def _attribute(node: onnx.NodeProto, name: str, default: Iterable[int]) -> list[int]:
    found = next((one for one in node.attribute if one.name == name), None)
    if found is None:
        return list(default)
    return list(found.ints) or [found.i]
