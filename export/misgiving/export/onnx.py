"""The fused graph as one ONNX file that describes itself."""

import json
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch

from misgiving.export.graph import FusedGraph
from misgiving.export.merging import merged
from misgiving.export.tracing import stripped, traced
from misgiving.trainer.foreign.pose import ForeignPose


def write_onnx(graph: FusedGraph, path: Path, essentials: Mapping[str, object]) -> None:
    """Export a graph; its batch is dynamic, unless a foreign net's is not.

    Args:
        graph: in evaluation mode, on the CPU.
        path: the file to write.
        essentials: what a lone file must say of itself; stored as JSON in its metadata.
    """
    graph = graph.cpu().eval()
    if isinstance(graph.network.pose, ForeignPose):
        model = stripped(merged(graph, graph.network.pose))
    else:
        rule = graph.network.config.crop
        # Batch 2: an example batch of one would be taken for a constant.
        example = torch.zeros(2, rule.height, rule.width, 3, dtype=torch.uint8)
        model = stripped(traced(graph, {"image": example}, graph.outputs))
    for key, value in essentials.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = f"misgiving.{key}", json.dumps(value)
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, path)
