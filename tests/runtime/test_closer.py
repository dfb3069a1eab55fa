"""Closer looks at a whole frame: who asks, where they look, what is kept, and who is told."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from misgiving.runtime.answer import closer
from misgiving.runtime.engines.base import Prediction
from misgiving.runtime.geometry import CropRule, Region, Window, window_of
from misgiving.runtime.nouns import Answer, Frame, Person, make_frame
from misgiving.runtime.wire.collected import KeptFrame
from misgiving.runtime.wire.frames import fill_frame
from misgiving.runtime.wire.records import person_record
from misgiving.runtime.wire.results import to_answer
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1 import pose_pb2 as pose
from shared import tiny
from shared.serving import Gated, Requests, Running, serving

RULE = CropRule(height=128, width=128, padding=1.25)
WINDOW = Window(0, 0, 400, 400)
FRAME = Region(0, 0, 400, 400)
SURE = np.ones(14)


def upright(extent: float, centre: tuple[float, float] = (200.0, 200.0)) -> NDArray[np.float64]:
    """Joints evenly along an upright line, whose three standard deviations are ``extent`` px."""
    line = np.linspace(-1, 1, 14)
    line *= extent / 3 / line.std()
    return np.stack([np.zeros(14), line], axis=-1) + centre


@pytest.mark.parametrize(
    ("extent", "failure", "asks"),
    [
        # padding 1.25 frames a person so that 320 of 400 px are spanned: never asks
        (321, 1.0, False),
        # a little less, and the answer does not trust itself
        (319, 1.0, True),
        # the probability is not known: as if it were 1
        (319, None, True),
        (321, None, False),
        # the same, and the answer trusts itself
        (319, 0.0, False),
        # half of it: the smallest that may be trusted
        (161, 0.0, False),
        (159, 0.0, True),
        # in between
        (239, 0.5, True),
        (241, 0.5, False),
    ],
)
def test_who_asks(extent: float, failure: float | None, asks: bool) -> None:
    assert closer.asks(upright(extent), SURE, WINDOW, RULE, failure) == asks
    lying = upright(extent)[:, ::-1]
    assert closer.asks(lying, SURE, WINDOW, RULE, failure) == asks


def test_unsure_joints_count_little() -> None:
    points, confidence = upright(100), SURE.copy()
    points[:2], confidence[:2] = [[0, 0], [400, 400]], 1e-6
    assert closer.asks(points, confidence, WINDOW, RULE, 0.0)
    assert not closer.asks(points, SURE, WINDOW, RULE, 0.0)


@pytest.mark.parametrize(
    ("points", "confidence"),
    [
        (upright(50) * math.nan, SURE),  # no numbers
        (upright(50), SURE * 0),  # nobody
        (upright(50), SURE * math.nan),
    ],
)
def test_what_says_nothing_does_not_ask(
    points: NDArray[np.float64], confidence: NDArray[np.float64]
) -> None:
    assert not closer.asks(points, confidence, WINDOW, RULE, None)


def test_where_it_looks() -> None:
    """Around all joints; around the surer half; closely at where most of them are."""
    points, confidence = upright(60, (300.0, 100.0)), SURE.copy()
    points[:6], confidence[:6] = np.linspace([5.5, 390.5], [100.5, 300.5], 6), 0.4
    all_of_them, surer, near = closer.regions(points, confidence, WINDOW, RULE, FRAME)
    assert all_of_them == Region(5, 97, 295, 294)
    assert surer == Region(300, 97, 1, 36)  # of the other eight, on a line
    window = window_of(near, 400, 400, RULE)
    assert abs(window.width - 0.35 * 400) <= 2
    assert abs(window.left + window.width / 2 - 300) <= 1
    assert surer.y <= window.top + window.height / 2 <= surer.y + surer.height


@pytest.mark.parametrize("shape", [(400, 400), (48, 640), (640, 48), (17, 17), (1, 1)])
def test_regions_are_whole_pixels_of_the_frame(shape: tuple[int, int]) -> None:
    """No window is larger than the frame's own, and what a label set takes for the whole frame is
    never among them."""
    height, width = shape
    frame, rng = Region(0, 0, width, height), np.random.default_rng(0)
    window = window_of(None, height, width, RULE)
    for _ in range(100):
        points = rng.uniform(-0.2, 1.2, (14, 2)) * [width, height]
        for region in closer.regions(points, rng.random(14), window, RULE, frame):
            sides = (region.x, region.y, region.width, region.height)
            assert all(side == int(side) for side in sides)
            assert min(region.x, region.y) >= 0
            assert region.x + region.width <= width
            assert region.y + region.height <= height
            assert window_of(region, height, width, RULE).width <= window.width
            assert region != frame


@pytest.mark.parametrize(
    ("losses", "kept"),
    [
        ([0.5], 0),
        ([0.5, 0.4, 0.3], 2),
        ([0.5, 0.5], 0),  # no better
        ([0.3, 0.4, math.nan], 0),
        ([0.5, math.nan, 0.4], 2),
        ([math.nan, 0.1], 0),  # nothing can be better than what is no number
        ([math.inf, 0.1], 1),
    ],
)
def test_what_is_kept(losses: list[float], kept: int) -> None:
    assert closer.best(np.array(losses)) == kept


class Counting:
    """The tiny engine; what it was asked. The last crop of each batch may get a loss of our choice,
    and the others 1."""

    provider = "counting"

    def __init__(self, *losses: float) -> None:
        self._engine, self._losses = tiny.engine(), list(losses)
        self.max_batch = self._engine.max_batch
        self.sizes: list[int] = []

    def infer(self, images: NDArray[np.uint8]) -> Prediction:
        self.sizes.append(len(images))
        prediction = self._engine.infer(images)
        if not self._losses:
            return prediction
        losses = np.ones(len(images), np.float32)
        losses[-1] = self._losses.pop(0)
        return replace(prediction, predicted_loss=losses)


def told(person: Person) -> dict[str, Any]:
    """All that a reply says of somebody."""
    names = [str(number) for number in range(99)]
    return person_record(person, names[: tiny.JOINTS], names[: len(person.signals)])


def small_person() -> NDArray[np.uint8]:
    """Something bright in a dark frame: the closer it is looked at, the brighter."""
    image = np.zeros((560, 420, 3), np.uint8)
    image[300:420, 250:310] = 255
    return image


def test_a_small_person_is_looked_at_again() -> None:
    frame = make_frame(small_person())
    once = tiny.answered(frame, rounds=0)
    engine = Counting()
    (person,) = tiny.answered(frame, engine).persons
    (before,) = once.persons
    assert before.region == Region(0, 0, 420, 560)
    assert before.flag.raised
    assert person.predicted_loss < 0.75 < before.predicted_loss
    assert not person.flag.raised  # decided on the answer that is kept
    region = person.region
    assert 200 <= region.x <= region.x + region.width <= 360
    assert 250 <= region.y <= region.y + region.height <= 430
    assert engine.sizes[0] == 1
    assert len(engine.sizes) <= 1 + closer.ROUNDS
    assert max(engine.sizes) <= 3


def test_the_region_names_what_was_seen() -> None:
    """Whoever asks about it gets the same answer, and one look."""
    (person,) = tiny.answered(make_frame(small_person())).persons
    engine = Counting()
    (again,) = tiny.answered(make_frame(small_person(), [person.region]), engine).persons
    assert told(again) == told(person)
    assert engine.sizes == [1]


def test_a_region_is_never_changed() -> None:
    """Also one of the whole frame, and several."""
    for regions in ([Region(0, 0, 420, 560)], [Region(0, 0, 420, 560), Region(9, 9, 300, 300)]):
        engine = Counting()
        result = tiny.answered(make_frame(small_person(), regions), engine)
        assert engine.sizes == [len(regions)]
        assert [person.region.x for person in result.persons] == [r.x for r in regions]


def test_a_well_framed_person_costs_nothing_more() -> None:
    engine = Counting()
    image = tiny.spots([3 * i for i in range(tiny.JOINTS)], scale=3)
    tiny.answered(make_frame(image), engine)
    assert engine.sizes == [1]


@pytest.mark.parametrize(
    ("losses", "batches", "kept"),
    [
        # no closer look is better: the first answer stands, and nothing more is asked
        ((0.9, 0.95), 2, 0.9),
        # one is; what it asks for is not
        ((0.9, 0.8, 0.85), 3, 0.8),
        # always better: it ends all the same
        ((0.9, 0.8, 0.7, 0.6), 3, 0.7),
        # no number, which is flagged
        ((math.nan, 0.1), 2, math.nan),
    ],
)
def test_never_worse_by_the_score(losses: tuple[float, ...], batches: int, kept: float) -> None:
    engine = Counting(*losses)
    (person,) = tiny.answered(make_frame(small_person()), engine).persons
    assert len(engine.sizes) == batches
    assert person.predicted_loss == pytest.approx(kept, nan_ok=True)


class Sink:
    def __init__(self) -> None:
        self.frames: list[KeptFrame] = []

    def offer(self, frame: KeptFrame) -> bool:
        self.frames.append(frame)
        return True


def streamed(server: Running, mode: int, frame: Frame) -> Answer:
    requests = Requests(mode)
    fill_frame(message := pose.Frame(), frame)
    requests.put(frame=message)
    requests.close()
    result, summary = server.stub.StreamInfer(iter(requests), timeout=60)
    assert summary.summary.answered == 1
    return to_answer(result.result)


def test_a_server_answers_as_the_estimator() -> None:
    """Calls and both kinds of stream; what is collected says which region was seen."""
    policy, sink = tiny.policy(threshold=0.0), Sink()
    frame = make_frame(small_person(), frame_id="f")
    (expected,) = tiny.answered(frame, flagging=policy).persons
    with serving(policy=policy, sink=sink) as server:
        fill_frame((request := wire.InferRequest()).frame, frame)
        answers = [to_answer(server.stub.Infer(request, timeout=60).result)]
        modes = wire.STREAM_MODE_LIVE, wire.STREAM_MODE_IN_ORDER
        answers += [streamed(server, mode, frame) for mode in modes]
    all_answers: list[Answer | KeptFrame] = [*answers, *sink.frames]
    for answer in all_answers:
        assert [told(person) for person in answer.persons] == [told(expected)]
    assert all(answer.inference_nano > 0 for answer in answers)
    assert [len(kept.persons[0].embedding) for kept in sink.frames] == [8] * 3
    assert [len(kept.frame.regions) for kept in sink.frames] == [0] * 3  # as the client sent it


def test_a_frame_keeps_its_model_between_two_looks() -> None:
    before, after = Gated(), Counting()

    async def switch() -> None:
        server.pipeline.switch(after)

    with serving(before) as server:
        fill_frame((request := wire.InferRequest()).frame, make_frame(small_person()))
        asked = server.stub.Infer.future(request, timeout=60)
        before.entered.acquire()  # the first look is under way
        server.call(switch())
        before.permits.release(9)
        assert len(asked.result().result.persons) == 1
        assert len(before.sizes) > 1
        assert after.sizes == []
        server.stub.Infer(request, timeout=60)
        assert len(after.sizes) > 1
