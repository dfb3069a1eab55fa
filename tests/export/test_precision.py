"""What lies in the files: which part is fp16, which numbers are whole, and of which kind."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from misgiving.export import precision
from misgiving.export.precision import (
    WEIGHTED,
    Quantiser,
    core_of,
    layer_name,
    read_out_of,
    to_fp16,
)
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.engines.onnx import OnnxEngine
from misgiving.runtime.errors import EngineError

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> ModelProto:
    return onnx.load(bundle.model)


def quantised(model: ModelProto, kind: str, folder: Path) -> ModelProto:
    Quantiser(model, kind, IMAGES, folder).quantise(folder / "lower.onnx")
    return onnx.load(folder / "lower.onnx")


def weights_of(model: ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def makers_of(model: ModelProto) -> dict[str, NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}


def test_the_core_has_all_layers_and_no_end(model: ModelProto) -> None:
    core = core_of(model.graph)
    inside = {node.op_type for node in model.graph.node if node.name in core}
    outside = {node.op_type for node in model.graph.node if node.name not in core}
    assert set(WEIGHTED).isdisjoint(outside)
    # normalisation, decoding, free scores
    assert inside.isdisjoint({"Sub", "Transpose", "Log", "ArgMax", "Softmax", "TopK", "Div"})


def test_fp16_is_the_core_alone(model: ModelProto) -> None:
    core, half = core_of(model.graph), onnx.shape_inference.infer_shapes(to_fp16(model))
    types = {v.name: v.type.tensor_type.elem_type for v in half.graph.value_info}
    for node in model.graph.node:
        kinds = {types[name] for name in node.output if name in types}
        assert (TensorProto.FLOAT16 in kinds) == (node.name in core), node.name
    layers = (node for node in half.graph.node if node.op_type in WEIGHTED)
    named = weights_of(half)
    assert all(named[layer.input[1]].dtype == np.float16 for layer in layers)


def test_fp16_casts_only_where_core_and_ends_meet(model: ModelProto) -> None:
    """Into the stem, and out to embedding, heatmaps and score."""
    casts = [node for node in to_fp16(model).graph.node if node.name.startswith("cast_")]
    assert 2 <= len(casts) <= 6


def test_an_operator_that_keeps_a_float_input() -> None:
    """A Resize between two convolutions, whose scales may not be fp16, and a Cast to float."""
    weight = numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "w")
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="a"),
        helper.make_node("Resize", ["a", "", "scales"], ["b"], name="b"),
        helper.make_node("Cast", ["b"], ["c"], name="c", to=TensorProto.FLOAT),
        helper.make_node("Conv", ["c", "w"], ["d"], name="d"),
        helper.make_node("Mul", ["d", "w"], ["y"], name="y"),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, size, size])
        for name, size in (("x", 4), ("y", 8))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight, scales])
    half = to_fp16(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))
    assert core_of(graph) == {"a", "b", "c", "d"}
    named = weights_of(half)
    # The Mul at the end needs the same weight in float.
    assert {name: str(value.dtype) for name, value in named.items()} == {
        "w": "float32",
        "scales": "float32",
        "w_fp16": "float16",
    }
    cast = makers_of(half)["c"]
    assert cast.attribute[0].i == TensorProto.FLOAT16


def test_an_output_that_a_layer_goes_on_from() -> None:
    """As the head does from the embedding: it is given in float, and cast for the layer."""
    weight = numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="a"),
        helper.make_node("Relu", ["a"], ["embedding"], name="b"),
        helper.make_node("Conv", ["embedding", "w"], ["c"], name="c"),
        helper.make_node("Neg", ["c"], ["y"], name="d"),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 4, 4])
        for name in ("x", "embedding", "y")
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])
    half = to_fp16(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))
    assert core_of(graph) == {"a", "c"}
    assert list(half.graph.output) == ends[1:]
    assert makers_of(half)["embedding"].input[0] == "a_fp32"
    assert makers_of(half)["c"].input[0] == "embedding_fp16"


def test_what_the_loss_head_reads_out(model: ModelProto) -> None:
    """Its fully connected layers and what is between them, not the convolutions before: those, and
    whatever something else reads, go into int8."""
    nodes = {node.name: node for node in model.graph.node}
    found = read_out_of(model.graph)
    kinds = [nodes[name].op_type for name in found]
    connected = [n for n in nodes.values() if n.op_type == "Gemm"]
    assert kinds.count("Gemm") == len(connected) > 1
    assert "Conv" not in kinds
    outside = {name for node in nodes.values() if node.name not in found for name in node.input}
    first = connected[0].name
    for name in found - {connected[-1].name}:
        assert not outside.intersection(nodes[name].output), name
    assert not found.intersection(Quantiser(model, "int8", np.empty(0), Path()).layers)
    assert first in core_of(model.graph)


def scales_and_zeros(model: ModelProto, kind: str) -> list[tuple[np.ndarray, np.ndarray]]:
    named = weights_of(model)
    return [
        (named[node.input[1]], named[node.input[2]])
        for node in model.graph.node
        if node.op_type == kind
    ]


@pytest.mark.parametrize("kind", ["fp16", "int8"])
def test_a_graph_of_one_crop_at_a_time(model: ModelProto, kind: str, tmp_path: Path) -> None:
    """Lowered, it still takes one; int8's calibration hands it no more."""
    single = ModelProto()
    single.CopyFrom(model)
    for value in (*single.graph.input, *single.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    lower = to_fp16(single) if kind == "fp16" else quantised(single, kind, tmp_path)
    engine = OnnxEngine(lower.SerializeToString())
    assert (engine.max_batch, len(engine.infer(IMAGES[:3]))) == (1, 3)


def test_int8_for_cpus(model: ModelProto, tmp_path: Path) -> None:
    """Unsigned activations; signed weights, a scale for each output channel."""
    lower = quantised(model, "int8", tmp_path)
    named = weights_of(lower)
    assert {str(z.dtype) for _, z in scales_and_zeros(lower, "QuantizeLinear")} == {"uint8"}
    makers, seen = makers_of(lower), 0
    for node in lower.graph.node:
        if node.op_type == "Conv":
            values, scale = (named[name] for name in makers[node.input[1]].input[:2])
            assert values.dtype == np.int8
            assert scale.shape == values.shape[:1]
            seen += 1
    assert seen == sum(node.op_type == "Conv" for node in model.graph.node)


def test_int8_for_tensorrt(model: ModelProto, tmp_path: Path) -> None:
    """Signed and symmetric throughout; weights go through Q and DQ; no bias is quantised."""
    lower = quantised(model, "int8-trt", tmp_path)
    named, makers = weights_of(lower), makers_of(lower)
    for kind in ("QuantizeLinear", "DequantizeLinear"):
        for _, zero in scales_and_zeros(lower, kind):
            assert zero.dtype == np.int8
            assert not zero.any()
    for node in lower.graph.node:
        if node.op_type == "Conv":
            dequantise = makers[node.input[1]]
            quantise = makers[dequantise.input[0]]
            assert (dequantise.op_type, quantise.op_type) == ("DequantizeLinear", "QuantizeLinear")
            assert named[quantise.input[0]].dtype == np.float32
            assert named[quantise.input[1]].size > 1 or len(named[quantise.input[0]]) == 1
            assert named[node.input[2]].dtype == np.float32


def test_some_layers_alone(model: ModelProto, tmp_path: Path) -> None:
    quantiser = Quantiser(model, "int8-trt", IMAGES, tmp_path)
    chosen = quantiser.layers[3]
    quantiser.quantise(tmp_path / "one.onnx", [chosen])
    one = onnx.load(tmp_path / "one.onnx")
    touched = {n.name for n in one.graph.node if any("Linear_Output" in i for i in n.input)}
    assert {name for name in touched if "Linear" not in name} == {chosen}


def test_an_onnxruntime_that_is_too_old(
    model: ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "quantize_static", lambda source, target, reader: None)
    with pytest.raises(EngineError, match=r"onnxruntime is \d.*Run: pip install -U onnxruntime"):
        Quantiser(model, "int8", IMAGES, tmp_path)


def test_what_a_layer_is_called(model: ModelProto) -> None:
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    addition = next(node for node in model.graph.node if node.op_type == "Add")
    assert layer_name(model, first.name) == "pose.stem.0"
    assert layer_name(model, addition.name) == addition.name
