"""The tiny bundle with a graph that takes one crop at a time, as graphs of others do."""

import shutil
from pathlib import Path

from misgiving.runtime.bundles.bundle import Bundle, sha256_file
from misgiving.runtime.bundles.manifest import write_manifest
from misgiving.v1 import graph_pb2 as wire
from shared import tiny


def single_graph(batch: int = 1) -> bytes:
    """The tiny graph with a fixed batch; what the proto does not name is kept."""
    model = wire.Model.FromString((tiny.BUNDLE / "model.onnx").read_bytes())
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    return model.SerializeToString()


def single_bundle(folder: Path, max_batch: int = 1) -> Path:
    """A bundle around it."""
    shutil.copytree(tiny.BUNDLE, folder)
    (folder / "model.onnx").write_bytes(single_graph())
    manifest = Bundle.load(tiny.BUNDLE).manifest
    files = manifest.files | {"model.onnx": sha256_file(folder / "model.onnx")}
    changes = {"files": files, "max_batch": max_batch}
    write_manifest(folder, manifest.model_copy(update=changes))
    return folder
