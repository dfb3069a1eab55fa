"""A foreign graph in ONNX Runtime with its optimisations off: what it really says.

Axes: B batch, H W input.
"""

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer.foreign.reading import first_line, shape_of
from misgiving.trainer.foreign_config import ForeignInput

Arrays = dict[str, NDArray[np.generic]]


def session_of(model: onnx.ModelProto, name: str) -> ort.InferenceSession:
    """On one thread of the CPU, as the file stands.

    Raises:
        InvalidInput: ONNX Runtime does not take the graph.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's own exceptions share no public base class
        raise InvalidInput(f"{name}: ONNX Runtime refuses it: {first_line(error)}") from error


def run(
    session: ort.InferenceSession, name: str, inputs: Mapping[str, NDArray[np.generic]]
) -> Arrays:
    """Its outputs by name.

    Raises:
        InvalidInput: it fails on these inputs.
    """
    names = [one.name for one in session.get_outputs()]
    try:
        answers = session.run(names, dict(inputs))
    except Exception as error:  # as above
        raise InvalidInput(f"{name}: ONNX Runtime cannot run it: {first_line(error)}") from error
    return dict(zip(names, answers, strict=True))


def check_runs(model: onnx.ModelProto, name: str, net_input: ForeignInput) -> None:
    """One grey crop through a graph whose height and width are known.

    Raises:
        InvalidInput: the graph does not run, or an output is not finite.
    """
    session = session_of(model, name)
    answers = run(session, name, {net_input.name: _grey(model, net_input)})
    for output, value in answers.items():
        if not np.isfinite(value).all():
            raise InvalidInput(
                f"{name}: output {output!r} of a grey crop is not finite; expected numbers. "
                "Check mean and std of the input, or the net's weights"
            )


def _grey(model: onnx.ModelProto, net_input: ForeignInput) -> NDArray[np.generic]:
    (image,) = (one for one in model.graph.input if one.name == net_input.name)
    sizes = dict(zip(net_input.layout, shape_of(image) or (), strict=True))
    pixel = (127.5 - np.array(net_input.mean)) / np.array(net_input.std)
    crop = np.broadcast_to(pixel, (1, sizes["H"] or 1, sizes["W"] or 1, 3))
    fed = crop.transpose(0, 3, 1, 2) if net_input.layout == "NCHW" else crop
    kind = helper.tensor_dtype_to_np_dtype(image.type.tensor_type.elem_type)
    return np.ascontiguousarray(fed.astype(kind))
