"""The client: errors by type, streams that end well, sources that fail."""

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait

import cv2
import numpy as np
import pytest

from misgiving.runtime.client import IN_FLIGHT, Client
from misgiving.runtime.errors import (
    DataError,
    FailedPrecondition,
    ImageError,
    InvalidInput,
    MisgivingError,
    ResourceExhausted,
)
from misgiving.runtime.estimator import Estimator
from misgiving.runtime.geometry import Region
from misgiving.runtime.images import decode, encode_png
from misgiving.runtime.nouns import Answer, Frame, StreamSummary, make_frame
from misgiving.runtime.serving.server import MAX_MESSAGE_BYTES
from misgiving.runtime.wire.frames import LARGEST_IMAGE_BYTES, sendable
from shared import tiny
from shared.ports import nobody
from shared.serving import Gated, serving, wire_frame

BLACK = np.zeros((48, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with serving() as server, Client(server.address) as one:
        yield one


def test_infer(client: Client) -> None:
    result = client.infer(tiny.spots([4] * 14), frame_id="x")
    assert result.frame_id == "x"
    assert result.persons[0].keypoints[0, 0] == 4.5
    assert len(client.infer(BLACK, [Region(0, 0, 9, 9)] * 3).persons) == 3
    assert client.model().name == "bright-spots"


def test_bgr_as_opencv_has_it(client: Client) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (56, 42, 3), np.uint8)
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    np.testing.assert_array_equal(make_frame(np.asarray(bgr, np.uint8), bgr=True).image, rgb)
    np.testing.assert_array_equal(make_frame(np.asarray(bgr, np.uint8)).image, bgr)
    encoded = encode_png(rgb)  # says itself what is red
    assert make_frame(encoded, bgr=True) == make_frame(encoded)
    sent = client.infer(np.asarray(bgr, np.uint8), bgr=True)
    assert sent.persons == client.infer(rgb).persons


def test_an_estimator_sees_colours() -> None:
    """The bundle that ships does; the tiny one's network takes the mean."""
    rgb = np.zeros((128, 128, 3), np.uint8)
    rgb[32:96, 32:96] = (250, 120, 10)
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    estimator = Estimator.load(threads=1)
    right, wrong, plain = (
        list(estimator.infer(image, [Region(0, 0, 128, 128)], bgr=turned).persons)
        for image, turned in ((bgr, True), (bgr, False), (rgb, False))
    )
    assert right == plain != wrong


def test_errors_come_back_as_ours(client: Client) -> None:
    with pytest.raises(InvalidInput, match="INVALID_ARGUMENT: .*expected a JPEG"):
        client.infer(b"hello hello")
    with pytest.raises(ResourceExhausted, match="at most 64"):
        client.infer(BLACK, [Region(0, 0, 9, 9)] * 65)
    with pytest.raises(ImageError, match="float64"):
        client.infer(BLACK / 255)


def test_no_server() -> None:
    with (
        nobody() as address,
        Client(address, wait_s=0) as client,
        pytest.raises(FailedPrecondition, match="'misgiving serve'") as caught,
    ):
        client.model()
    assert "\n" not in str(caught.value)


def test_a_server_that_still_loads_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    with serving(ready=False) as server:
        with (
            Client(server.address, wait_s=0) as client,
            pytest.raises(FailedPrecondition, match="still loading.*expected it to be ready"),
        ):
            client.model()
        with Client(server.address, wait_s=3600) as client, ThreadPoolExecutor() as pool:
            model, answer = pool.submit(client.model), pool.submit(client.infer, BLACK)
            streamed = pool.submit(lambda: list(client.stream([make_frame(BLACK)])))
            while len(caplog.records) < 3:  # each says so once
                wait([model, answer, streamed], timeout=0.01)
            server.call(server.server.ready(server.pipeline))
            assert model.result().name == "bright-spots"
            assert answer.result().persons
            assert list(map(type, streamed.result())) == [Answer, StreamSummary]
    said = [record.getMessage() for record in caplog.records]
    waiting = f"no answer from {server.address} (engine is still loading; "
    assert sum(line.startswith(waiting) for line in said) == 3
    assert sum(line == f"{server.address} answers" for line in said) == 3


def test_nobody_is_waited_for_after_a_stop() -> None:
    stop = threading.Event()
    stop.set()
    with (
        nobody() as address,
        Client(address, wait_s=3600, stop=stop) as client,
        pytest.raises(FailedPrecondition, match="'misgiving serve'"),
    ):
        client.model()


@pytest.mark.parametrize("live", [False, True])
def test_a_stream_whose_server_stops_does_not_end_well(live: bool) -> None:
    """The server answers what it has accepted; what it has not, is not passed over."""
    gate = Gated()
    with serving(gate) as server, Client(server.address, wait_s=0) as client:
        replies = client.stream((make_frame(BLACK) for _ in itertools.count()), live=live)
        gate.permits.release(4)  # one for each frame under way: a later one may come first
        assert isinstance(next(replies), Answer)
        stopping = server.begin(server.server.stop(60))
        gate.permits.release(100_000)  # however late the server hears of it, it is never held up
        with pytest.raises(FailedPrecondition, match="no answer from"):
            list(replies)
        stopping.result()
        assert client.missed == 0 or live


def test_frames_too_large_to_be_sent_raw_go_as_png(monkeypatch: pytest.MonkeyPatch) -> None:
    image = tiny.spots([4] * 14)
    monkeypatch.setattr("misgiving.runtime.wire.frames.LARGEST_IMAGE_BYTES", image.size - 1)
    sent = sendable(make_frame(image)).image
    assert isinstance(sent, bytes)
    assert np.array_equal(decode(sent), image)
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    monkeypatch.setattr("misgiving.runtime.wire.frames.LARGEST_IMAGE_BYTES", noise.size - 1)
    with pytest.raises(ResourceExhausted, match="64 × 48 px are too large to be sent, raw or as"):
        sendable(make_frame(noise))
    with pytest.raises(ResourceExhausted, match="the image is too large"):
        sendable(make_frame(noise.tobytes()))


def test_what_is_sent_fits_a_message() -> None:
    room = MAX_MESSAGE_BYTES - LARGEST_IMAGE_BYTES
    regions = [Region(0.1, 0.1, 9, 9)] * 64
    frame = wire_frame(BLACK, regions, "x" * 255, 1 << 62, "y" * 4096)
    assert frame.ByteSize() - BLACK.size < room


def test_no_answer_in_time() -> None:
    gate = Gated()
    with serving(gate) as server, Client(server.address, timeout_s=0.1) as client:
        with pytest.raises(MisgivingError, match="DEADLINE_EXCEEDED"):
            client.infer(BLACK)
        gate.permits.release(1)


def test_a_stream_takes_frames_no_faster_than_they_are_answered(client: Client) -> None:
    taken = answered = 0

    def frames() -> Iterator[Frame]:
        nonlocal taken
        for i in range(60):
            taken += 1
            assert taken - answered <= IN_FLIGHT + 1  # one is taken and held back
            yield make_frame(BLACK, frame_id=str(i))

    for reply in client.stream(frames()):
        answered += isinstance(reply, Answer)
    assert (taken, answered) == (60, 60)


def test_a_source_that_fails_ends_the_stream_with_its_own_error(client: Client) -> None:
    def frames() -> Iterator[Frame]:
        yield make_frame(BLACK, frame_id="0")
        raise DataError("disk gone")

    replies = client.stream(frames())
    assert next(replies).frame_id == "0"
    assert next(replies).answered == 1
    with pytest.raises(DataError, match="disk gone"):
        next(replies)


def test_a_stream_that_is_left_early_lets_its_source_go(client: Client) -> None:
    def frames() -> Iterator[Frame]:
        while True:
            yield make_frame(BLACK)

    replies = client.stream(frames(), live=True)
    next(replies)
    replies.close()  # type: ignore[attr-defined]
    assert client.infer(BLACK).persons
