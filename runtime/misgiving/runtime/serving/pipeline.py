"""Frames of all streams and calls on their way through one model, and to the spool."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np

from misgiving.runtime.answer.answerer import Look, Model, answering, crops_of, cut_out
from misgiving.runtime.answer.describing import describe
from misgiving.runtime.engines.base import NOBODY, Engine, Provider
from misgiving.runtime.flags.budgets import Budget
from misgiving.runtime.flags.drift import DriftWatch
from misgiving.runtime.flags.policy import FlagPolicy, FlagState, decide, decide_again
from misgiving.runtime.geometry import CropRule, Region
from misgiving.runtime.nouns import Answer, Collection, Decision, Frame, ModelInfo, Reason
from misgiving.runtime.persons.lookout import Lookout
from misgiving.runtime.privacy.keeping import Keeping
from misgiving.runtime.privacy.policy import Barred
from misgiving.runtime.serving.batching import MAX_BATCH, Batcher, Turns
from misgiving.runtime.serving.places import Place, Places
from misgiving.runtime.serving.shadow import Ruling, Shadow
from misgiving.runtime.serving.vitals import Vitals
from misgiving.runtime.telemetry.gauges import release
from misgiving.runtime.wire.collected import Coding, KeptFrame

log = logging.getLogger(__name__)

_DECODERS = 2
"""Threads that decode and cut."""
_QUICK_PIXELS = 64 * 1024
_DRIFTED = "predicted losses are not distributed as the bundle's reference has them any more"
_BACK = "predicted losses are distributed as the bundle's reference has them again"


class Sink(Protocol):
    """Takes frames that are kept; a Spool is one."""

    def offer(self, frame: KeptFrame) -> bool:
        """Take a frame without waiting; False where it cannot."""


class Memory(Protocol):
    """Remembers what was spent of the budgets; a Ledger is one."""

    def recalled(self, state: FlagState) -> FlagState:
        """A new state that goes on where the last process was."""

    def note(self, state: FlagState) -> None:
        """Remember a state, without waiting."""

    def close(self) -> None:
        """Finish remembering."""


class Pipeline:
    """Decodes and cuts in a few threads, batches, answers and decides."""

    def __init__(
        self,
        model: Model,
        policy: FlagPolicy,
        sink: Sink | None = None,
        *,
        memory: Memory | None = None,
        lookout: Lookout | None = None,
        shadow: Shadow | None = None,
        device_id: str = "",
        keeping: Keeping | None = None,
        max_waiting: int = 256,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Start the threads.

        Args:
            model: answers; its engine is used from one thread only.
            policy: decides about each person.
            sink: where kept frames go, None to collect nothing.
            memory: remembers beyond this process what was spent; closed with the pipeline. None
                starts the budgets anew.
            lookout: says where to look in frames without regions, in a thread that decodes; None
                for the whole frame.
            shadow: looks at some frames after they are answered; started and closed with the
                pipeline.
            device_id: goes into collected frames.
            keeping: says what may be collected, and what of it; None for all but the place.
            max_waiting: crops that may be under way at once; a whole frame counts as one, also
                while it is looked at more closely, and a frame without regions as all the persons
                whom the lookout may find.
            draw: uniform random numbers in [0, 1) for the audit sample.
        """
        self._model = model
        flagging = FlagState(policy, _watch(model))
        self._flagging = memory.recalled(flagging) if memory else flagging
        self._sink = sink
        self._lookout = lookout
        self._shadow = shadow
        self._turns = Turns()
        self._memory = memory
        self._device_id = device_id
        self.keeping = keeping or Keeping()
        self.campaign = ""
        """Goes into collected frames; empty where no campaign of the fleet side is in force."""
        self._draw = draw
        self._batcher = Batcher()
        self._places = Places(max_waiting, _ahead(model.engine))
        self._decoders = ThreadPoolExecutor(_DECODERS, thread_name_prefix="decode")
        if shadow:
            shadow.start()

    @property
    def info(self) -> ModelInfo:
        """What is loaded, and which engine answers now."""
        return describe(self._model, self._flagging.policy)

    @property
    def provider(self) -> Provider:
        """What runs the engine that answers now."""
        return self._model.engine.provider

    @property
    def policy(self) -> FlagPolicy:
        """By which is decided now."""
        return self._flagging.policy

    @property
    def drifting(self) -> bool:
        """Whether live scores have left the bundle's reference; see flags/drift.py."""
        return self._flagging.drift is not None and self._flagging.drift.alarm

    @property
    def budgets(self) -> dict[Budget, int]:
        """What they still allow, in frames or bytes."""
        return self._flagging.left(time.monotonic())

    def flag_by(self, policy: FlagPolicy) -> None:
        """Decide by another policy, from the next frame on; what was spent stays spent."""
        self._flagging = self._flagging.under(policy)

    @property
    def model(self) -> Model:
        """What answers from the next frame on."""
        return self._model

    def shadow_by(self, ruling: Ruling) -> None:
        """Compare with a shadow, where there is one, by other rules, from the next frame on."""
        if self._shadow:
            self._shadow.ruling = ruling

    def switch(self, engine: Engine) -> None:
        """Answer with another engine of the same bundle, from the next frame on."""
        self._answer_with(replace(self._model, engine=engine))

    def exchange(self, model: Model, policy: FlagPolicy) -> None:
        """Answer with another bundle and decide by its thresholds, from the next frame on.

        A frame that is under way is still answered by the bundle that it began with, and decided
        by that one's thresholds. What was spent stays spent.
        """
        self._flagging = self._flagging.anew(policy, _watch(model))
        self._answer_with(model)

    def _answer_with(self, model: Model) -> None:
        self._model = model
        self._places.ahead = _ahead(model.engine)
        self._batcher.judged, self.vitals.failures = model.engine, 0  # those were the other's

    @property
    def vitals(self) -> Vitals:
        """Whether the engine answers."""
        return self._batcher.vitals

    async def probe(self) -> None:
        """Let the engine answer a black crop; with nobody's frames it could not come back.

        Raises:
            MisgivingError: it failed.
        """
        rule = self._model.bundle.manifest.crop
        black = np.zeros((rule.height, rule.width, 3), np.uint8)
        await self._batcher.infer(self._model.engine, [black])

    async def answer_now(self, frame: Frame, source: Hashable = None) -> Answer:
        """Answer a frame; refuse it with ResourceExhausted where too much waits already.

        Args:
            frame: of a call.
            source: who called; calls of one source take their turn one after the other.
        """
        arrived = time.monotonic_ns()
        self._places.check(count := self._crops_of(frame), self._batcher.crop_s)
        place = await self._places.wait_for(count, source)
        try:
            return await self._answer(frame, arrived, place)
        finally:
            place.leave()

    async def answer_in_turn(
        self, frame: Frame, source: Hashable, newest: Callable[[], tuple[Frame, int]]
    ) -> Answer:
        """Answer a frame of a stream, or the one that has replaced it, when its turn has come.

        Args:
            frame: waits for its turn.
            source: the stream, which bounds how many of its frames are here at once.
            newest: then asked for the frame to answer, and when it arrived, on the monotonic
                clock, in ns.
        """
        place = await self._places.wait_for(self._crops_of(frame), source)
        try:
            frame, arrived = newest()
            place.resize(self._crops_of(frame))
            return await self._answer(frame, arrived, place)
        finally:
            place.leave()

    async def close(self) -> None:
        """Finish what is under way, and stop the threads."""
        if self._shadow:
            await self._shadow.close()
        await self._batcher.close()
        self._decoders.shutdown()
        if self._memory:
            self._memory.close()

    def _crops_of(self, frame: Frame) -> int:
        if frame.regions or self._lookout is None:
            return crops_of(frame)
        return self._lookout.most(frame)

    async def _answer(self, frame: Frame, arrived: int, place: Place) -> Answer:
        model, policy = self._model, self._flagging.policy
        answer = await self._looked_out(model, frame, arrived, place)
        barred = self.keeping.bars(frame, answer.persons)
        if model.bundle is self._model.bundle:
            decisions = self._decided(frame, answer, barred)
        else:
            decisions = self._decided_late(policy, frame, answer, barred)
        known = frame.capture_time_unix_nano > 0  # no camera's clock stands before 1970
        age = time.time_ns() - frame.capture_time_unix_nano if known else None
        answer = answer.decided(decisions, age, time.monotonic_ns() - arrived)
        held = self._shadowed(model, frame, answer, barred)
        if self._sink is not None and answer.kept and barred:
            self.keeping.count(barred)
        elif self._sink is not None and answer.kept:
            if self._memory:
                self._memory.note(self._flagging)
            taken = Collection.QUEUED if held else self._collect(self._sink, model, frame, answer)
            answer = replace(answer, collection=taken)
        return answer

    async def _looked_out(self, model: Model, frame: Frame, arrived: int, place: Place) -> Answer:
        """One after another, where the answer to a frame says where to look in the next."""
        if self._lookout is None or not self._lookout.follows(frame):
            return await self._asked(model, frame, arrived, place)
        async with self._turns.of(frame.stream_id):
            answer = await self._asked(model, frame, arrived, place)
            self._lookout.seen(frame, answer)
            return answer

    def _decided(self, frame: Frame, answer: Answer, barred: Barred | None) -> tuple[Decision, ...]:
        draws = [self._draw() for _ in answer.persons or [None]]
        drifted = self.drifting
        state, decisions = decide(self._flagging, frame, answer, time.monotonic(), draws)
        self._flagging = state.unspent(self._flagging, frame.stream_id) if barred else state
        if self.drifting != drifted:
            log.warning("%s", _DRIFTED if self.drifting else _BACK)
        return decisions

    def _decided_late(
        self, policy: FlagPolicy, frame: Frame, answer: Answer, barred: Barred | None
    ) -> tuple[Decision, ...]:
        """Of an answer by a bundle that has been exchanged since."""
        now = self._flagging
        self._flagging = now.answered_before(policy)
        decisions = self._decided(frame, answer, barred)
        self._flagging = replace(self._flagging, policy=now.policy, drift=now.drift)
        return decisions

    def _shadowed(self, model: Model, frame: Frame, answer: Answer, barred: Barred | None) -> bool:
        """Let the shadow look too, where there is one; True where the frame is collected after.

        What the audit alone keeps waits for that: where the two disagree it has another
        probability.
        """
        if self._shadow is None or not self._shadow.wants(answer):
            return False
        keeps = self._sink is not None and self._shadow.ruling.keep and not barred
        reasons = {person.flag.kept for person in answer.persons} - {None}
        held = keeps and reasons == {Reason.AUDIT}
        then = partial(self._again, model, frame, answer, held) if keeps else None
        self._shadow.take(frame, answer, model.bundle.manifest.keypoints, then)
        return held

    def _again(
        self, model: Model, frame: Frame, answer: Answer, held: bool, apart: tuple[bool, ...]
    ) -> None:
        """Decide once more, long after the answer has left."""
        assert self._shadow is not None
        assert self._sink is not None
        now = self._flagging
        state = now if model.bundle is self._model.bundle else now.answered_before(now.policy)
        state, decisions, rule = decide_again(state, frame, answer, apart, time.monotonic())
        self._flagging = replace(state, policy=now.policy, drift=now.drift)
        differs = any(one.kept is Reason.SHADOW for one in decisions)
        if rule:
            self._shadow.counts.withheld(rule)
        if differs and not held:
            self._shadow.counts.kept()
            if self._memory:
                self._memory.note(self._flagging)
        if differs or held:
            answer = answer.decided(decisions, answer.age_nano, answer.server_age_nano)
            self._collect(self._sink, model, frame, answer)

    async def _asked(self, model: Model, frame: Frame, arrived: int, place: Place) -> Answer:
        """Drive :func:`answering`, with other frames in between."""
        steps = answering(model.bundle, frame, arrived_nano=arrived)
        regions = next(steps)
        while True:
            try:
                regions = steps.send(await self._look(model, frame, regions, place))
            except StopIteration as end:
                answer: Answer = end.value
                return answer

    async def _look(
        self, model: Model, frame: Frame, regions: tuple[Region, ...], place: Place
    ) -> Look:
        """One pass. A closer look decodes again: the pixels of all frames under way do not fit."""
        place.look()
        rule = model.bundle.manifest.crop
        find = partial(self._lookout.find, frame) if self._lookout else None
        if (regions or find is None) and _is_quick(frame, regions, rule):
            cuts = cut_out(frame, regions, rule)
        else:
            loop = asyncio.get_running_loop()
            cuts = await loop.run_in_executor(self._decoders, cut_out, frame, regions, rule, find)
        if not cuts.crops:
            return Look(cuts, NOBODY, now := time.monotonic_ns(), now)
        said, timing = await self._batcher.infer(model.engine, cuts.crops, place.begin)
        return Look(cuts, said, timing.started, timing.finished)

    def _collect(self, sink: Sink, model: Model, frame: Frame, answer: Answer) -> Collection:
        """Offer a frame that is to be kept; whatever goes wrong here, the answer is given."""
        manifest, provider = model.bundle.manifest, model.engine.provider
        kept = KeptFrame(
            frame,
            answer.persons,
            model.bundle.digest,
            tuple(signal.name for signal in manifest.signals),
            tuple(manifest.keypoints.names),
            tuple(manifest.keypoints.skeleton),
            self._device_id,
            answer.nobody,
            f"{provider.library} {provider.device}",
            provider.precision,
            self.campaign,
            release(),
            Coding.AS_SENT if isinstance(frame.image, bytes) else None,
            finish=self.keeping.finishing(manifest.crop),
        )
        try:
            taken = sink.offer(kept)
        except Exception:
            log.exception(
                "frame %r was to be kept and could not be collected",
                frame.frame_id,
                extra=frame.ids,
            )
            taken = False
        return Collection.QUEUED if taken else Collection.LOST


def _ahead(engine: Engine) -> int:
    """One batch is got ready while another one runs, and no more, or frames would grow old."""
    return max(_DECODERS, min(MAX_BATCH, engine.max_batch))


def _watch(model: Model) -> DriftWatch | None:
    """A watch over the scores that the bundle's reference has; None where it has none."""
    known = model.bundle.manifest.calibration.reference
    scores = (one for one in known.histograms if one.name == "predicted_loss")
    return next((DriftWatch(one.edges, one.shares, known.persons) for one in scores), None)


def _is_quick(frame: Frame, regions: tuple[Region, ...], rule: CropRule) -> bool:
    """Whether a frame is cut in less time than a change of threads takes."""
    if isinstance(frame.image, bytes):
        return False
    crop = rule.height * rule.width
    areas = [region.width * region.height for region in regions] or [frame.image.size / 3]
    return sum(max(crop, area) for area in areas) <= _QUICK_PIXELS
