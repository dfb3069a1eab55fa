"""Frames of all streams and calls on their way through one model, and to the spool."""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

from misgiving.runtime.answer.answerer import Look, Model, answering, crops_of, cut_out
from misgiving.runtime.answer.describing import describe
from misgiving.runtime.engines.base import Engine, Provider
from misgiving.runtime.flags.policy import FlagPolicy, FlagState, decide
from misgiving.runtime.geometry import CropRule, Region
from misgiving.runtime.nouns import Answer, Collection, Frame, ModelInfo
from misgiving.runtime.serving.batching import Batcher, Places
from misgiving.runtime.wire.collected import KeptFrame

log = logging.getLogger(__name__)

_QUICK_PIXELS = 64 * 1024


class Sink(Protocol):
    """Takes frames that are kept; a Spool is one."""

    def offer(self, frame: KeptFrame) -> bool:
        """Take a frame without waiting; False where it cannot."""


class Pipeline:
    """Decodes and cuts in a few threads, batches, answers and decides."""

    def __init__(
        self,
        model: Model,
        policy: FlagPolicy,
        sink: Sink | None = None,
        *,
        device_id: str = "",
        max_waiting: int = 256,
        decoders: int = 2,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Start the threads.

        Args:
            model: answers; its engine is used from one thread only.
            policy: decides about each person.
            sink: where kept frames go, None to collect nothing.
            device_id: goes into collected frames.
            max_waiting: crops that may be under way at once; a whole frame counts as one, also
                while it is looked at more closely.
            decoders: threads that decode and cut.
            draw: uniform random numbers in [0, 1) for the audit sample.
        """
        self._model = model
        self._flagging = FlagState(policy)
        self._sink = sink
        self._device_id = device_id
        self._draw = draw
        self._batcher = Batcher()
        self._places = Places(max_waiting)
        self._decoders = ThreadPoolExecutor(decoders, thread_name_prefix="decode")

    @property
    def info(self) -> ModelInfo:
        """What is loaded, and which engine answers now."""
        return describe(self._model, self._flagging.policy)

    @property
    def provider(self) -> Provider:
        """What runs the engine that answers now."""
        return self._model.engine.provider

    def switch(self, engine: Engine) -> None:
        """Answer with another engine of the same bundle, from the next frame on."""
        self._model = replace(self._model, engine=engine)

    async def answer_now(self, frame: Frame) -> Answer:
        """Answer a frame; refuse it with ResourceExhausted where too much waits already."""
        arrived = time.monotonic_ns()
        count = crops_of(frame)
        self._places.take(count)
        try:
            return await self._answer(frame, arrived)
        finally:
            self._places.give_back(count)

    async def answer_in_turn(self, frame: Frame, arrived: int) -> Answer:
        """Answer a frame as soon as there is a place for it.

        Args:
            frame: of a stream, which bounds how many of its frames are here at once.
            arrived: when, on the monotonic clock, in ns.
        """
        count = crops_of(frame)
        await self._places.wait_for(count)
        try:
            return await self._answer(frame, arrived)
        finally:
            self._places.give_back(count)

    async def close(self) -> None:
        """Finish what is under way, and stop the threads."""
        await self._batcher.close()
        self._decoders.shutdown()

    async def _answer(self, frame: Frame, arrived: int) -> Answer:
        model = self._model
        answer = await self._asked(model, frame, arrived)
        draws = [self._draw() for _ in answer.persons]
        self._flagging, decisions = decide(self._flagging, frame, answer, time.monotonic(), draws)
        known = frame.capture_time_unix_nano > 0  # no camera's clock stands before 1970
        age = time.time_ns() - frame.capture_time_unix_nano if known else None
        answer = answer.decided(decisions, age)
        if self._sink is None or not answer.kept:
            return answer
        return replace(answer, collection=self._collect(self._sink, model, frame, answer))

    async def _asked(self, model: Model, frame: Frame, arrived: int) -> Answer:
        """Drive :func:`answering`, with other frames in between."""
        steps = answering(model.bundle, frame, arrived_nano=arrived)
        regions = next(steps)
        while True:
            try:
                regions = steps.send(await self._look(model, frame, regions))
            except StopIteration as end:
                answer: Answer = end.value
                return answer

    async def _look(self, model: Model, frame: Frame, regions: tuple[Region, ...]) -> Look:
        """One pass. A closer look decodes again: the pixels of all frames under way do not fit."""
        rule = model.bundle.manifest.crop
        if _is_quick(frame, regions, rule):
            cuts = cut_out(frame, regions, rule)
        else:
            loop = asyncio.get_running_loop()
            cuts = await loop.run_in_executor(self._decoders, cut_out, frame, regions, rule)
        said, timing = await self._batcher.infer(model.engine, cuts.crops)
        return Look(cuts, said, timing.started, timing.finished)

    def _collect(self, sink: Sink, model: Model, frame: Frame, answer: Answer) -> Collection:
        """Offer a frame that is to be kept; whatever goes wrong here, the answer is given."""
        manifest = model.bundle.manifest
        kept = KeptFrame(
            frame,
            answer.persons,
            model.bundle.digest,
            tuple(signal.name for signal in manifest.signals),
            tuple(manifest.keypoints.names),
            tuple(manifest.keypoints.skeleton),
            self._device_id,
        )
        try:
            taken = sink.offer(kept)
        except Exception:
            log.exception("frame %r was to be kept and could not be collected", frame.frame_id)
            taken = False
        return Collection.QUEUED if taken else Collection.LOST


def _is_quick(frame: Frame, regions: tuple[Region, ...], rule: CropRule) -> bool:
    """Whether a frame is cut in less time than a change of threads takes."""
    if isinstance(frame.image, bytes):
        return False
    crop = rule.height * rule.width
    areas = [region.width * region.height for region in regions] or [frame.image.size / 3]
    return sum(max(crop, area) for area in areas) <= _QUICK_PIXELS
