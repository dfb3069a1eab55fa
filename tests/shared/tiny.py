"""The tiny bundle of make_tiny_bundle.py, and what it must answer, worked out without it."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.answer.answerer import Model, answer
from misgiving.runtime.answer.closer import ROUNDS
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.engines.base import Engine
from misgiving.runtime.engines.onnx import OnnxEngine
from misgiving.runtime.flags.policy import FlagPolicy, FlagState, decide
from misgiving.runtime.nouns import Answer, Frame

BUNDLE = Path(__file__).parent / "tiny_bundle"
DETECTOR = Path(__file__).parent / "tiny_detector" / "detector.toml"
"""Of make_tiny_detector.py: red squares are persons."""
HEIGHT, WIDTH, JOINTS, BAND = 56, 42, 14, 4


def engine() -> OnnxEngine:
    return OnnxEngine(BUNDLE / "model.onnx", threads=1)


def model(runs: Engine | None = None) -> Model:
    return Model(Bundle.load(BUNDLE), runs or engine())


def policy(threshold: float = 0.75, audit_rate: float = 0.0) -> FlagPolicy:
    return FlagPolicy(threshold=threshold, audit_rate=audit_rate)


def answered(
    frame: Frame,
    runs: Engine | None = None,
    flagging: FlagPolicy | None = None,
    draw: float = 0.5,
    rounds: int = ROUNDS,
) -> Answer:
    """What the tiny bundle says of a frame, and what is decided about its persons."""
    said = answer(model(runs), frame, rounds)
    state = FlagState(flagging or policy())
    _, decisions = decide(state, frame, said, 0.0, [draw] * max(1, len(said.persons)))
    return said.decided(decisions)


def spots(columns: list[int], brightness: int = 255, scale: int = 1) -> NDArray[np.uint8]:
    """Black but for one bright pixel (a square of ``scale`` px) in the second row of each band."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for joint, column in enumerate(columns):
        image[joint * BAND + 1, column] = brightness
    return image.repeat(scale, 0).repeat(scale, 1)


def spot_points(columns: list[int], scale: int = 1) -> NDArray[np.float64]:
    """Where the keypoints of ``spots`` lie in the image, (K, 2)."""
    rows = np.arange(JOINTS) * BAND + 1
    return (np.stack([columns, rows], axis=-1) + 0.5) * scale


def write_video(path: Path, frames: int, fps: float = 10) -> Path:
    """An MP4 of 64 × 48 px that becomes redder with every frame."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (64, 48))
    for i in range(frames):
        image = np.zeros((48, 64, 3), np.uint8)
        image[..., 2] = min(20 * i, 220)  # red, in OpenCV's order
        writer.write(image)
    writer.release()
    return path
