"""Small ONNX graphs of each kind that is met in the wild, made node by node."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from misgiving.trainer.foreign_config import ForeignInput

KEYPOINTS = 14
FLOAT = onnx.TensorProto.FLOAT


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """One node; names of tensors are parted by blanks."""
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def value(
    name: str, shape: Sequence[int | str | None] | None, kind: int = FLOAT
) -> onnx.ValueInfoProto:
    """One end of a graph."""
    return helper.make_tensor_value_info(name, kind, shape)


def weights(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Random ones of a layer, (out, in, …)."""
    numbers = np.random.default_rng(seed).standard_normal(shape)
    return (numbers / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def model(
    nodes: Sequence[onnx.NodeProto],
    image: onnx.ValueInfoProto,
    outputs: Sequence[onnx.ValueInfoProto],
    constants: dict[str, NDArray[Any]],
    opset: int = 18,
    weights_as_inputs: bool = False,
) -> onnx.ModelProto:
    """A model whose weights may be listed as inputs, as they were once."""
    inside = [numpy_helper.from_array(np.asarray(each), name) for name, each in constants.items()]
    listed = [value(each.name, each.dims, each.data_type) for each in inside]
    inputs = [image, *(listed if weights_as_inputs else [])]
    graph = helper.make_graph(nodes, "net", inputs, list(outputs), inside)
    version = 3 if weights_as_inputs else 8
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=version
    )


def heatmap_net(
    size: int | str = 32,
    *,
    opset: int = 18,
    batch: int | str = 1,
    extra: Sequence[onnx.NodeProto] = (),
    weights_as_inputs: bool = False,
) -> onnx.ModelProto:
    """NHWC: strides 2, 4 and 8, and heatmaps at 4 from the sum of the last two."""
    constants = {
        "w2": weights(4, 3, 3, 3),
        "w4": weights(8, 4, 3, 3, seed=1),
        "w8": weights(8, 8, 3, 3, seed=2),
        "wk": weights(KEYPOINTS, 8, 1, 1, seed=3),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "roi": np.zeros(0, np.float32),
    }
    half = {"strides": [2, 2], "pads": [1, 1, 1, 1]}
    nodes = [
        node("Transpose", "image", "first", perm=[0, 3, 1, 2]),
        node("Conv", "first w2", "c2", **half),
        node("Relu", "c2", "r2"),
        node("Conv", "r2 w4", "c4", **half),
        node("Relu", "c4", "r4"),
        node("Conv", "r4 w8", "c8", **half),
        node("Relu", "c8", "r8"),
        _doubled(opset),
        node("Add", "up r4", "sum"),
        node("Conv", "sum wk", "maps"),
        node("Transpose", "maps", "heat", perm=[0, 2, 3, 1]),
        node("Sigmoid", "r8", "aside"),
        *extra,
    ]
    image = value("image", [batch, size, size, 3])
    cells = size // 4 if isinstance(size, int) else None
    outputs = [
        value("aside", [batch, 8, None, None]),
        value("heat", [batch, cells, cells, KEYPOINTS]),
    ]
    return model(nodes, image, outputs, constants, opset, weights_as_inputs)


def broken() -> dict[str, onnx.ModelProto]:
    """The same with what makes it no net for us, by what that is."""
    custom = heatmap_net(extra=[node("Mystery", "r8", "m", domain="mine")])
    custom.opset_import.append(helper.make_opsetid("mine", 1))
    nan = heatmap_net()
    (last,) = [one for one in nan.graph.initializer if one.name == "wk"]
    last.CopyFrom(numpy_helper.from_array(np.full((KEYPOINTS, 8, 1, 1), np.nan, np.float32), "wk"))
    return {"custom": custom, "newer": heatmap_net(opset=19), "nan": nan}


def _doubled(opset: int) -> onnx.NodeProto:
    """r8 in twice its size, as each opset says it."""
    if opset < 9:
        return node("Upsample", "r8", "up", mode="nearest", scales=[1.0, 1.0, 2.0, 2.0])
    if opset == 9:
        return node("Upsample", "r8 scales", "up", mode="nearest")
    return node("Resize", "r8 scales" if opset == 10 else "r8 roi scales", "up", mode="nearest")


IMAGE = ForeignInput(name="image", layout="NHWC", colour="RGB", mean=(0, 0, 0), std=(255, 255, 255))
"""Of :func:`heatmap_net`."""
