"""The fused graph as one ONNX file that describes itself."""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch

from misgiving.export.graph import FusedGraph

OPSET = 18
IR_VERSION = 9
"""Older boards' runtimes load nothing newer."""
MAX_BATCH = 1024


def write_onnx(graph: FusedGraph, path: Path, essentials: Mapping[str, object]) -> None:
    """Export a graph with a dynamic batch.

    Args:
        graph: in evaluation mode, on the CPU.
        path: the file to write.
        essentials: what a lone file must say of itself; stored as JSON in its metadata.
    """
    size = graph.network.config.input_size
    # Batch 2: an example batch of one would be taken for a constant.
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    with _quiet():
        program = torch.onnx.export(
            graph.cpu().eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=list(graph.outputs),
            dynamic_shapes={"image": {0: batch}},
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = _stripped(program.model_proto)
    for key, value in essentials.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = f"misgiving.{key}", json.dumps(value)
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on itself: that torchvision is missing, and the like."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)


def _stripped(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without notes: the exporter records stack traces with the paths of its machine."""
    model.ir_version = IR_VERSION
    graph = model.graph
    values = (*graph.input, *graph.output, *graph.initializer, *graph.value_info)
    functions = [node for function in model.functions for node in function.node]
    parts: tuple[Any, ...] = (model, graph, *graph.node, *values, *functions)
    for part in parts:
        part.doc_string = ""
        del part.metadata_props[:]
    return model
