"""The work of a frame, for servers in whose environment misgiving is not: no import of ours.

The same as the runtime's ``images.decode``, ``geometry.window_of`` and ``cut``, its engine and
``geometry.input_to_image``, for one region a frame; ``peers.py`` compares every server's answer
with the runtime's. Nothing that it is given is checked.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime

Array = Any
BATCH = 8
"""As many frames at once as the runtime takes by itself."""


class Work:
    """A bundle's network on one thread, from pictures to joints."""

    def __init__(self, bundle: Path) -> None:
        cv2.setNumThreads(1)
        rule = json.loads((bundle / "manifest.json").read_text())["crop"]
        self._size, self._padding = (rule["width"], rule["height"]), rule["padding"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            bundle / "model.onnx", options, providers=["CPUExecutionProvider"]
        )

    def answer(self, images: Sequence[Array], regions: Sequence[Array]) -> tuple[Array, Array]:
        """Joints in px of each image with confidences, (N, K, 3), and the predicted losses, (N,).

        Args:
            images: RGB, (H, W, 3) each.
            regions: x, y, width and height of a box in each, in px.
        """
        windows = [self._window(region) for region in regions]
        crops = [self._cut(*each) for each in zip(images, windows, strict=True)]
        outputs = ["keypoints", "predicted_loss"]
        keypoints, losses = self._session.run(outputs, {"image": np.stack(crops)})
        for points, (left, top, width, height) in zip(keypoints, windows, strict=True):
            points[:, :2] *= np.divide((width, height), self._size, dtype=np.float32)
            points[:, :2] += (left, top)
        return keypoints, losses

    def _window(self, region: Array) -> tuple[int, int, int, int]:
        """Left, top, width and height of the padded region, at the input's aspect."""
        x, y, wide, high = map(float, region)
        scale = self._padding * max(wide / self._size[0], high / self._size[1])
        width, height = (max(1, round(side * scale)) for side in self._size)
        return round(x + wide / 2 - width / 2), round(y + high / 2 - height / 2), width, height

    def _cut(self, image: Array, window: tuple[int, int, int, int]) -> Array:
        left, top, width, height = window
        bottom, right = top + height, left + width
        inside = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        if inside.shape[:2] != (height, width):
            padded = np.zeros((height, width, 3), np.uint8)
            y, x = max(-top, 0), max(-left, 0)
            padded[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
            inside = padded
        shrinks = width * height > self._size[0] * self._size[1]
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return cv2.resize(inside, self._size, interpolation=method)


def decoded(jpeg: bytes) -> Array:
    """RGB pixels, (H, W, 3)."""
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)


def from_body(body: bytes, query: Any) -> tuple[Array, list[float]]:
    """The image and the region of an HTTP request: a JPEG, or pixels where ``height`` is given."""
    region = [float(side) for side in query["region"].split(",")]
    if height := query.get("height"):
        return np.frombuffer(body, np.uint8).reshape(int(height), -1, 3), region
    return decoded(body), region


def to_body(keypoints: Array, loss: Array) -> bytes:
    """A person's answer as float32: x, y and confidence of each joint, and the predicted loss."""
    return np.append(keypoints, loss).astype(np.float32).tobytes()
