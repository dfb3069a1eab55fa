"""The interface of an engine: a batch of crops in, predictions out.

Axes: B batch, K keypoints, S signals, D embedding.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Prediction:
    """One pass of an :class:`Engine` over a batch; every field's first axis is the batch."""

    keypoints: NDArray[np.float32]
    """(B, K, 3): x and y in input px, confidence in [0, 1]."""
    predicted_loss: NDArray[np.float32]
    """(B,), unitless, higher is worse."""
    signals: NDArray[np.float32]
    """(B, S): the free scores that the manifest names."""
    embedding: NDArray[np.float32]
    """(B, D): the pose net's pooled features."""

    def __len__(self) -> int:
        return len(self.predicted_loss)


class Engine(Protocol):
    """Runs one bundle on one device. Not thread-safe: one call at a time.

    >>> engine = Estimator.load().engine
    >>> engine.provider
    'onnxruntime CPUExecutionProvider fp32'
    >>> engine.infer(np.zeros((2, 128, 128, 3), np.uint8)).keypoints.shape
    (2, 14, 3)
    """

    @property
    def provider(self) -> str:
        """What really runs, for example ``onnxruntime CPUExecutionProvider fp32``."""

    def infer(self, images: NDArray[np.uint8]) -> Prediction:
        """Answer a batch of uint8 RGB crops, shape (B, H, W, 3), B ≥ 1."""
