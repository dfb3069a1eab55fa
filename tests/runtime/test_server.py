"""A real server, a real engine, a real network: every bad input gets its status, and the next
good one its answer."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import grpc
import numpy as np
import pytest

from misgiving.runtime.geometry import Region
from misgiving.runtime.images import encode_jpeg, encode_png
from misgiving.runtime.nouns import Position
from misgiving.runtime.serving.server import MAX_MESSAGE_BYTES, Server
from misgiving.runtime.wire.collected import Coding, KeptFrame
from misgiving.runtime.wire.frames import MAX_NAME
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1 import pose_pb2 as pose
from shared import tiny
from shared.serving import BLACK, Gated, Requests, Running, infer, named, serving, wire_frame

GOOD = wire_frame(tiny.spots([7] * 14), frame_id="good")
LIVE, IN_ORDER = wire.STREAM_MODE_LIVE, wire.STREAM_MODE_IN_ORDER


def raw(size: int, height: int, width: int) -> pose.Frame:
    image = pose.RawImage(pixels=bytes(size), height_px=height, width_px=width)
    return pose.Frame(image=pose.Image(raw=image))


TOO_LARGE = pose.Frame(image=pose.Image(encoded=bytes(MAX_MESSAGE_BYTES + 1)))
"""What our own client does not even send."""
BAD = {
    "nothing": (pose.Frame(), "INVALID_ARGUMENT", "no image"),
    "zero bytes": (wire_frame(b""), "INVALID_ARGUMENT", "is empty"),
    "text": (wire_frame(b"hello, hello"), "INVALID_ARGUMENT", "expected a JPEG"),
    "a cut JPEG": (wire_frame(encode_jpeg(BLACK)[:-50]), "INVALID_ARGUMENT", "cut short"),
    "RGBA": (raw(48 * 64 * 4, 48, 64), "INVALID_ARGUMENT", "Drop the alpha channel"),
    "float pixels": (raw(48 * 64 * 12, 48, 64), "INVALID_ARGUMENT", "36864 bytes"),
    "too many pixels": (raw(10, 30_000, 30_000), "RESOURCE_EXHAUSTED", "30000 × 30000"),
    "region outside": (
        wire_frame(BLACK, [Region(64, 48, 9, 9)]),
        "INVALID_ARGUMENT",
        "outside the image of 64 × 48 px",
    ),
    "a place that is none": (
        pose.Frame(image=GOOD.image, position=pose.Position(latitude_deg=91)),
        "INVALID_ARGUMENT",
        "position is 91, 0; expected a latitude",
    ),
    "region without area": (wire_frame(BLACK, [Region(5, 5, 0, 9)]), "INVALID_ARGUMENT", "above 0"),
    "many regions": (
        wire_frame(BLACK, [Region(5, 5, 9, 9)] * 65),
        "RESOURCE_EXHAUSTED",
        "at most 64",
    ),
    "a long frame id": (
        named("é" * (MAX_NAME + 1)),
        "INVALID_ARGUMENT",
        "frame_id has 513 characters; expected at most 512. Shorten it",
    ),
    "a long stream id": (
        wire_frame(BLACK, stream_id="x" * 9000),
        "INVALID_ARGUMENT",
        "stream_id has 9,000 characters",
    ),
    "an image that is none, with a name that is long in an error": (
        wire_frame(b"hello, hello", frame_id="\U000e0001" * MAX_NAME),
        "INVALID_ARGUMENT",
        "Convert it first",
    ),
    "too large a message": (
        TOO_LARGE,
        "RESOURCE_EXHAUSTED",
        "larger than max",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_has_its_status_and_the_server_goes_on(running: Running, name: str) -> None:
    frame, status, said = BAD[name]
    with pytest.raises(grpc.RpcError) as caught:
        infer(running, frame)
    assert caught.value.code().name == status
    assert said in caught.value.details()
    assert "\n" not in caught.value.details()
    assert len(infer(running, GOOD).persons) == 1


@pytest.mark.parametrize("mode", [LIVE, IN_ORDER])
def test_a_bad_frame_of_a_stream_is_answered_and_the_stream_goes_on(
    running: Running, mode: int
) -> None:
    requests = Requests(mode)
    replies = running.stub.StreamInfer(iter(requests))
    for name, (frame, status, said) in BAD.items():
        if name == "too large a message":  # gRPC ends the call: see below
            continue
        requests.put(frame=frame)
        error = next(replies).error
        assert error.code == grpc.StatusCode[status].value[0]
        assert said in error.message
        assert len(error.frame_id) <= MAX_NAME
        requests.put(frame=GOOD)
        assert next(replies).result.frame_id == "good"
    requests.close()
    (last,) = replies
    n = len(BAD) - 1
    assert last.summary == wire.StreamSummary(received=2 * n, answered=n, failed=n)


def test_a_stream_message_too_large_ends_the_stream_only(running: Running) -> None:
    requests = Requests(IN_ORDER)
    replies = running.stub.StreamInfer(iter(requests))
    requests.put(frame=TOO_LARGE)
    with pytest.raises(grpc.RpcError) as caught:
        list(replies)
    requests.close()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert infer(running, GOOD).frame_id == "good"


MISUSE: dict[str, tuple[list[dict[str, Any]], str]] = {
    "a frame first": ([{"frame": GOOD}], "first message is a frame"),
    "no mode": ([{"open": wire.StreamOpen()}], "STREAM_MODE_UNSPECIFIED"),
    "a mode of the future": ([{"open": {"mode": 77}}], "expected STREAM_MODE_LIVE"),
    "an empty message": ([{}], "message is empty"),
    "opened twice": ([{"open": {"mode": LIVE}}, {"open": {"mode": LIVE}}], "open already"),
}


@pytest.mark.parametrize("name", MISUSE)
def test_misuse_of_the_protocol(running: Running, name: str) -> None:
    messages, said = MISUSE[name]
    requests = Requests()
    for message in messages:
        requests.put(**message)
    with pytest.raises(grpc.RpcError) as caught:
        list(running.stub.StreamInfer(iter(requests)))
    requests.close()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert said in caught.value.details()
    assert infer(running, GOOD).frame_id == "good"


def test_in_order_answers_everything_in_order(running: Running) -> None:
    def requests() -> Iterator[wire.StreamInferRequest]:
        yield wire.StreamInferRequest(open=wire.StreamOpen(mode=IN_ORDER))
        for i in range(150):
            yield wire.StreamInferRequest(frame=named(f"{i}", tiny.spots([i % 42] * 14)))

    *results, last = running.stub.StreamInfer(requests())
    assert [reply.result.frame_id for reply in results] == [str(i) for i in range(150)]
    for i, reply in enumerate(results):  # each answer is its own frame's
        assert reply.result.persons[0].keypoints[3].x_px == i % 42 + 0.5
    assert last.summary == wire.StreamSummary(received=150, answered=150)


class Drops(logging.Handler):
    """Lets a test wait until the server has dropped so many frames."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.seen = threading.Semaphore(0)

    def emit(self, record: logging.LogRecord) -> None:
        if "dropped frame" in record.getMessage():
            self.seen.release()


@pytest.fixture
def drops() -> Iterator[Drops]:
    logger, handler = logging.getLogger("misgiving.runtime.serving.streams"), Drops()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_live_answers_the_newest_and_counts_the_dropped(drops: Drops) -> None:
    gate, requests = Gated(), Requests(LIVE)
    with serving(gate) as server:
        replies = server.stub.StreamInfer(iter(requests))
        requests.put(frame=named("0"))
        gate.entered.acquire()
        for i in range(1, 6):
            requests.put(frame=named(str(i)))
        for _ in range(4):
            drops.seen.acquire()
        gate.permits.release(2)
        requests.close()
        first, second, last = replies
    assert (first.result.frame_id, first.result.dropped_before) == ("0", 4)
    assert (second.result.frame_id, second.result.dropped_before) == ("5", 0)
    assert second.result.queue_nano > 0
    assert last.summary == wire.StreamSummary(received=6, answered=2, dropped=4)


async def until_calls(server: Server, count: int) -> None:
    while server.servicer.calls > count:
        await asyncio.sleep(0)


def test_a_call_whose_deadline_has_passed_is_not_run() -> None:
    gate = Gated()
    with serving(gate) as server:
        busy = server.stub.Infer.future(wire.InferRequest(frame=GOOD))
        gate.entered.acquire()
        with pytest.raises(grpc.RpcError) as caught:
            server.stub.Infer(wire.InferRequest(frame=GOOD), timeout=0.2)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        server.call(until_calls(server.server, 1))
        gate.permits.release(2)
        assert busy.result().result.frame_id == "good"
        assert infer(server, GOOD).frame_id == "good"
    assert gate.sizes == [1, 1]


def test_a_full_queue_refuses_calls_and_lets_streams_wait() -> None:
    gate, requests = Gated(), Requests(IN_ORDER)
    with serving(gate, max_waiting=1) as server:
        replies = server.stub.StreamInfer(iter(requests))
        requests.put(frame=named("0"))
        gate.entered.acquire()
        requests.put(frame=named("1"))
        with pytest.raises(grpc.RpcError) as caught:
            infer(server, GOOD)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "queue holds 1 crops" in caught.value.details()
        assert int(dict(caught.value.trailing_metadata())["grpc-retry-pushback-ms"]) > 0
        gate.permits.release(2)
        requests.close()
        assert [reply.result.frame_id for reply in replies] == ["0", "1", ""]


def test_a_client_that_hangs_up_leaves_nothing_behind() -> None:
    gate, requests = Gated(), Requests(IN_ORDER)
    with serving(gate, max_waiting=1) as server:
        replies = server.stub.StreamInfer(iter(requests))
        requests.put(frame=named("0"))
        gate.entered.acquire()
        requests.put(frame=named("1"))
        replies.cancel()
        requests.close()
        gate.permits.release(10)
        server.call(server.server.servicer.idle())
        assert infer(server, GOOD).frame_id == "good"  # its only place is free again
        assert not server.server.servicer._streams


def test_an_engine_that_fails_once() -> None:
    gate = Gated(permits=2)
    gate.error = RuntimeError("device lost\nregisters follow")
    with serving(gate) as server:
        with pytest.raises(grpc.RpcError) as caught:
            infer(server, GOOD)
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert "device lost; the server goes on" in caught.value.details()
        assert "registers" not in caught.value.details()
        assert infer(server, GOOD).frame_id == "good"


class Sink:
    """Takes what it is told to take."""

    def __init__(self, *answers: bool | Exception) -> None:
        self._answers = list(answers)
        self.frames: list[KeptFrame] = []

    def offer(self, frame: KeptFrame) -> bool:
        self.frames.append(frame)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_flagged_frames_are_collected() -> None:
    sink = Sink(True, False, OSError("disk gone"))
    bright = named("bright", BLACK + 255)
    with serving(sink=sink) as server:
        assert infer(server, named("1")).collection == wire.COLLECTION_QUEUED
        assert infer(server, named("2")).collection == wire.COLLECTION_LOST
        assert infer(server, named("3")).collection == wire.COLLECTION_LOST  # and still answered
        assert infer(server, bright).collection == wire.COLLECTION_NONE
    assert [frame.frame.frame_id for frame in sink.frames] == ["1", "2", "3"]
    first = sink.frames[0]
    assert first.device_id == "car 7"
    assert len(first.persons[0].embedding) == 8
    assert (first.engine, first.precision) == ("onnxruntime CPUExecutionProvider", "fp32")
    assert (first.campaign, first.software_version) == ("", metadata.version("misgiving"))
    assert first.coding is None  # raw, until it is stored


def test_a_kept_frame_names_its_campaign_and_its_coding() -> None:
    sink = Sink(True)
    with serving(sink=sink) as server:
        server.pipeline.campaign = "night"
        infer(server, wire_frame(encode_png(BLACK), position=Position(48, 0)))
    (frame,) = sink.frames
    assert (frame.campaign, frame.coding) == ("night", Coding.AS_SENT)
    assert frame.frame.position == Position(48, 0)


def test_one_flagged_person_takes_the_others_along() -> None:
    half = np.zeros((100, 100, 3), np.uint8)
    half[:, 50:] = 255
    sink = Sink(True)
    with serving(sink=sink) as server:
        infer(server, wire_frame(half, [Region(60, 20, 30, 40), Region(5, 20, 30, 40)]))
    assert [person.flag.raised for person in sink.frames[0].persons] == [False, True]
    assert [len(person.embedding) for person in sink.frames[0].persons] == [8, 8]


def test_nothing_is_collected_without_a_spool(running: Running) -> None:
    result = infer(running, named("dark"))
    assert result.persons[0].flag.raised
    assert result.collection == wire.COLLECTION_NONE


def test_age_is_counted_from_the_capture_time(running: Running) -> None:
    assert infer(running, wire_frame(BLACK, capture_time_unix_nano=1)).age_nano > 1e18
    # unknown, or no camera's: the keypoints do not depend on a clock
    for captured in (0, -1, -(2**63)):
        result = infer(running, wire_frame(BLACK, capture_time_unix_nano=captured))
        assert (result.age_nano, len(result.persons)) == (0, 1)
    assert infer(running, wire_frame(BLACK, capture_time_unix_nano=2**63 - 1)).age_nano < 0


def test_png_and_raw_answer_the_same(running: Running) -> None:
    image = tiny.spots([5] * 14, scale=2)
    encoded, plain = (
        infer(running, wire_frame(encode_png(image))),
        infer(running, wire_frame(image)),
    )
    assert encoded.persons == plain.persons


def test_the_model(running: Running) -> None:
    model = running.stub.GetModel(wire.GetModelRequest()).model
    assert model.name == "bright-spots"
    assert model.engine == "onnxruntime CPUExecutionProvider fp32"
