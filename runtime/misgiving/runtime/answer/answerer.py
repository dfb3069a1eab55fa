"""A frame in, an answer out, whatever runs the graph and whatever carries the frame.

:func:`answering` is written once, as a generator: it says which regions to look at and is sent
what was seen. :func:`answer` drives it here and now, the server's pipeline drives it between
other frames. Axes: R regions of a frame, K keypoints, S signals, D embedding.
"""

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.answer import closer
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.manifest import Manifest
from misgiving.runtime.engines.base import NOBODY, Engine, Prediction, joined, rows
from misgiving.runtime.errors import ResourceExhausted
from misgiving.runtime.geometry import (
    CropRule,
    Region,
    Window,
    check_count,
    cut,
    input_to_image,
    window_of,
)
from misgiving.runtime.nouns import Answer, Frame, Person

MAX_WINDOW_PIXELS = 128_000_000
"""What a region's window may measure; a whole frame of images.MAX_PIXELS needs about this."""


@dataclass(frozen=True, slots=True)
class Model:
    """What answers: the contract and the calibration of a bundle, and the engine that runs it.

    Taken once for each frame, so that a frame is never answered by two of them.
    """

    bundle: Bundle
    engine: Engine


@dataclass(frozen=True, slots=True)
class Cuts:
    """What is cut out of a frame: region, window and crop of each person."""

    regions: tuple[Region, ...]
    windows: tuple[Window, ...]
    crops: tuple[NDArray[np.uint8], ...]
    whole: Region | None
    """The frame itself where it was asked about and may be looked at again, else None."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was cut out of a frame, and what the engine said of it."""

    cuts: Cuts
    said: Prediction
    """One row for each crop."""
    started_nano: int
    """Start of inference, on the monotonic clock."""
    finished_nano: int


Find = Callable[[NDArray[np.uint8]], tuple[Region, ...] | None]
"""Where the persons of an RGB image are; None where the whole of it is to be looked at."""

Answering = Generator[tuple[Region, ...], Look, Answer]


def crops_of(frame: Frame) -> int:
    """How many crops the first look at a frame has.

    Raises:
        ResourceExhausted: more than MAX_REGIONS.
    """
    check_count(len(frame.regions), frame.frame_id)
    return max(1, len(frame.regions))


def cut_out(
    frame: Frame, regions: Sequence[Region], rule: CropRule, find: Find | None = None
) -> Cuts:
    """Decode a frame and cut regions out of it; takes milliseconds of CPU.

    Args:
        frame: to look at.
        regions: none for those that are found, or for the whole frame.
        rule: of the bundle.
        find: finds persons where there are no regions; None for the whole frame.

    Raises:
        ImageError, RegionError: the frame cannot be answered.
        ResourceExhausted: too many pixels.
    """
    image = frame.decoded()
    height, width = image.shape[:2]
    found = tuple(regions) or (find(image) if find else None)
    asked = (None,) if found is None else found
    windows = tuple([_check_window(window_of(one, height, width, rule)) for one in asked])
    crops = tuple([cut(image, window, rule.height, rule.width) for window in windows])
    whole = Region(0, 0, width, height)
    return Cuts(
        (whole,) if found is None else found, windows, crops, None if found is not None else whole
    )


def answering(
    bundle: Bundle, frame: Frame, rounds: int = closer.ROUNDS, *, arrived_nano: int | None = None
) -> Answering:
    """Answer a frame: yields the regions to look at, is sent each look, returns the answer.

    Args:
        bundle: whose crop rule, calibration and digest count.
        frame: to be answered.
        rounds: closer looks that a whole frame may get; 0 answers it as it is.
        arrived_nano: on the monotonic clock; None where it did not wait.
    """
    manifest = bundle.manifest
    look = yield frame.regions
    first, taken = look, look.finished_nano - look.started_nano
    for _ in range(rounds):
        if not (regions := _closer(look, manifest)):
            break
        again = yield tuple(regions)
        taken += again.finished_nano - again.started_nano
        look = _better(look, again)
    return Answer(
        frame.frame_id,
        tuple([_person(look, index, manifest) for index in range(len(look.said))]),
        bundle.digest,
        queue_nano=0 if arrived_nano is None else first.started_nano - arrived_nano,
        inference_nano=taken,
    )


def answer(
    model: Model, frame: Frame, rounds: int = closer.ROUNDS, find: Find | None = None
) -> Answer:
    """Answer a frame here and now, without a server.

    Args:
        model: answers.
        frame: to be answered.
        rounds: see :func:`answering`.
        find: see :func:`cut_out`.

    Raises:
        ImageError, RegionError: the frame cannot be answered.
        ResourceExhausted: too many pixels or regions.
    """
    crops_of(frame)
    rule = model.bundle.manifest.crop
    steps = answering(model.bundle, frame, rounds)
    regions = next(steps)
    while True:
        cuts = cut_out(frame, regions, rule, find)
        started = time.monotonic_ns()
        said = model.engine.infer(np.stack(cuts.crops)) if cuts.crops else NOBODY
        try:
            regions = steps.send(Look(cuts, said, started, time.monotonic_ns()))
        except StopIteration as end:
            answered: Answer = end.value
            return answered


def _closer(look: Look, manifest: Manifest) -> list[Region]:
    """The regions to look at before an answer is given; none where it stands as it is."""
    if look.cuts.whole is None:
        return []
    rule, (window,) = manifest.crop, look.cuts.windows
    points, confidence = look.said.keypoints[0, :, :2], look.said.keypoints[0, :, 2]
    points = input_to_image(points, window, rule.height, rule.width)
    failure = manifest.calibration.probability(float(look.said.predicted_loss[0]))
    if not closer.asks(points, confidence, window, rule, failure):
        return []
    return closer.regions(points, confidence, window, rule, look.cuts.whole)


def _better(look: Look, again: Look) -> Look:
    """The best of a look and the closer ones that it asked for; where none of those is better,
    it asks no more."""
    every = joined([look.said, again.said])
    at = closer.best(every.predicted_loss)
    a, b = look.cuts, again.cuts
    best = Cuts(
        ((*a.regions, *b.regions)[at],),
        ((*a.windows, *b.windows)[at],),
        ((*a.crops, *b.crops)[at],),
        a.whole if at else None,
    )
    return Look(best, rows(every, slice(at, at + 1)), again.started_nano, again.finished_nano)


def _person(look: Look, index: int, manifest: Manifest) -> Person:
    rule, said = manifest.crop, look.said
    window = look.cuts.windows[index]
    score = float(said.predicted_loss[index])
    return Person(
        look.cuts.regions[index],
        input_to_image(said.keypoints[index], window, rule.height, rule.width),
        score,
        manifest.calibration.probability(score),
        said.keypoint_loss[index],
        said.signals[index],
        said.embedding[index],
    )


def _check_window(window: Window) -> Window:
    if window.width * window.height > MAX_WINDOW_PIXELS:
        raise ResourceExhausted(
            f"region needs a window of {window.width} × {window.height} px; at most "
            f"{MAX_WINDOW_PIXELS:,} pixels are cut. Send a smaller region, or a smaller image"
        )
    return window
