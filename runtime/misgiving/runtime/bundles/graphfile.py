"""What an ONNX file must be like before an engine reads it: small, plain and of our contract.

Only the structure is parsed, with protobuf and without onnx, as a vehicle has it. A file of 60 MB
takes 0.03 s and its own size of memory for that moment.
"""

from collections.abc import Iterator, Sequence

from google.protobuf.message import DecodeError

from misgiving.runtime.bundles.manifest import Manifest
from misgiving.runtime.errors import BundleError, printable
from misgiving.v1 import graph_pb2 as wire

MAX_GRAPH_BYTES = 512 << 20
"""Of one ONNX file: an hourglass of eight stacks in float32 has 100 MB."""
MAX_IR_VERSION = 9
MAX_OPSET = 18
"""These two are what the oldest supported boards load."""
STANDARD = ("", "ai.onnx")
"""Names of ONNX's own operators; every other domain needs code from elsewhere."""
UINT8, FLOAT32 = 2, 1
_EXTERNAL = 1


def check_graph(data: bytes, manifest: Manifest, name: str) -> None:
    """Refuse an ONNX file that an engine should not be given.

    Args:
        data: the file, whose sha256 was compared before.
        manifest: what the graph takes and gives.
        name: of the file, for messages.

    Raises:
        BundleError: too large, too new, with weights elsewhere, with operators or functions of
            its own, or without the contract's input and outputs.
    """
    if problem := _problem(data, manifest):
        raise BundleError(f"{name} {printable(problem)}. Export the bundle again")


def _problem(data: bytes, manifest: Manifest) -> str | None:
    if len(data) > MAX_GRAPH_BYTES:
        return f"has {len(data):,} bytes; expected at most {MAX_GRAPH_BYTES:,}"
    try:
        model = wire.Model.FromString(data)
    except DecodeError:
        return "is no ONNX file; expected a graph written by 'misgiving export'"
    return _too_new(model) or _foreign(model) or _outside_contract(model.graph, manifest)


def _too_new(model: wire.Model) -> str | None:
    if not 0 < model.ir_version <= MAX_IR_VERSION:
        return f"has ir_version {model.ir_version}; expected 1 to {MAX_IR_VERSION}"
    opsets = [one.version for one in model.opset_import if one.domain in STANDARD]
    if not opsets or not 0 < max(opsets) <= MAX_OPSET:
        return f"has opset {max(opsets, default=None)}; expected 1 to {MAX_OPSET}"
    return None


def _foreign(model: wire.Model) -> str | None:
    if model.functions or model.training_info:
        return "holds functions or training graphs; expected plain nodes"
    for graph in _graphs(model.graph):
        for node in graph.node:
            if node.domain not in STANDARD:
                return (
                    f"has a node {node.op_type} of domain {node.domain!r}; "
                    "expected ONNX's own operators"
                )
        for tensor in _tensors(graph):
            if tensor.data_location == _EXTERNAL or tensor.external_data:
                return f"keeps {tensor.name!r} in another file; expected all weights inside"
    return None


def _graphs(graph: wire.Graph) -> Iterator[wire.Graph]:
    """A graph and all graphs in it: branches, loop bodies. Protobuf bounds their depth."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _graphs(inner)


def _tensors(graph: wire.Graph) -> Iterator[wire.Tensor]:
    yield from graph.initializer
    sparse = [*graph.sparse_initializer]
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
    for one in sparse:
        yield one.values
        yield one.indices


def _outside_contract(graph: wire.Graph, manifest: Manifest) -> str | None:
    crop, keypoints = manifest.crop, len(manifest.keypoints.names)
    wanted = [None, crop.height, crop.width, 3]
    inputs = [value.name for value in graph.input]
    if inputs != ["image"] or not _is(graph.input[0], UINT8, wanted):
        return (
            f"takes {', '.join(inputs) or 'nothing'}; expected one input, image, uint8 of "
            f"(any number, {crop.height}, {crop.width}, 3)"
        )
    batch = _batch(graph.input[0])
    if batch is not None and (batch, manifest.max_batch) != (1, 1):
        return (
            f"takes batches of {batch} only, and its manifest says max_batch "
            f"{manifest.max_batch}; expected any number, or 1 where that is 1"
        )
    sizes: dict[str, list[int | None]] = {
        "keypoints": [None, keypoints, 3],
        "predicted_loss": [None],
        "signals": [None, len(manifest.signals)],
        "embedding": [None, manifest.embedding_size],
        "keypoint_loss": [None, keypoints],
    }
    outputs = {value.name: value for value in graph.output}
    for name in manifest.outputs:
        if name not in outputs:
            return f"lacks the output {name}; expected {', '.join(manifest.outputs)}"
    for name, size in sizes.items():
        if name in outputs and not _is(outputs[name], FLOAT32, size):
            return f"gives {name} of another type or shape than its manifest says"
    return None


def _is(value: wire.Value, kind: int, sizes: Sequence[int | None]) -> bool:
    """Whether type and shape fit; sizes that the graph or the contract leaves free do."""
    tensor = value.type.tensor_type
    dims = [one.dim_value or None for one in tensor.shape.dim]
    return (
        tensor.elem_type == kind
        and len(dims) == len(sizes)
        and all(got in (None, size) for got, size in zip(dims, sizes, strict=True) if size)
    )


def _batch(value: wire.Value) -> int | None:
    """The batch's only size; None where it has any."""
    dim = value.type.tensor_type.shape.dim[0]
    return dim.dim_value if dim.WhichOneof("value") == "dim_value" else None
