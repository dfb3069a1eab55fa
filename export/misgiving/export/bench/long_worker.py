"""A process that loads one engine, times it for long, and checks its answers meanwhile.

Called by :mod:`misgiving.export.bench.long`; prints :class:`Worked` as JSON, or why it cannot.
"""

import io
import json
import math
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.bundles.bundle import SAMPLES, Bundle
from misgiving.runtime.engines.base import Engine, Prediction, joined
from misgiving.runtime.engines.loading import ModelOptions, load
from misgiving.runtime.engines.self_check import compare_samples, sample_drift
from misgiving.runtime.errors import MisgivingError

PERSONS = (1, 8)
"""Of a query: a single stream, and one person of each of 8 streams."""
WARM_UP_SHARE = 0.05
KEPT_SHARE = 0.1
"""Of the answers while the clock runs, to be checked; drawn at random."""


@dataclass(kw_only=True, slots=True)
class Check:
    """How far answers are from those in the bundle, at most."""

    passes: int = 0
    """Over all of the bundle's samples."""
    shift_px: float = 0.0
    """Of keypoints, the median of a pass."""
    drift: float = 0.0
    """Of ``predicted_loss``, in standard deviations over the samples."""
    same: bool = True
    """Every pass was bit for bit the first one."""


@dataclass(kw_only=True, slots=True)
class Run:
    """One query after another for a while."""

    persons: int
    """In a query."""
    begun_s: float
    """On the monotonic clock, which all processes share."""
    starts_s: list[float] = field(default_factory=list)
    """Of each query, since then."""
    calls_ms: list[float] = field(default_factory=list)
    """What each query took."""
    check: Check = field(default_factory=Check)
    """Of the answers before, in between and after."""


@dataclass(frozen=True, kw_only=True)
class Worked:
    """All of it."""

    engine: str
    """What really ran."""
    runs: list[Run]


class Queries:
    """The bundle's samples, so many at a time, over and over; checks what an engine answers.

    Query ``i`` and query ``i + len(queries)`` are the same, and these many hold every sample
    equally often.
    """

    def __init__(self, bundle: Bundle, persons: int) -> None:
        with np.load(io.BytesIO(bundle.read(SAMPLES)), allow_pickle=False) as archive:
            samples = dict(archive)
        count = len(samples["image"])
        order = np.arange(math.lcm(count, persons)) % count
        self._expected = {name: values[order] for name, values in samples.items()}
        self._measured = bundle.measured_drift
        parts = order.reshape(-1, persons)
        self._images: list[NDArray[np.uint8]] = [samples["image"][part] for part in parts]
        self._kept: dict[int, Prediction] = {}
        self._first: Prediction | None = None

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, query: int) -> NDArray[np.uint8]:
        return self._images[query % len(self)]

    def keep(self, query: int, answer: Prediction, check: Check) -> None:
        """Keep an answer; where there is one of every query, check them.

        Raises:
            BundleError: they are not the bundle's, by the tolerance of its self-check.
        """
        self._kept[query % len(self)] = answer
        if len(self._kept) == len(self):
            self._compare(joined([self._kept[place] for place in range(len(self))]), check)
            self._kept.clear()

    def _compare(self, got: Prediction, check: Check) -> None:
        compare_samples(got, self._expected, self._measured)
        shift, drift = sample_drift(got, self._expected)
        first = self._first = self._first or got
        check.passes += 1
        check.shift_px, check.drift = max(check.shift_px, shift), max(check.drift, drift)
        check.same &= np.array_equal(got.keypoints, first.keypoints)
        check.same &= np.array_equal(got.predicted_loss, first.predicted_loss)


def main() -> None:
    """Time the bundle that the command line names."""
    asked: dict[str, Any] = json.loads(sys.argv[1])
    seconds = asked.pop("seconds")
    options = ModelOptions(**{**asked, "bundle": Path(asked["bundle"])})
    try:
        print(json.dumps(asdict(work(options, seconds))))
    except MisgivingError as error:
        print(json.dumps({"error": str(error)}))


def work(options: ModelOptions, seconds: float) -> Worked:
    """Load an engine once, and time it with one person a query, then with eight.

    Raises:
        MisgivingError: it does not load, or answers something else than the bundle's samples say.
    """
    bundle, engine = load(options)
    runs = [timed(engine, Queries(bundle, persons), persons, seconds) for persons in PERSONS]
    return Worked(engine=str(engine.provider), runs=runs)


def timed(engine: Engine, queries: Queries, persons: int, seconds: float) -> Run:
    """Warm up, check, time, check. No check is within what a query takes.

    Raises:
        BundleError: an answer is not the bundle's.
    """
    end = time.monotonic() + WARM_UP_SHARE * seconds
    for query in _until(end):
        engine.infer(queries[query])
    run = Run(persons=persons, begun_s=0.0)
    _check_all(engine, queries, run.check)
    draw = random.Random(0)
    run.begun_s = time.monotonic()
    for query in _until(run.begun_s + seconds):
        images = queries[query]
        begun = time.monotonic()
        answer = engine.infer(images)
        ended = time.monotonic()
        run.starts_s.append(round(begun - run.begun_s, 4))
        run.calls_ms.append(round(1e3 * (ended - begun), 5))
        if draw.random() < KEPT_SHARE:
            queries.keep(query, answer, run.check)
    _check_all(engine, queries, run.check)
    return run


def _until(end: float) -> Iterator[int]:
    """Numbers of queries: one, and more until then."""
    query = 0
    while query == 0 or time.monotonic() < end:
        yield query
        query += 1


def _check_all(engine: Engine, queries: Queries, check: Check) -> None:
    for query in range(len(queries)):
        queries.keep(query, engine.infer(queries[query]), check)


if __name__ == "__main__":
    main()
