"""A foreign graph of one image made to take several, where that can be proven.

Axes: B batch.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer.foreign.batch_axes import batch_axes
from misgiving.trainer.foreign.reading import shape_of
from misgiving.trainer.foreign.running import Arrays, run, session_of
from misgiving.trainer.foreign.shapes import Inner, forget_shapes, inner_tensors

BATCH = "batch"
TOLERANCE = 1e-4
"""Largest difference of a batch from single images, as a share of the output's range."""
_AMPLITUDES = (1.0, 20.0, 255.0)
"""Of the three images of the proof: what nets take lies between."""


def free_batch(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The model with a free batch, which a run of three different images has proven.

    Constant targets of Reshape, and constant sizes of Resize, lose their batch of one; what is
    joined to an image is repeated. A graph whose batch is free already is returned as it is.

    Args:
        model: of one image input whose other sizes are known; all its outputs count.

    Returns:
        None where three images in one batch do not give what each gives alone.
    """
    (image,) = model.graph.input
    freed = model if (shape_of(image) or (1,))[0] is None else _freed(model)
    return freed if _is_proven(freed, model) else None


def _freed(model: onnx.ModelProto) -> onnx.ModelProto:
    known = inner_tensors(model)
    new = onnx.ModelProto()
    new.CopyFrom(model)
    (image,) = new.graph.input
    dependent = batch_axes(new, known, image.name)
    image.type.tensor_type.shape.dim[0].dim_param = BATCH
    constants = _constants(new)
    nodes = []
    for node in new.graph.node:
        if node.op_type in ("Reshape", "Resize") and node.input[0] in dependent:
            _adapt(new.graph, node, known, constants, dependent)
        elif node.op_type == "Concat" and node.output[0] in dependent:
            nodes += _repeat_constants(new.graph, node, known, dependent)
        nodes.append(node)
    del new.graph.node[:]
    new.graph.node.extend(nodes)
    forget_shapes(new)
    _declare(new, known, dependent)
    return new


def _declare(model: onnx.ModelProto, known: dict[str, Inner], dependent: Mapping[str, int]) -> None:
    """The outputs' sizes as they were, but for the first."""
    for output in model.graph.output:
        dims = output.type.tensor_type.shape.dim
        for dim, size in zip(dims, known[output.name].shape, strict=True):
            if size is not None:
                dim.dim_value = size
        if dims and output.name in dependent:
            dims[0].dim_param = BATCH


def _constants(model: onnx.ModelProto) -> dict[str, NDArray[np.generic]]:
    found = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def _adapt(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    known: dict[str, Inner],
    constants: dict[str, NDArray[np.generic]],
    dependent: Mapping[str, int],
) -> None:
    """Take the batch out of a constant target; what is computed in the graph stays."""
    place = 1 if node.op_type == "Reshape" else 3
    name = node.input[place] if len(node.input) > place else ""
    inner, axis = known.get(node.output[0]), dependent.get(node.output[0])
    if name not in constants or inner is None or axis is None or None in inner.shape:
        return
    sizes = [size for size in inner.shape if size is not None]
    if node.op_type == "Reshape":
        target = [*sizes[:axis], -1, *sizes[axis + 1 :]]
        node.input[place] = _added(graph, f"{node.output[0]}/shape", target)
    elif axis == 0 and len(constants[name]) == len(sizes):  # else it says its axes itself
        node.input[place] = _added(graph, f"{node.output[0]}/sizes", sizes[1:])
        node.attribute.append(helper.make_attribute("axes", range(1, len(sizes))))


def _repeat_constants(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    known: dict[str, Inner],
    dependent: Mapping[str, int],
) -> list[onnx.NodeProto]:
    """What is joined to each image, as a class token, is repeated for each: the nodes for it."""
    rank = len(known[node.output[0]].shape) if node.output[0] in known else 0
    axis = next(one.i for one in node.attribute if one.name == "axis")
    if rank < 2 or axis in (0, -rank) or dependent[node.output[0]] != 0:
        return []
    made = []
    for place, name in enumerate(node.input):
        if name not in dependent:
            once = f"{node.output[0]}/{place}"
            ones = _added(graph, f"{once}/ones", [1] * (rank - 1))
            made += [
                helper.make_node("Shape", [graph.input[0].name], [f"{once}/batch"], start=0, end=1),
                helper.make_node("Concat", [f"{once}/batch", ones], [f"{once}/shape"], axis=0),
                helper.make_node("Expand", [name, f"{once}/shape"], [f"{once}/repeated"]),
            ]
            node.input[place] = f"{once}/repeated"
    return made


def _added(graph: onnx.GraphProto, name: str, sizes: list[int]) -> str:
    """A constant of its own: the old one may have other readers."""
    graph.initializer.append(numpy_helper.from_array(np.array(sizes, np.int64), name))
    return name


def _is_proven(freed: onnx.ModelProto, original: onnx.ModelProto) -> bool:
    (image,) = original.graph.input
    shape = (1, *(size or 1 for size in (shape_of(image) or ())[1:]))
    random = np.random.default_rng(0)
    kind = helper.tensor_dtype_to_np_dtype(image.type.tensor_type.elem_type)
    crops = [(size * random.random(shape)).astype(kind) for size in _AMPLITUDES]
    alone = session_of(original, "the graph")
    singles = [run(alone, "the graph", {image.name: crop}) for crop in crops]
    try:
        several = session_of(freed, "the graph with a free batch")
        together = run(several, "the graph with a free batch", {image.name: np.concatenate(crops)})
    except InvalidInput:
        return False
    return all(_is_same(name, together, singles) for name in together)


def _is_same(name: str, together: Arrays, singles: list[Arrays]) -> bool:
    if any(one[name].ndim == 0 or len(one[name]) != 1 for one in singles):
        return False
    got = together[name].astype(np.float64)
    wanted = np.concatenate([one[name] for one in singles]).astype(np.float64)
    finite = wanted[np.isfinite(wanted)]
    near = TOLERANCE * float(np.ptp(finite)) if len(finite) else 0.0
    same_shape = got.shape == wanted.shape
    return same_shape and np.allclose(got, wanted, rtol=0, atol=near, equal_nan=True)
