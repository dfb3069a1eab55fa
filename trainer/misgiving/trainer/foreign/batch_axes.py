"""Where the batch lies in each tensor of a graph whose batch is one."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import onnx

from misgiving.trainer.foreign.reading import Shape
from misgiving.trainer.foreign.shapes import Inner

_RESHAPING = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


class Place(NamedTuple):
    """Of the batch in a tensor."""

    axis: int
    outer: int = 1
    """How many other numbers lie outside of it in the same axis, where it is merged."""


def batch_axes(model: onnx.ModelProto, known: dict[str, Inner], start: str) -> dict[str, int]:
    """The axis of each tensor that depends on an input, as well as it can be followed.

    Args:
        model: of fixed sizes.
        known: its tensors.
        start: the input, whose batch comes first.
    """
    places = {start: Place(0)}
    for node in model.graph.node:
        source = next((name for name in node.input if name in places), None)
        if source is not None:
            before = known[source].shape if source in known else ()
            for name in filter(None, node.output):
                after = known[name].shape if name in known else before
                places[name] = _after(node, places[source], before, after)
    return {name: place.axis for name, place in places.items()}


def _after(node: onnx.NodeProto, place: Place, before: Shape, after: Shape) -> Place:
    axis = place.axis
    if node.op_type == "Transpose":
        order = _attribute(node, "perm", range(len(before))[::-1])
        return place._replace(axis=order.index(axis) if axis in order else axis)
    if node.op_type in _RESHAPING:
        return _reshaped(place, before, after)
    if node.op_type == "Gather" and len(after) < len(before):
        (taken,) = _attribute(node, "axis", [0])
        return place._replace(axis=axis - (taken % len(before) < axis))
    return place._replace(axis=axis + max(0, len(after) - len(before)))  # broadcast: axes in front


def _reshaped(place: Place, before: Shape, after: Shape) -> Place:
    """As many numbers lie outside of the batch as before; features, the last axis, never hold it
    if another can."""
    outer = place.outer * math.prod(size or 1 for size in before[: place.axis])
    steps = [math.prod(size or 1 for size in after[:axis]) for axis in range(len(after))]
    held = [axis for axis, step in enumerate(steps) if step <= outer and outer % step == 0]
    axis = steps.index(outer) if outer in steps else max(held, default=0)
    if axis == len(after) - 1 > 0 and after[axis] != 1:
        axis -= 1
    return Place(axis, outer // steps[axis] if steps else 1)


def _attribute(node: onnx.NodeProto, name: str, default: Iterable[int]) -> list[int]:
    found = next((one for one in node.attribute if one.name == name), None)
    if found is None:
        return list(default)
    return list(found.ints) or [found.i]
