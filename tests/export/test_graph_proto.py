"""protos/misgiving/v1/graph.proto speaks of the same fields as ONNX does."""

from typing import Any

import onnx
import pytest
from google.protobuf.descriptor import FieldDescriptor

from misgiving.v1 import graph_pb2

ONNX_NAMES = {
    "Model": "ModelProto",
    "OperatorSet": "OperatorSetIdProto",
    "Graph": "GraphProto",
    "Node": "NodeProto",
    "Attribute": "AttributeProto",
    "Tensor": "TensorProto",
    "SparseTensor": "SparseTensorProto",
    "Value": "ValueInfoProto",
    "Type": "TypeProto",
    "TensorType": "TypeProto.Tensor",
    "Shape": "TensorShapeProto",
    "Dimension": "TensorShapeProto.Dimension",
}
INTEGERS = {FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_ENUM}
"""All are varints on the wire."""


def test_every_message_is_compared() -> None:
    assert set(graph_pb2.DESCRIPTOR.message_types_by_name) == {*ONNX_NAMES, "Opaque"}


@pytest.mark.parametrize(("ours", "theirs"), ONNX_NAMES.items())
def test_fields_are_onnx_s(ours: str, theirs: str) -> None:
    message: Any = onnx
    for part in theirs.split("."):
        message = getattr(message, part)
    known = message.DESCRIPTOR.fields_by_number
    for field in graph_pb2.DESCRIPTOR.message_types_by_name[ours].fields:
        other = known[field.number]
        assert field.name == other.name
        assert field.is_repeated == other.is_repeated
        assert field.type == other.type or {field.type, other.type} <= INTEGERS


def test_every_place_of_graphs_and_tensors_is_named() -> None:
    """A newer ONNX that can hold a tensor or graph elsewhere fails here, and is to be taught."""
    for ours, theirs in ONNX_NAMES.items():
        if "." in theirs or ours in ("Type", "Shape"):
            continue
        named = graph_pb2.DESCRIPTOR.message_types_by_name[ours].fields_by_number
        for field in getattr(onnx, theirs).DESCRIPTOR.fields:
            kind = field.message_type.name if field.message_type else ""
            if kind in ("GraphProto", "TensorProto", "SparseTensorProto", "FunctionProto"):
                assert field.number in named, f"{theirs}.{field.name}"
