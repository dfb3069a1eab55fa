"""Cameras beyond capacity, under a simulated clock: the real streams, pipeline, places and batches;
decoding and the engine take as long as a test says."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from misgiving.runtime.geometry import Region
from misgiving.runtime.images import encode_jpeg
from misgiving.runtime.nouns import Frame
from misgiving.runtime.serving.pipeline import Pipeline
from misgiving.runtime.serving.server import events_of, response_of
from misgiving.runtime.serving.streams import Stream
from misgiving.runtime.telemetry.metrics import Metrics
from misgiving.runtime.wire.frames import to_frame
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1 import pose_pb2 as pose
from shared import tiny
from shared.serving import BLACK, wire_frame

DECODE_S, BATCH_S, INTERVAL_S = 0.004, 0.1, 0.1
LIVE, IN_ORDER = wire.STREAM_MODE_LIVE, wire.STREAM_MODE_IN_ORDER
JPEG = encode_jpeg(BLACK)
PERSON, CROWD = (wire_frame(JPEG, [Region(0, 0, 64, 48)] * count) for count in (1, 64))
FAR = np.zeros((480, 640, 3), np.uint8)
FAR[200:240, 300:330] = 255
WHOLE = wire_frame(encode_jpeg(FAR))
"""Which asks for closer looks."""


class Simulated(asyncio.SelectorEventLoop):
    """A loop whose clock stands still while it works, and jumps to what comes next."""

    now_s = 0.0

    def time(self) -> float:
        return self.now_s

    def _run_once(self) -> None:
        scheduled, ready = self._scheduled, self._ready  # type: ignore[attr-defined]
        if scheduled and not ready:
            self.now_s = max(self.now_s, scheduled[0].when())
        super()._run_once()  # type: ignore[misc]


class Workers:
    """In place of threads: work begins when one is free, and takes its time."""

    def __init__(self, loop: Simulated, count: int, takes_s: float) -> None:
        self._loop = loop
        self._free = count
        self._takes_s = takes_s
        self._queue: deque[Callable[[], None]] = deque()

    def submit(self, work: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        done: Future[Any] = Future()

        def begin() -> None:
            if not done.set_running_or_notify_cancel():
                begin_next()
                return
            self._free -= 1
            result = work(*arguments)
            self._loop.call_later(self._takes_s, end, result)

        def begin_next() -> None:
            if self._queue:
                self._queue.popleft()()

        def end(result: Any) -> None:
            self._free += 1
            begin_next()
            done.set_result(result)

        begin() if self._free else self._queue.append(begin)
        return done

    def run(self, work: Callable[[], Any], tell: Callable[[Any], object]) -> None:
        self.submit(work).add_done_callback(lambda done: tell(done.result()))

    def shutdown(self) -> None:
        assert not self._queue


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Any:
    loop = Simulated()
    monkeypatch.setattr(time, "monotonic_ns", lambda: round(loop.now_s * 1e9))
    yield loop
    loop.close()


def simulated(loop: Simulated) -> Pipeline:
    pipeline = Pipeline(tiny.model(), tiny.policy())
    pipeline._batcher._thread.shutdown()
    pipeline._decoders.shutdown()
    pipeline._batcher._thread = Workers(loop, 1, BATCH_S)
    pipeline._decoders = Workers(loop, 2, DECODE_S)
    return pipeline


async def camera(
    pipeline: Pipeline,
    mode: int,
    count: int,
    phase_s: float = 0.0,
    interval_s: float = INTERVAL_S,
    frame: pose.Frame = PERSON,
) -> tuple[list[float], wire.StreamSummary]:
    """Send frames at a pace; the summary, and the ages at engine start in s, but for that of the
    last frame, which no newer one could replace."""

    async def requests() -> AsyncIterator[wire.StreamInferRequest]:
        yield wire.StreamInferRequest(open=wire.StreamOpen(mode=mode))
        await asyncio.sleep(phase_s)
        for number in range(count):
            named = pose.Frame()
            named.CopyFrom(frame)
            named.frame_id = str(number)
            yield wire.StreamInferRequest(frame=named)
            await asyncio.sleep(interval_s)

    events = events_of(requests())
    stream = Stream(pipeline, Metrics(), events, to_frame, lambda *_: None)
    *replies, last = [response_of(outcome) async for outcome in stream.outcomes()]
    results = [reply.result for reply in replies]
    ages = [one.queue_nano / 1e9 for one in results if one.frame_id != str(count - 1)]
    return ages, last.summary


@pytest.mark.parametrize(("frame", "crops"), [(PERSON, 1), (WHOLE, 4)])
def test_cameras_beyond_capacity_have_young_frames(
    loop: Simulated, frame: pose.Frame, crops: int
) -> None:
    """24 cameras of 10 frames a second; the engine takes 80 crops a second."""

    async def test() -> None:
        pipeline = simulated(loop)
        rng = np.random.default_rng(0)
        phases = rng.uniform(0, INTERVAL_S, 24)
        cameras = [camera(pipeline, LIVE, 50, phase, frame=frame) for phase in phases]
        said = await asyncio.gather(*cameras)
        ages = [age for found, _ in said for age in found]
        decode_s = 8 / 2 * DECODE_S  # of one batch, by two threads
        assert max(ages) <= INTERVAL_S + decode_s + BATCH_S + 1e-9
        answered = [summary.answered for _, summary in said]
        assert sum(answered) >= 0.95 * 80 / crops * 5
        assert max(answered) - min(answered) <= 2
        assert all(one.answered + one.dropped == one.received == 50 for _, one in said)

    loop.run_until_complete(test())


def test_a_flooding_camera_does_not_starve_another(loop: Simulated) -> None:
    """Frames of 64 persons without a pause, beside a camera that a batch in two would serve."""

    async def test() -> None:
        pipeline = simulated(loop)
        flood = asyncio.create_task(camera(pipeline, IN_ORDER, 20, 0, 0, CROWD))
        ages, summary = await camera(pipeline, LIVE, 40, 0.5, 2 * BATCH_S)
        assert not flood.done()
        assert summary.answered == 40
        assert max(ages) <= DECODE_S * 4 + BATCH_S + 1e-9
        _, flooding = await flood
        assert flooding.answered == 20

    loop.run_until_complete(test())


def test_a_call_that_is_given_up_while_it_waits_is_not_decoded(loop: Simulated) -> None:
    """Neither behind busy decoders, nor before its turn has come."""
    decoded: list[str] = []

    class Noted(Frame):
        def decoded(self) -> Any:
            decoded.append(self.frame_id)
            return super().decoded()

    async def test() -> None:
        pipeline = simulated(loop)
        calls = [
            asyncio.create_task(pipeline.answer_now(Noted(JPEG, frame_id=str(number))))
            for number in range(20)
        ]
        await asyncio.sleep(DECODE_S / 2)  # two are being decoded
        for given_up in (5, 15):  # it waits for a decoder, it waits for its turn
            calls[given_up].cancel()
        await asyncio.wait(calls)
        assert sorted(decoded, key=int) == [str(n) for n in range(20) if n not in (5, 15)]

    loop.run_until_complete(test())
