"""The precisions of a graph: which files they lie in, and how far each is from fp32.

fp32 is compared with the trained network (:class:`Parity`), every other precision with fp32
(:class:`Gate`): a smaller graph must find the same joints and give the same order of scores.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

FP32 = "fp32"
Reduced = Literal["fp16", "int8", "int8-trt"]
"""``int8`` is for CPUs (unsigned activations, signed weights), ``int8-trt`` for TensorRT (both
signed and symmetric)."""
MODELS = {
    FP32: "model.onnx",
    "fp16": "model.fp16.onnx",
    "int8": "model.int8.onnx",
    "int8-trt": "model.int8-trt.onnx",
}
"""Precision → file in a bundle."""


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False
    )


class Parity(_Part):
    """How far the graph is from the network it was made of, over real validation images."""

    n: int
    data: str
    keypoint_drift_px_p999: float
    """99.9th percentile of the keypoints' shift in input px."""
    predicted_loss_drift: float
    """Largest shift of predicted_loss, in standard deviations of it over these images."""
    predicted_loss_spearman: float
    other_outputs_drift_p99: float
    """Of confidences, signals and embedding, the worst one; in standard deviations."""
    end_to_end_keypoint_px_p999: float
    """As above, from the image file and in image px: decode, crop, engine, back."""
    end_to_end_predicted_loss_drift: float


class Gate(_Part):
    """What a precision answers against fp32, over the validation images."""

    n: int
    data: str
    measured_with: str
    """What ran the graph for it, not always what will: TensorRT runs ``int8-trt``, and the gate
    needs no GPU."""
    pck_change: float
    """PCK@0.2 less that of fp32, as a share; negative is worse."""
    keypoint_drift_px_p99: float
    """99th percentile of the keypoints' shift in input px; where two peaks of a heatmap are
    alike, a keypoint jumps."""
    predicted_loss_spearman: float
    flag_agreement: float
    """Share of persons whose flag is the same at the bundle's first finite threshold."""
    auroc_change: float | None
    """Of predicted_loss finding the failures of its own precision; null without both kinds."""


class SampleDrift(_Part):
    """How far a precision's answers to the bundle's samples are from those recorded."""

    keypoint_px: float = Field(ge=0)
    """Median over all keypoints, input px."""
    predicted_loss: float = Field(ge=0)
    """Largest, in standard deviations of the recorded ones."""


class CalibrationImages(_Part):
    """The training images whose activations set the ranges of the whole numbers."""

    data: str
    n: int = Field(gt=0)
    seed: int
    """Of the sample from ``data``, which left out what the gate measures on."""


class ReducedPrecision(_Part):
    """A further graph of a bundle, in lower precision, that passed its gate."""

    gate: Gate
    samples: SampleDrift
    """As measured at export; what a runtime's self-check allows rests on it."""
    calibration: CalibrationImages | None
    """Null where nothing had to be calibrated."""
    kept_fp32: tuple[str, ...]
    """Layers that the gate failed with, by the weights' names, and that stay in fp32."""
