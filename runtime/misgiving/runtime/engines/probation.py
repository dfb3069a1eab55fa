"""The probation of a signed bundle: what its engines answer, until the floor may rise to it."""

import asyncio
import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.bundles.floor import rise, survives
from misgiving.runtime.engines.base import Engine, Prediction, Provider

_LOOK_EVERY_S = 10.0


class Probation:
    """Counts what a bundle's engines answer, until the bundle has survived.

    Written by the engine's thread and read by another, which may see numbers of a moment ago.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._persons = 0
        self._since = clock()

    def watch(self, engine: Engine) -> Engine:
        """The engine, whose answers count from now on."""
        return _Watched(engine, self)

    def answered(self, persons: int) -> None:
        self._persons += persons

    def failed(self) -> None:
        """It starts anew."""
        self._persons, self._since = 0, self._clock()

    def survived(self) -> bool:
        return survives(self._persons, self._clock() - self._since)


class _Watched:
    def __init__(self, engine: Engine, probation: Probation) -> None:
        self._engine = engine
        self._probation = probation

    @property
    def provider(self) -> Provider:
        return self._engine.provider

    @property
    def max_batch(self) -> int:
        return self._engine.max_batch

    def infer(self, images: NDArray[np.uint8]) -> Prediction:
        try:
            prediction = self._engine.infer(images)
        except Exception:
            self._probation.failed()
            raise
        if np.isfinite(prediction.predicted_loss).all():
            self._probation.answered(len(prediction))
        else:
            self._probation.failed()
        return prediction


async def raise_after_probation(probation: Probation, name: str, release: int) -> None:
    """Wait until the bundle has survived, then raise the floor once, off the inference path."""
    while not probation.survived():
        await asyncio.sleep(_LOOK_EVERY_S)
    if await asyncio.to_thread(rise, name, release):
        line = f"{name} survived its probation: release {release} is the lowest taken from now on"
        print(line, file=sys.stderr, flush=True)
