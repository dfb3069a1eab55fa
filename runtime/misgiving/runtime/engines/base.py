"""The interface of an engine: a batch of crops in, predictions out.

Axes: B batch, K keypoints, S signals, D embedding.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.errors import EngineError

LARGEST_BATCH = 1024
"""What the exporter lets a graph take."""


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
    keypoint_loss: NDArray[np.float32]
    """(B, K), higher is worse; (B, 0) of a graph whose head does not tell joints apart."""

    def __len__(self) -> int:
        return len(self.predicted_loss)

    @classmethod
    def of(cls, outputs: Mapping[str, NDArray[np.float32]]) -> "Prediction":
        """From a graph's outputs by name."""
        nothing = np.empty((len(outputs["predicted_loss"]), 0), np.float32)
        return cls(**{KEYPOINT_LOSS: nothing, **outputs})


NOBODY = Prediction(
    *(np.empty(shape, np.float32) for shape in ((0, 0, 3), 0, (0, 0), (0, 0), (0, 0)))
)
"""Of no crop at all."""

OUTPUTS = tuple(field.name for field in fields(Prediction))
"""What a graph gives, in this order; the last only where its head has it."""
REQUIRED, KEYPOINT_LOSS = OUTPUTS[:-1], OUTPUTS[-1]


Kind = Literal["onnxruntime", "tensorrt"]


@dataclass(frozen=True, slots=True)
class Provider:
    """What really runs an :class:`Engine`.

    >>> provider = Estimator.load().engine.provider
    >>> provider.kind, provider.device, str(provider)
    ('onnxruntime', 'CPUExecutionProvider', 'onnxruntime CPUExecutionProvider fp32')
    """

    kind: Kind
    """The health service has a name for each."""
    library: str
    """With its version where that decides, for example ``tensorrt 10.3.0``."""
    device: str
    """As the library or the driver calls it."""
    precision: str

    def __str__(self) -> str:
        return f"{self.library} {self.device} {self.precision}"


class Engine(Protocol):
    """Runs one bundle on one device. Not thread-safe: one call at a time.

    >>> engine = Estimator.load().engine
    >>> engine.provider.precision
    'fp32'
    >>> engine.infer(np.zeros((2, 144, 144, 3), np.uint8)).keypoints.shape
    (2, 14, 3)
    """

    @property
    def provider(self) -> Provider:
        """What really runs."""

    @property
    def max_batch(self) -> int:
        """Crops that go through it in one pass; more than these take several."""

    def infer(self, images: NDArray[np.uint8]) -> Prediction:
        """Answer a batch of uint8 RGB crops, shape (B, H, W, 3), B ≥ 1."""


def in_passes(
    run: Callable[[NDArray[np.uint8]], Prediction], images: NDArray[np.uint8], most: int
) -> Prediction:
    """Answer a batch of any size by passes of at most so many crops."""
    if len(images) <= most:
        return run(images)
    return joined([run(images[at : at + most]) for at in range(0, len(images), most)])


def joined(predictions: Sequence[Prediction]) -> Prediction:
    """Several passes as one batch."""
    return Prediction(
        *(np.concatenate([getattr(one, name) for one in predictions]) for name in OUTPUTS)
    )


def rows(prediction: Prediction, which: slice) -> Prediction:
    """Some of a pass."""
    return Prediction(*(getattr(prediction, name)[which] for name in OUTPUTS))


def outputs_of(file: str, names: Collection[str]) -> tuple[str, ...]:
    """Those of OUTPUTS that a graph has.

    Raises:
        EngineError: it lacks one of REQUIRED.
    """
    if missing := [name for name in REQUIRED if name not in names]:
        raise EngineError(
            f"{file} lacks the outputs {', '.join(missing)}; "
            "expected a graph written by 'misgiving export'"
        )
    return tuple(name for name in OUTPUTS if name in names)
