"""The ONNX file: old enough for boards, whole in one file, dynamic, and telling of itself only."""

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.message import Message

from misgiving.export.graph import FusedGraph
from misgiving.export.parity import run_torch
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.engines.base import REQUIRED
from misgiving.runtime.engines.onnx import OnnxEngine
from misgiving.runtime.keypoints import LSP
from misgiving.trainer.data.crops import evaluation_crop
from misgiving.trainer.heatmaps import SIGNALS
from shared.training import JOINTS, TINY_MODEL, people


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> onnx.ModelProto:
    return onnx.load(bundle.model, load_external_data=False)


def test_versions(model: onnx.ModelProto) -> None:
    """What older boards' runtimes still load."""
    assert model.ir_version <= 9
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 18}
    assert len(model.functions) == 0


def test_the_checker_agrees(bundle: Bundle) -> None:
    onnx.checker.check_model(bundle.model, full_check=True)


def test_one_file(bundle: Bundle, model: onnx.ModelProto) -> None:
    assert sorted(path.suffix for path in bundle.path.iterdir()) == [".json", ".npz", ".onnx"]
    for tensor in model.graph.initializer:
        assert tensor.data_location == onnx.TensorProto.DEFAULT
        assert len(tensor.external_data) == 0


def shape(value: onnx.ValueInfoProto) -> list[str | int]:
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_param or dim.dim_value for dim in dims]


def test_inputs_and_outputs(model: onnx.ModelProto) -> None:
    (image,) = model.graph.input
    assert image.name == "image"
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert shape(image) == ["batch", 32, 32, 3]
    assert {value.name: shape(value) for value in model.graph.output} == {
        "keypoints": ["batch", JOINTS, 3],
        "predicted_loss": ["batch"],
        "signals": ["batch", len(SIGNALS)],
        "embedding": ["batch", TINY_MODEL.net.channels],
    }
    assert [value.name for value in model.graph.output] == list(REQUIRED)
    kinds = {value.type.tensor_type.elem_type for value in model.graph.output}
    assert kinds == {onnx.TensorProto.FLOAT}


def test_a_lone_file_says_what_it_is(model: onnx.ModelProto) -> None:
    said = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert said == {
        "misgiving.name": "tiny",
        "misgiving.version": "1.2.3",
        "misgiving.keypoints": json.loads(LSP.model_dump_json()),
        "misgiving.crop": {"height": 32, "width": 32, "padding": TINY_MODEL.padding},
        "misgiving.signals": list(SIGNALS),
    }


def strings(message: Message, where: str = "model") -> Iterator[tuple[str, str]]:
    """Every text in a message and where it stands, weights left out."""
    for field, value in message.ListFields():
        parts: list[Any] = list(value) if field.is_repeated else [value]
        for part in parts:
            place = f"{where}.{field.name}"
            if isinstance(part, Message):
                yield from strings(part, place)
            elif isinstance(part, str):
                yield place, part
            elif isinstance(part, bytes) and field.name != "raw_data":
                yield place, part.decode("utf-8", "replace")


LOCAL = re.compile(r"[\\/](home|root|tmp|usr|Users|opt|var)[\\/]|site-packages|\.py\b|File \"")


def test_nothing_of_the_machine_that_exported(model: onnx.ModelProto) -> None:
    """No path, no stack trace, in whatever field; and no note on a node at all."""
    found = [(place, text) for place, text in strings(model) if LOCAL.search(text)]
    assert found == []
    assert len(list(strings(model))) > 100
    notes = [place for place, text in strings(model) if text and place.endswith("doc_string")]
    assert notes == []
    assert [node.name for node in model.graph.node if len(node.metadata_props)] == []


def test_every_kind_of_local_text_would_be_found() -> None:
    model = onnx.ModelProto()
    model.graph.node.add().metadata_props.add(key="k", value='File "/home/me/x.py", line 3')
    model.graph.node.add().attribute.add(name="a", s=b"C:/Users/me/")
    model.graph.doc_string = "lib/site-packages/torch"
    assert len([text for _, text in strings(model) if LOCAL.search(text)]) == 3


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_batch(bundle: Bundle, graph: FusedGraph, batch: int) -> None:
    data = people(11, 7)
    crops = np.stack([evaluation_crop(data[i], TINY_MODEL.crop)[0] for i in range(batch)])
    got, expected = OnnxEngine(bundle.model).infer(crops), run_torch(graph, crops)
    assert len(got) == batch
    for name in REQUIRED:
        answer, wanted = getattr(got, name), getattr(expected, name)
        assert answer.shape == wanted.shape, name
        np.testing.assert_allclose(answer, wanted, atol=2e-3, err_msg=name)


def test_the_normalisation_and_the_weights_are_inside(model: onnx.ModelProto) -> None:
    """The heads that were not exported are not."""
    names = {tensor.name for tensor in model.graph.initializer}
    assert any("collapse" in name for name in names)  # the exported conv head
    assert not any("gap-margin" in name for name in names)
    assert {"network.mean", "network.std"} <= names
