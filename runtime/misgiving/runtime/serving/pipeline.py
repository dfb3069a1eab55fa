"""Frames of all streams and calls on their way through one engine, and to the spool."""

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from misgiving.runtime.answer.answerer import Detector, Prepared, regions_of
from misgiving.runtime.engines.base import Engine, Prediction, Provider
from misgiving.runtime.geometry import Region
from misgiving.runtime.serving.batching import Batcher, Places, Timing
from misgiving.runtime.wire.decisions import is_kept
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1 import fleet_pb2 as fleet
from misgiving.v1 import pose_pb2 as pose

log = logging.getLogger(__name__)


class Sink(Protocol):
    """Takes frames that are kept; a Spool is one."""

    def offer(self, frame: fleet.CollectedFrame) -> bool:
        """Take a frame without waiting; False where it cannot."""


class Pipeline:
    """Decodes and cuts in a few threads, batches, and builds the answer."""

    def __init__(
        self,
        detector: Detector,
        engine: Engine,
        sink: Sink | None = None,
        *,
        device_id: str = "",
        max_waiting: int = 256,
        decoders: int = 2,
    ) -> None:
        """Start the threads.

        Args:
            detector: prepares frames and builds results.
            engine: used from one thread only.
            sink: where kept frames go, None to collect nothing.
            device_id: goes into collected frames.
            max_waiting: crops that may be under way at once; a whole frame counts as one, also
                while it is looked at more closely.
            decoders: threads that decode and cut.
        """
        self._detector = detector
        self._sink = sink
        self._device_id = device_id
        self._batcher = Batcher(engine)
        self._places = Places(max_waiting)
        self._decoders = ThreadPoolExecutor(decoders, thread_name_prefix="decode")

    @property
    def model(self) -> wire.Model:
        """What is loaded, and which engine answers now."""
        return self._detector.model(self._batcher.engine)

    @property
    def provider(self) -> Provider:
        """What runs the engine that answers now."""
        return self._batcher.engine.provider

    def switch(self, engine: Engine) -> None:
        """Answer with another engine of the same bundle, from the next batch on."""
        self._batcher.engine = engine

    async def answer_now(self, frame: pose.Frame) -> wire.FrameResult:
        """Answer a frame; refuse it with ResourceExhausted where too much waits already."""
        arrived = time.monotonic_ns()
        count = max(1, len(regions_of(frame)))
        self._places.take(count)
        try:
            return await self._answer(frame, arrived)
        finally:
            self._places.give_back(count)

    async def answer_in_turn(self, frame: pose.Frame, arrived: int) -> wire.FrameResult:
        """Answer a frame as soon as there is a place for it.

        Args:
            frame: of a stream, which bounds how many of its frames are here at once.
            arrived: when, on the monotonic clock, in ns.
        """
        count = max(1, len(regions_of(frame)))
        await self._places.wait_for(count)
        try:
            return await self._answer(frame, arrived)
        finally:
            self._places.give_back(count)

    async def close(self) -> None:
        """Finish what is under way, and stop the threads."""
        await self._batcher.close()
        self._decoders.shutdown()

    async def _answer(self, frame: pose.Frame, arrived: int) -> wire.FrameResult:
        detector = self._detector
        prepared, prediction, timing = await self._look(frame)
        taken = timing.finished - timing.started
        for _ in range(detector.rounds):
            if not (regions := detector.closer(prepared, prediction)):
                break
            closer, answer, again = await self._look(frame, regions)
            taken += again.finished - again.started
            prepared, prediction = detector.kept(prepared, prediction, closer, answer)
        result = detector.result(frame, prepared, prediction)
        result.queue_nano = timing.started - arrived
        result.inference_nano = taken
        if self._sink is not None and is_kept(result):
            result.collection = self._collect(self._sink, frame, result, prediction)
        if frame.capture_time_unix_nano > 0:  # no camera's clock stands before 1970
            result.age_nano = time.time_ns() - frame.capture_time_unix_nano
        return result

    async def _look(
        self, frame: pose.Frame, closer: Sequence[Region] = ()
    ) -> tuple[Prepared, Prediction, Timing]:
        """One pass. A closer look decodes again: the pixels of all frames under way do not fit."""
        loop = asyncio.get_running_loop()
        prepare = self._detector.prepare
        prepared = await loop.run_in_executor(self._decoders, prepare, frame, closer)
        return prepared, *await self._batcher.infer(prepared.crops)

    def _collect(
        self, sink: Sink, frame: pose.Frame, result: wire.FrameResult, prediction: Prediction
    ) -> wire.Collection.ValueType:
        """Offer a frame that is to be kept; whatever goes wrong here, the answer is given."""
        try:
            taken = sink.offer(
                self._detector.collected(frame, result, prediction.embedding, self._device_id)
            )
        except Exception:
            log.exception("frame %r was to be kept and could not be collected", frame.frame_id)
            taken = False
        return wire.COLLECTION_QUEUED if taken else wire.COLLECTION_LOST
