"""A graph that an engine should not be given is refused before one reads it."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from misgiving.runtime.bundles import graphfile
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.graphfile import check_graph
from misgiving.runtime.bundles.locate import DEFAULT_BUNDLE
from misgiving.runtime.errors import BundleError
from misgiving.v1 import graph_pb2 as wire
from shared import tiny
from shared.single import single_graph

Change = Callable[[wire.Model], object]
GRAPH = (tiny.BUNDLE / "model.onnx").read_bytes()
MANIFEST = Bundle.load(tiny.BUNDLE).manifest
FOREIGN = wire.Node(op_type="Launch", domain="com.example")
ELSEWHERE = wire.Tensor(name="w", data_location=1)
NAMED_FILE = wire.Tensor(name="w", external_data=[wire.Opaque()])


def changed(change: Change) -> bytes:
    """The tiny graph with something else in it; what the proto does not name is kept."""
    model = wire.Model.FromString(GRAPH)
    change(model)
    return model.SerializeToString()


def inside(graph: wire.Graph, depth: int = 3) -> wire.Graph:
    """A graph in an attribute of a node of a graph …"""
    for _ in range(depth):
        graph = graph.node.add(op_type="If").attribute.add().g
    return graph


def sizes(model: wire.Model, output: str) -> wire.Shape:
    (value,) = [one for one in model.graph.output if one.name == output]
    return value.type.tensor_type.shape


def without(model: wire.Model, output: str) -> None:
    kept = [one for one in model.graph.output if one.name != output]
    del model.graph.output[:]
    model.graph.output.extend(kept)


def attribute(**fields: object) -> Change:
    def change(model: wire.Model) -> None:
        model.graph.node.add(op_type="Constant").attribute.append(wire.Attribute(**fields))

    return change


CONTRACT = "expected one input, image, uint8"
REFUSED: dict[str, tuple[Change, str]] = {
    "a newer file format": (lambda m: setattr(m, "ir_version", 10), "ir_version 10; expected"),
    "no file format": (lambda m: setattr(m, "ir_version", 0), "ir_version 0; expected"),
    "a newer opset": (lambda m: setattr(m.opset_import[0], "version", 19), "opset 19; expected"),
    "a newer opset beside": (lambda m: m.opset_import.add(version=24), "opset 24; expected"),
    "one under its long name": (
        lambda m: m.opset_import.add(domain="ai.onnx", version=24),
        "opset 24; expected",
    ),
    "no opset": (lambda m: m.ClearField("opset_import"), "opset None; expected"),
    "an operator from elsewhere": (
        lambda m: m.graph.node.append(FOREIGN),
        "a node Launch of domain 'com.example'",
    ),
    "one of onnxruntime's own": (
        lambda m: m.graph.node.add(op_type="Gelu", domain="com.microsoft"),
        "domain 'com.microsoft'",
    ),
    "one in a branch": (lambda m: inside(m.graph).node.append(FOREIGN), "com.example"),
    "one in one of many branches": (
        lambda m: attribute(graphs=[wire.Graph(), wire.Graph(node=[FOREIGN])])(m),
        "com.example",
    ),
    "a function": (lambda m: m.functions.add(), "functions or training graphs"),
    "a training graph": (lambda m: m.training_info.add(), "functions or training graphs"),
    "weights elsewhere": (lambda m: m.graph.initializer.append(ELSEWHERE), "'w' in another file"),
    "a file's name": (lambda m: m.graph.initializer.append(NAMED_FILE), "'w' in another file"),
    "weights elsewhere in a branch": (
        lambda m: inside(m.graph).initializer.append(ELSEWHERE),
        "'w' in another file",
    ),
    "in a constant": (attribute(t=ELSEWHERE), "'w' in another file"),
    "in a list": (attribute(tensors=[wire.Tensor(), ELSEWHERE]), "'w' in another file"),
    "in a sparse constant": (
        attribute(sparse_tensor=wire.SparseTensor(values=ELSEWHERE)),
        "'w' in another file",
    ),
    "in a list of sparse ones": (
        attribute(sparse_tensors=[wire.SparseTensor(indices=ELSEWHERE)]),
        "'w' in another file",
    ),
    "in sparse weights": (
        lambda m: m.graph.sparse_initializer.add(indices=ELSEWHERE),
        "'w' in another file",
    ),
    "another input": (lambda m: setattr(m.graph.input[0], "name", "pixels"), CONTRACT),
    "an input with a name of two lines": (
        lambda m: setattr(m.graph.input[0], "name", "a\nb"),
        r"takes a\nb; expected one input",
    ),
    "two inputs": (lambda m: m.graph.input.append(m.graph.input[0]), CONTRACT),
    "no input": (lambda m: m.graph.ClearField("input"), CONTRACT),
    "an input of floats": (
        lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 1),
        CONTRACT,
    ),
    "an input of another size": (
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 64),
        CONTRACT,
    ),
    "channels first": (
        lambda m: m.graph.input[0].type.tensor_type.shape.dim.reverse(),
        CONTRACT,
    ),
    "a fixed batch": (
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 1),
        "takes batches of 1 only, and its manifest says max_batch 1024",
    ),
    "an output is missing": (
        lambda m: without(m, "predicted_loss"),
        "lacks the output predicted_loss",
    ),
    "a loss for each joint that is none": (
        lambda m: m.graph.output.add(name="keypoint_loss"),
        "gives keypoint_loss of another type or shape",
    ),
    "another number of keypoints": (
        lambda m: setattr(sizes(m, "keypoints").dim[1], "dim_value", 17),
        "gives keypoints of another type or shape",
    ),
    "another number of scores": (
        lambda m: setattr(sizes(m, "signals").dim[1], "dim_value", 5),
        "gives signals of another",
    ),
    "a loss for each of two": (
        lambda m: sizes(m, "predicted_loss").dim.add(dim_value=2),
        "gives predicted_loss of another",
    ),
    "half-precision outputs": (
        lambda m: [
            setattr(one.type.tensor_type, "elem_type", 10)
            for one in m.graph.output
            if one.name == "embedding"
        ],
        "gives embedding of another type",
    ),
    "nothing at all": (lambda m: m.Clear(), "ir_version 0"),
}


@pytest.mark.parametrize(
    ("batch", "max_batch", "fits"),
    [
        (1, 1, True),
        (2, 1, False),
        (2, 2, False),  # fewer than two could not be asked
    ],
)
def test_a_fixed_batch(batch: int, max_batch: int, fits: bool) -> None:
    manifest = MANIFEST.model_copy(update={"max_batch": max_batch})
    if fits:
        check_graph(single_graph(batch), manifest, "model.onnx")
        return
    with pytest.raises(BundleError, match=rf"takes batches of {batch} only"):
        check_graph(single_graph(batch), manifest, "model.onnx")


def test_a_graph_of_any_batch_that_is_asked_for_one() -> None:
    check_graph(GRAPH, MANIFEST.model_copy(update={"max_batch": 1}), "model.onnx")


@pytest.mark.parametrize(("joints", "fits"), [(14, True), (13, False)])
def test_a_loss_for_each_joint(joints: int, fits: bool) -> None:
    def told(m: wire.Model) -> None:
        added = m.graph.output.add(name="keypoint_loss")
        added.type.tensor_type.elem_type = 1
        added.type.tensor_type.shape.dim.add(dim_param="batch")
        added.type.tensor_type.shape.dim.add(dim_value=joints)

    manifest = MANIFEST.model_copy(update={"outputs": (*MANIFEST.outputs, "keypoint_loss")})
    if fits:
        check_graph(changed(told), manifest, "model.onnx")
        return
    with pytest.raises(BundleError, match=r"gives keypoint_loss of another type or shape"):
        check_graph(changed(told), manifest, "model.onnx")


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name: str) -> None:
    change, said = REFUSED[name]
    with pytest.raises(BundleError) as caught:
        check_graph(changed(change), MANIFEST, "model.onnx")
    assert said in str(caught.value)
    assert str(caught.value).startswith("model.onnx ")
    assert "\n" not in str(caught.value)


TAKEN: dict[str, Change] = {
    "as it is": lambda m: None,
    "the long name of ONNX's operators": lambda m: m.graph.node.add(domain="ai.onnx"),
    # quantisers write it whether or not they use it
    "another opset that no node uses": lambda m: m.opset_import.add(
        domain="com.microsoft", version=1
    ),
    "weights in a branch": lambda m: inside(m.graph).initializer.add(name="w"),
    "a free size where the contract has one": lambda m: setattr(
        sizes(m, "keypoints").dim[1], "dim_param", "K"
    ),
    "one more output": lambda m: m.graph.output.add(name="heatmaps"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_taken(name: str) -> None:
    check_graph(changed(TAKEN[name]), MANIFEST, "model.onnx")


def test_the_default_bundle_is_taken() -> None:
    Bundle.load(DEFAULT_BUNDLE)


@pytest.mark.parametrize(
    "data",
    [
        GRAPH[: len(GRAPH) // 2],  # cut short
        b"no graph",
        b"\x3a" * 5000,  # graphs in graphs in graphs
        changed(lambda m: inside(m.graph, 200)),  # deeper than anybody nests
        b"\x0a\xff\xff\xff\xff\x0f",  # a length beyond the end
    ],
)
def test_what_is_no_graph(data: bytes) -> None:
    with pytest.raises(BundleError, match="is no ONNX file|ir_version 0"):
        check_graph(data, MANIFEST, "model.onnx")


def test_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphfile, "MAX_GRAPH_BYTES", len(GRAPH) - 1)
    with pytest.raises(BundleError, match=f"has {len(GRAPH):,} bytes; expected at most"):
        check_graph(GRAPH, MANIFEST, "model.onnx")


def test_every_graph_of_a_bundle_is_checked(tmp_path: Path) -> None:
    """Also those of other precisions, and with digests that fit."""
    folder = Path(shutil.copytree(tiny.BUNDLE, tmp_path / "bundle"))
    data = changed(lambda m: m.graph.node.append(FOREIGN))
    (folder / "model.fp16.onnx").write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["model.fp16.onnx"] = hashlib.sha256(data).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"model\.fp16\.onnx has a node Launch"):
        Bundle.load(folder)
