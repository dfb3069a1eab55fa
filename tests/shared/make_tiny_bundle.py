"""Writes ``tiny_bundle/``: a real graph whose answers a test can work out by hand.

The input of 56 × 42 px is cut into 14 bands of 4 rows; keypoint k is the brightest pixel of band
k, its confidence that pixel's brightness. ``predicted_loss`` is one minus the mean brightness.
Needs onnx. Run: python tests/shared/make_tiny_bundle.py
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from misgiving.runtime.bundles.bundle import sha256_file
from misgiving.runtime.bundles.calibration import (
    Calibration,
    CalibrationError,
    EmbeddingReference,
    FailureProbability,
    Histogram,
    Reference,
    Threshold,
)
from misgiving.runtime.bundles.manifest import (
    FailureDefinition,
    Manifest,
    Provenance,
    Signal,
    write_manifest,
)
from misgiving.runtime.bundles.precisions import Parity
from misgiving.runtime.engines.base import REQUIRED
from misgiving.runtime.geometry import CropRule
from misgiving.runtime.keypoints import LSP

FOLDER = Path(__file__).parent / "tiny_bundle"
HEIGHT, WIDTH, BANDS, BAND = 56, 42, 14, 4


def graph() -> onnx.ModelProto:
    def constant(name: str, value: object) -> onnx.TensorProto:
        return numpy_helper.from_array(np.asarray(value), name)

    node = helper.make_node
    nodes = [
        node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        node("ReduceMean", ["float", "last"], ["grey255"], keepdims=0),
        node("Div", ["grey255", "white"], ["grey"]),  # (B, 56, 42)
        node("Reshape", ["grey", "bands"], ["band"]),  # (B, 14, 168)
        node("ReduceMax", ["band", "last"], ["peak"], keepdims=1),  # (B, 14, 1)
        node("ArgMax", ["band"], ["cell"], axis=-1, keepdims=1),  # (B, 14, 1)
        node("Mod", ["cell", "columns"], ["x_cell"]),
        node("Div", ["cell", "columns"], ["y_cell"]),
        node("Cast", ["x_cell"], ["x_float"], to=TensorProto.FLOAT),
        node("Cast", ["y_cell"], ["y_float"], to=TensorProto.FLOAT),
        node("Add", ["x_float", "half"], ["x"]),
        node("Add", ["y_float", "tops"], ["y"]),
        node("Concat", ["x", "y", "peak"], ["keypoints"], axis=-1),
        node("ReduceMean", ["grey", "plane"], ["brightness"], keepdims=0),  # (B,)
        node("Sub", ["one", "brightness"], ["predicted_loss"]),
        node("ReduceMean", ["peak", "plane"], ["mean_peak"], keepdims=0),
        node("ReduceMin", ["peak", "plane"], ["min_peak"], keepdims=0),
        node("Unsqueeze", ["mean_peak", "last"], ["mean_column"]),
        node("Unsqueeze", ["min_peak", "last"], ["min_column"]),
        node("Unsqueeze", ["brightness", "last"], ["brightness_column"]),
        node("Unsqueeze", ["predicted_loss", "last"], ["loss_column"]),
        node(
            "Concat",
            ["mean_column", "min_column", "brightness_column", "loss_column"],
            ["signals"],
            axis=-1,
        ),
        node("Reshape", ["grey", "eighths"], ["eighth"]),  # (B, 8, 294)
        node("ReduceMean", ["eighth", "last"], ["embedding"], keepdims=0),
    ]
    constants = [
        constant("last", [-1]),
        constant("plane", [1, 2]),
        constant("white", np.float32(255)),
        constant("one", np.float32(1)),
        constant("half", np.float32(0.5)),
        constant("columns", np.int64(WIDTH)),
        constant("bands", [0, BANDS, BAND * WIDTH]),
        constant("eighths", [0, 8, HEIGHT * WIDTH // 8]),
        constant("tops", (np.arange(BANDS, dtype=np.float32) * BAND + 0.5).reshape(1, BANDS, 1)),
    ]
    shapes = {
        "keypoints": [BANDS, 3],
        "predicted_loss": [],
        "signals": [4],
        "embedding": [8],
    }
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "bright_spots",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, ["B", HEIGHT, WIDTH, 3])],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", *shape])
                for name, shape in shapes.items()
            ],
            constants,
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def samples() -> np.ndarray:
    """Three slanted ramps, the second half and the third a quarter as bright."""
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    ramp = (7 * row + 5 * column) % 256
    ramps = np.stack([ramp, ramp // 2, ramp // 4]).astype(np.uint8)
    return np.repeat(ramps[..., None], 3, axis=-1)


def calibration() -> Calibration:
    """Probabilities of failure are predicted losses, from 0 to 1."""
    promise = {"confidence": 0.9, "n": 3, "effective_n": 3, "beyond": 0, "unit": "image"}
    origin = {"failures": 1, "left_out": 0, "data": "procedural", "assumes": "nothing changes"}
    return Calibration(
        thresholds=(
            Threshold(
                target="flag_rate", target_value=0.1, predicted_loss=0.75, **promise, **origin
            ),
            Threshold(
                target="miss_rate", target_value=0.2, predicted_loss=0.5, **promise, **origin
            ),
        ),
        failure_probability=FailureProbability(
            predicted_loss=(0.0, 1.0),
            probability=(0.0, 1.0),
            data="procedural",
            persons=3,
            failures=1,
            left_out=0,
            error=CalibrationError(
                value=0,
                low=0,
                high=1,
                level=0.95,
                measured_on="procedural",
                persons=3,
                failures=1,
            ),
        ),
        reference=Reference(
            data="procedural",
            persons=3,
            histograms=(Histogram(name="predicted_loss", edges=(0.5,), shares=(0.5, 0.5)),),
            embedding=EmbeddingReference(mean=(0.5,) * 8, deviation=(0.25,) * 8),
        ),
    )


def manifest() -> Manifest:
    nothing = Parity(
        n=3,
        data="procedural",
        keypoint_drift_px_p999=0,
        predicted_loss_drift=0,
        predicted_loss_spearman=1,
        other_outputs_drift_p99=0,
        end_to_end_keypoint_px_p999=0,
        end_to_end_predicted_loss_drift=0,
    )
    return Manifest(
        schema_version=3,
        name="bright-spots",
        version="1",
        release=1,
        expires=None,
        keypoints=LSP,
        crop=CropRule(height=HEIGHT, width=WIDTH, padding=1.25),
        max_batch=1024,
        outputs=REQUIRED,
        signals=(
            Signal(name="mean_peak", higher_is="safer"),
            Signal(name="min_peak", higher_is="safer"),
            Signal(name="brightness", higher_is="safer"),
            Signal(name="darkness", higher_is="riskier"),
        ),
        embedding_size=8,
        failure=FailureDefinition(metric="PCK@0.2", normaliser="torso", below=0.5),
        calibration=calibration(),
        parity=nothing,
        precisions={},
        provenance=Provenance(
            recipe="written by hand",
            training_data=(),
            label_count=0,
            validation_data="procedural",
            commit="",
            created="2026-11-22T00:00:00+00:00",
            foreign=None,
            metrics={},
            reports={},
            config={},
        ),
        weights_licence="Apache-2.0",
        files={name: sha256_file(FOLDER / name) for name in ("model.onnx", "samples.npz")},
    )


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    onnx.save(graph(), FOLDER / "model.onnx")
    session = InferenceSession(str(FOLDER / "model.onnx"), providers=["CPUExecutionProvider"])
    images = samples()
    answers = dict(zip(REQUIRED, session.run(REQUIRED, {"image": images}), strict=True))
    np.savez_compressed(FOLDER / "samples.npz", image=images, **answers)
    write_manifest(FOLDER, manifest())


if __name__ == "__main__":
    main()
