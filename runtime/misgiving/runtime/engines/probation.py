"""The probation of a bundle: what its engines answer, how often they fail, how long they take."""

import math
import statistics
import time
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.bundles.floor import survives
from misgiving.runtime.engines.base import Engine, Prediction, Provider

PACE_BATCHES = 100
"""Batches of one size, the last, whose median is their pace."""


class Pace:
    """How long batches take, each size by itself."""

    def __init__(self) -> None:
        self._seconds: dict[int, deque[float]] = {}

    def took(self, persons: int, seconds: float) -> None:
        """A batch of so many persons has ended."""
        taken = self._seconds.get(persons)
        if taken is None:
            taken = self._seconds[persons] = deque(maxlen=PACE_BATCHES)
        taken.append(seconds)

    def medians(self) -> dict[int, float]:
        """Persons in a batch → seconds, where enough such batches were seen."""
        known = {size: list(taken) for size, taken in list(self._seconds.items())}
        return {
            size: statistics.median(taken)
            for size, taken in known.items()
            if len(taken) == PACE_BATCHES
        }

    def times(self, other: "Pace") -> float | None:
        """How many times as long as the other's these take, at the size where that is least;
        None where no size is known of both."""
        ours, theirs = self.medians(), other.medians()
        return min(
            (ours[size] / theirs[size] for size in ours.keys() & theirs.keys()), default=None
        )


class Probation:
    """Counts what a bundle's engines answer, until the bundle has survived.

    Written by the engine's thread and read by another, which may see numbers of a moment ago.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._persons = 0
        self._since = clock()
        self.failures = 0
        """Batches that failed, or had a predicted loss that is no number."""
        self.pace = Pace()
        """Of the engine that is watched now."""

    def watch(self, engine: Engine) -> Engine:
        """The engine, whose answers count from now on."""
        self.pace = Pace()
        return _Watched(engine, self, self.pace)

    def answered(self, persons: int) -> None:
        self._persons += persons

    def failed(self) -> None:
        """It starts anew."""
        self.failures += 1
        self.begin()

    def begin(self) -> None:
        """Nothing before counts."""
        self._persons, self._since = 0, self._clock()

    def survived(self) -> bool:
        return survives(self._persons, self._clock() - self._since)


class _Watched:
    def __init__(self, engine: Engine, probation: Probation, pace: Pace) -> None:
        self._engine = engine
        self._probation = probation
        self._pace = pace

    @property
    def provider(self) -> Provider:
        return self._engine.provider

    @property
    def max_batch(self) -> int:
        return self._engine.max_batch

    def infer(self, images: NDArray[np.uint8]) -> Prediction:
        started = time.perf_counter()
        try:
            prediction = self._engine.infer(images)
        except Exception:
            self._probation.failed()
            raise
        self._pace.took(len(images), time.perf_counter() - started)
        if all(map(math.isfinite, prediction.predicted_loss.tolist())):
            self._probation.answered(len(prediction))
        else:
            self._probation.failed()
        return prediction
