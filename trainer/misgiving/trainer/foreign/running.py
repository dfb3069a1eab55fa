"""A foreign graph in ONNX Runtime with its optimisations off: what it really says.

Axes: B batch, H W input.
"""

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer.foreign.graphs import first_line
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
    answers = run(session, name, {net_input.name: _grey(session, net_input)})
    for output, value in answers.items():
        if not np.isfinite(value).all():
            raise InvalidInput(
                f"{name}: output {output!r} of a grey crop is not finite; expected numbers. "
                "Check mean and std of the input, or the net's weights"
            )


def _grey(session: ort.InferenceSession, net_input: ForeignInput) -> NDArray[np.float32]:
    (shape,) = (one.shape for one in session.get_inputs() if one.name == net_input.name)
    pixel = (127.5 - np.array(net_input.mean)) / np.array(net_input.std)
    height, width = (shape[net_input.layout.index(axis)] for axis in "HW")
    crop = np.broadcast_to(pixel.astype(np.float32), (1, height, width, 3))
    return np.ascontiguousarray(crop.transpose(0, 3, 1, 2) if net_input.layout == "NCHW" else crop)
