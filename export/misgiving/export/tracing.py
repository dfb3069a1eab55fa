"""A torch module as an ONNX model, without the exporter's notes."""

import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from misgiving.runtime.engines.base import LARGEST_BATCH

OPSET = 18
IR_VERSION = 9
"""Older boards' runtimes load nothing newer."""


def traced(
    module: nn.Module,
    examples: Mapping[str, Tensor],
    outputs: Sequence[str],
    free_batch: bool = True,
) -> onnx.ModelProto:
    """A module in evaluation mode, on the CPU, as a model.

    Args:
        module: takes tensors in the order of ``examples``, or all as ``*tensors``.
        examples: by the names of the graph's inputs; a batch of two, because one of one would be
            taken for a constant.
        outputs: names of what it gives.
        free_batch: whether the first axis of each input may be any; otherwise it is the example's.
    """
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    each = tuple({0: batch} for _ in examples)
    parameters = inspect.signature(module.forward).parameters.values()
    gathered = any(one.kind is one.VAR_POSITIONAL for one in parameters)
    with _quiet():
        program = torch.onnx.export(
            module,
            tuple(examples.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(examples),
            output_names=list(outputs),
            dynamic_shapes=((each,) if gathered else each) if free_batch else None,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    model.ir_version = IR_VERSION
    return model


def stripped(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without notes: the exporter records stack traces with the paths of its machine."""
    graph = model.graph
    values = (*graph.input, *graph.output, *graph.initializer, *graph.value_info)
    functions = [node for function in model.functions for node in function.node]
    parts: tuple[Any, ...] = (model, graph, *graph.node, *values, *functions)
    for part in parts:
        part.doc_string = ""
        del part.metadata_props[:]
    return model


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
            warnings.filterwarnings("ignore", "# The axis name")  # inputs share their batch
            yield
    finally:
        logger.setLevel(level)
