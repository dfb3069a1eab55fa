"""Writes tiny_detector/net.onnx: python tests/shared/make_tiny_detector.py"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent / "tiny_detector"
SIZE, CELL = 64, 8


def red_cells(
    *, layout: str = "NCHW", kind: int = TensorProto.FLOAT, output: str = "cells"
) -> onnx.ModelProto:
    """A detector in FastestDet's manner: a cell is a person as far as its first channel is 1,
    half the input wide and high, and its middle is the cell's corner."""
    planes = [0, 1, 2, 3] if layout == "NCHW" else [0, 3, 1, 2]
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["real"], ["planes"], perm=planes),
        helper.make_node("Gather", ["planes", "first"], ["red"], axis=1),
        helper.make_node(
            "AveragePool", ["red"], ["sure"], kernel_shape=[CELL, CELL], strides=[CELL, CELL]
        ),
        helper.make_node("Mul", ["sure", "nothing"], ["zero"]),
        helper.make_node("Concat", ["zero", "zero", "zero", "zero"], ["box"], axis=1),
        helper.make_node("Add", ["zero", "one"], ["person"]),
        helper.make_node("Concat", ["sure", "box", "person"], [output], axis=1),
    ]
    constants = {
        "first": np.array([0]),
        "nothing": np.zeros((1, 1, 1, 1), np.float32),
        "one": np.ones((1, 1, 1, 1), np.float32),
    }
    shape = [1, 3, SIZE, SIZE] if layout == "NCHW" else [1, SIZE, SIZE, 3]
    graph = helper.make_graph(
        nodes,
        "red cells",
        [helper.make_tensor_value_info("image", kind, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, 6, None, None])],
        [numpy_helper.from_array(each, name) for name, each in constants.items()],
    )
    opset = helper.make_opsetid("", 18)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8)


if __name__ == "__main__":
    onnx.save(red_cells(), HERE / "net.onnx")
