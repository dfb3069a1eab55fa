"""The gate of a foreign net: inside the merged graph it must say what its own file says."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from misgiving.export.merging import NET
from misgiving.runtime.engines.base import Engine
from misgiving.runtime.errors import ParityError
from misgiving.trainer.foreign.pose import ForeignPose

Arrays = list[NDArray[np.floating]]

BATCHES = (1, 3)
CROPS = 128
RANGE_SHARE = 1e-4
"""Of an output's range, by which a converted graph may differ; others not by a bit."""
KEYPOINT_PX = 0.01
"""In input px, at the 99.9th percentile, by which ONNX Runtime's optimisations may move a point."""


def check_foreign(path: Path, pose: ForeignPose, engine: Engine, crops: NDArray[np.uint8]) -> None:
    """Raise ParityError where the merged graph lets the foreign net say something else.

    Args:
        path: of the merged graph.
        pose: with the foreign file.
        engine: runs the merged graph.
        crops: (N, H, W, 3).
    """
    original, crops = _said_alone(pose, crops[:CROPS]), crops[:CROPS]
    names = pose.family.outputs
    for size in (1,) if pose.one_by_one else BATCHES:
        # Another batch size may order the sums of a product otherwise.
        bitwise = not pose.converted and size == 1
        inside = _said_inside(path, names, crops, size)
        for name, alone, got in zip(names, original, inside, strict=True):
            _check_output(name, alone, got, size, bitwise)
        _check_points(pose, original, engine, crops, size)


def _check_output(
    name: str, alone: NDArray[np.floating], got: NDArray[np.floating], size: int, bitwise: bool
) -> None:
    if np.array_equal(alone, got, equal_nan=True):
        return
    spread = float(np.ptp(alone)) or 1.0
    share = float(np.max(np.abs(alone - got))) / spread
    if bitwise or not share <= RANGE_SHARE:
        allowed = "not a bit" if bitwise else f"at most {RANGE_SHARE:g}"
        raise ParityError(
            f"output {name!r} of the foreign net differs by {share:.1e} of its range inside the "
            f"merged graph at batch {size}; expected {allowed}. No bundle was written"
        )


def _check_points(
    pose: ForeignPose, original: Arrays, engine: Engine, crops: NDArray[np.uint8], size: int
) -> None:
    """With ONNX Runtime's optimisations on, as the runtime has them."""
    alone = pose.family.read([torch.from_numpy(one).float() for one in original]).points.numpy()
    parts = [engine.infer(crops[at : at + size]) for at in range(0, len(crops), size)]
    got = np.concatenate([part.keypoints[..., :2] for part in parts])
    moved = float(np.percentile(np.linalg.norm(got - alone, axis=-1), 99.9))
    if not moved <= KEYPOINT_PX:
        raise ParityError(
            f"the foreign net's points moved {moved:.4f} input px inside the merged graph at batch "
            f"{size}; expected at most {KEYPOINT_PX}. No bundle was written"
        )


def _said_alone(pose: ForeignPose, crops: NDArray[np.uint8]) -> Arrays:
    """The family's outputs as the foreign file itself gives them, one crop at a time."""
    session = _plain(pose.content)
    (into,) = [one for one in session.get_inputs() if one.name == pose.config.input.name]
    images = torch.from_numpy(crops).permute(0, 3, 1, 2).float()
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (pose.mean, pose.std))
    fed = pose.fed((images - mean) / std, into.type)
    names = list(pose.family.outputs)
    said = [session.run(names, {into.name: row}) for row in np.split(fed, len(fed))]
    return [np.concatenate(column) for column in zip(*said, strict=True)]


def _said_inside(
    path: Path, names: Sequence[str], crops: NDArray[np.uint8], size: int
) -> Iterator[NDArray[np.floating]]:
    """The same, read out of the merged graph."""
    model = onnx.load(path)
    del model.graph.output[:]
    inner = [NET + name for name in names]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    session = _plain(model.SerializeToString())
    parts = [
        session.run(inner, {"image": crops[at : at + size]}) for at in range(0, len(crops), size)
    ]
    return (np.concatenate(column) for column in zip(*parts, strict=True))


def _plain(model: bytes) -> ort.InferenceSession:
    """Node by node, as the file has them."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
