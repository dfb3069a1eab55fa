"""TensorRT parses every pose net and builds an engine of it, in each precision and without a GPU.

Whether an engine answers right, only a GPU tells; the bundle's self-check asks it there.
"""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from export.helpers import NETS
from export.nets import exported
from misgiving.runtime.engines.builder import Network, build_plan, find_library
from misgiving.runtime.engines.cache import Profile
from misgiving.runtime.engines.cuda import Gpu

tensorrt_rtx = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")


def to_fp16(model: ModelProto) -> ModelProto:
    """A copy whose convolutions with fixed weights compute in fp16."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        fixed = node.op_type == "Conv" and all(name in weights for name in node.input[1:])
        nodes += _in_half(node, weights) if fixed else [node]
    graph = helper.make_graph(
        nodes, "half", model.graph.input, model.graph.output, list(weights.values())
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _in_half(node: NodeProto, weights: dict[str, TensorProto]) -> list[NodeProto]:
    inputs, (output,) = list(node.input), node.output
    for name in inputs[1:]:
        half = numpy_helper.to_array(weights[name]).astype(np.float16)
        weights[f"{name}/half"] = numpy_helper.from_array(half, f"{name}/half")
    conv = NodeProto()
    conv.CopyFrom(node)
    conv.input[:] = [f"{output}/in", *(f"{name}/half" for name in inputs[1:])]
    conv.output[:] = [f"{output}/half"]
    return [
        helper.make_node("Cast", inputs[:1], [f"{output}/in"], to=TensorProto.FLOAT16),
        conv,
        helper.make_node("Cast", [f"{output}/half"], [output], to=TensorProto.FLOAT),
    ]


class Reader(CalibrationDataReader):
    def __init__(self, images: NDArray[np.uint8]) -> None:
        self.batches = iter([images])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        images = next(self.batches, None)
        return None if images is None else {"image": images}


def write_int8(model: Path, images: NDArray[np.uint8], target: Path) -> None:
    """The form that TensorRT parses: symmetric, weights in Q/DQ, no quantised bias."""
    quantize_static(
        model,
        target,
        Reader(images),
        op_types_to_quantize=["Conv"],
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "AddQDQPairToWeight": True,
        },
    )


def in_precision(name: str, precision: str, root: Path) -> Path:
    _, file, crops = exported(name, root)
    if precision == "fp32":
        return file
    target = root / f"{name}.{precision}.onnx"
    if precision == "fp16":
        onnx.save(to_fp16(onnx.load(file)), target)
    else:
        write_int8(file, crops[:2], target)
    return target


PROFILES = {
    "fp32": Profile(),
    # A fixed batch takes half the time to build for.
    "fp16": Profile(1, 1, 1),
    "int8-trt": Profile(2, 2, 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("precision", PROFILES)
@pytest.mark.parametrize("name", NETS)
def test_every_net_builds(
    name: str, precision: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = in_precision(name, precision, tmp_path_factory.getbasetemp())
    size = NETS[name].input_size
    network = Network(file, precision, size, size, PROFILES[precision])
    for architecture in ("SM86", "SM120"):
        gpu = Gpu("Pretended", architecture, "CUDA 13.0")
        plan = build_plan(find_library(), network, gpu, tmp_path, lambda share, what: None)
        assert len(plan) > 100_000
