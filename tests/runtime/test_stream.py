"""The verb ``stream`` against a real server, and its parts."""

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
import pytest

from misgiving.runtime.errors import DataError, InvalidInput, ResourceExhausted
from misgiving.runtime.geometry import Region
from misgiving.runtime.images import encode_png
from misgiving.runtime.nouns import Answer, Collection, Decision, Person, Reason, StreamSummary
from misgiving.runtime.serving.server import MAX_MESSAGE_BYTES
from misgiving.runtime.sources.recordings import Picture, paced
from misgiving.runtime.verbs.stream import GRACE_S, StreamOptions, read_regions, stream
from misgiving.runtime.verbs.tally import Tally
from misgiving.runtime.wire.collected import KeptFrame
from shared import tiny
from shared.collecting import eventually
from shared.serving import Gated, serving
from shared.tiny import write_video


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "images"
    path.mkdir()
    for i in range(3):
        (path / f"{i}.png").write_bytes(encode_png(tiny.spots([i] * 14, scale=2)))
    (path / "3.jpg").write_bytes(b"")
    return path


def result(
    frame_id: str,
    flagged: bool = False,
    collection: Collection = Collection.NONE,
    kept: Reason | None = None,
) -> Answer:
    nothing = np.empty(0, np.float32)
    flag = Decision(flagged, kept, 0.5, 1.0)
    person = Person(Region(0, 0, 9, 9), nothing, 0.0, None, nothing, nothing, flag=flag)
    return Answer(frame_id, (person,), "", collection=collection)


def test_a_folder_with_regions_and_a_bad_image(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    regions = {"1.png": [[8.4, 11.2, 67.2, 89.6], [0, 0, 9, 9]], "none.png": [], "x.png": []}
    (tmp_path / "regions.json").write_text(json.dumps(regions))
    with serving() as server:
        options = StreamOptions(
            source=str(folder),
            server=server.address,
            regions=tmp_path / "regions.json",
            json=tmp_path / "out.jsonl",
        )
        assert stream(options) == 1
    said = capsys.readouterr()
    assert said.out.splitlines()[:2] == [
        "frames: 4 sent, 3 answered, 1 failed, 0 dropped",
        "flagged: 3, audited: 0; of these 0 queued for collection, 0 lost",
    ]
    assert said.out.splitlines()[2].startswith("round trip: p50 ")
    assert said.err.splitlines() == [
        "misgiving: frame '3.jpg' is empty (0 bytes); expected a JPEG or PNG",
        "regions without a frame: 'none.png' and 1 more; expected names of frames",
    ]
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [record["frame_id"] for record in records] == ["0.png", "1.png", "2.png", "3.jpg"]
    assert len(records[1]["persons"]) == 2
    assert records[2]["persons"][0]["keypoints"]["right_ankle"] == [5.0, 3.0, 1.0]
    assert set(records[0]["persons"][0]["signals"]) >= {"mean_peak", "min_peak"}
    assert records[3]["error"].startswith("frame '3.jpg' is empty")


@pytest.mark.parametrize("live", [False, True])
def test_a_kept_frame_of_a_recording_does_not_invent_when_it_was_taken(
    tmp_path: Path, live: bool
) -> None:
    """A file's own time is that of a copy; what is played like a camera is taken now."""
    kept: list[KeptFrame] = []

    class Sink:
        def offer(self, frame: KeptFrame) -> bool:
            kept.append(frame)
            return True

    video = write_video(tmp_path / "v.mp4", 3)
    with serving(policy=tiny.policy(threshold=-1.0), sink=Sink()) as server:
        stream(StreamOptions(source=str(video), server=server.address, live=live))
    assert kept
    assert all((one.frame.capture_time_unix_nano > 10**18) is live for one in kept)
    assert live or not any(one.frame.capture_time_unix_nano for one in kept)


def test_a_video_live(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = write_video(tmp_path / "v.mp4", 20)
    with serving() as server:
        options = StreamOptions(source=str(video), server=server.address, live=True, fps=2000)
        assert stream(options) == 0
    first = capsys.readouterr().out.splitlines()[0]
    answered, dropped = (int(first.split()[i]) for i in (3, 7))
    assert answered >= 1
    assert answered + dropped == 20


@pytest.mark.parametrize(
    ("live", "number"),
    [
        (False, signal.SIGINT),  # in order: what was sent is answered
        (True, signal.SIGTERM),
        (True, signal.SIGINT),
    ],
)
def test_a_signal_ends_a_recording_with_its_tally(
    folder: Path, capsys: pytest.CaptureFixture[str], live: bool, number: signal.Signals
) -> None:
    """The engine starts on the first frame, the signal comes, and only then it answers."""
    gate = Gated()
    before = signal.getsignal(number)

    def interrupt() -> None:
        gate.entered.acquire()
        os.kill(os.getpid(), number)
        gate.permits.release(9)

    with serving(gate) as server:
        thread = threading.Thread(target=interrupt)
        thread.start()
        # 0.01 frames per second: live, the second frame is not waited for.
        fps = 0.01 if live else None
        options = StreamOptions(source=str(folder), server=server.address, live=live, fps=fps)
        assert stream(options) == 128 + number
        thread.join()
    first = capsys.readouterr().out.splitlines()[0]
    sent, answered, failed, dropped = (int(part.split()[-2]) for part in first.split(","))
    assert 1 <= sent == answered + failed + dropped <= (1 if live else 4)
    assert signal.getsignal(number) == before


def test_a_second_signal_does_not_wait_for_answers(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = Gated()

    def interrupt_twice() -> None:
        gate.entered.acquire()
        os.kill(os.getpid(), signal.SIGINT)
        # Two signals sent at once may be handled in either order.
        eventually(lambda: 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= GRACE_S)
        os.kill(os.getpid(), signal.SIGTERM)

    with serving(gate) as server:
        thread = threading.Thread(target=interrupt_twice)
        thread.start()
        assert stream(StreamOptions(source=str(folder), server=server.address)) == 130
        thread.join()
        gate.permits.release(9)
    said = capsys.readouterr()
    assert said.err == "misgiving: left before the last answers had come\n"
    assert " 0 answered, 0 failed, 0 dropped\n" in said.out


def test_an_image_that_is_too_large_is_left_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (folder / "00.jpg").open("wb") as file:
        file.truncate(size := MAX_MESSAGE_BYTES + 1)
    with serving() as server:
        assert stream(StreamOptions(source=str(folder), server=server.address)) == 1
    said = capsys.readouterr()
    assert said.out.startswith("frames: 4 sent, 3 answered, 1 failed, ")
    assert said.out.endswith("\ntoo large: 1 frames were not sent. Scale them\n")
    assert f"frame '00.jpg': the image is too large to be sent ({size} bytes)" in said.err


def test_a_video_that_is_too_large_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("misgiving.runtime.wire.frames.LARGEST_IMAGE_BYTES", 99)
    video = write_video(tmp_path / "v.mp4", 3)
    said = "64 × 48 px are too large to be sent"
    with serving() as server, pytest.raises(ResourceExhausted, match=said):
        stream(StreamOptions(source=str(video), server=server.address))


def test_pacing_follows_the_clock_and_catches_up() -> None:
    clock = [100.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(round(seconds, 3))
        clock[0] += seconds

    for picture in paced([Picture(str(i), b"") for i in range(5)], 10, lambda: clock[0], sleep):
        if picture.name == "1":
            clock[0] += 0.25  # somebody took long: the next two come at once
    assert slept == [0.0, 0.1, 0.0, 0.0, 0.05]


class Name(str):
    """Of a frame; one whose end can be seen."""


def test_tally() -> None:
    tally, kept = Tally(), WeakSet[Name]()
    for i in range(6):
        kept.add(name := Name(i))
        tally.send(name, now_s=float(i))
    del name
    assert len(kept) == 6
    flag, audit = Reason.PREDICTED_LOSS, Reason.AUDIT
    tally.take(result("0", True, Collection.QUEUED, flag), 10.0)
    tally.take(result("3", True, Collection.LOST, flag), 10.0)  # 1, 2 dropped
    tally.take(result("4", False, Collection.QUEUED, audit), 11.0)
    tally.take(Answer("5", (), "", collection=Collection.QUEUED), 12.0)  # with nobody in it
    tally.take(StreamSummary(received=6, answered=4, dropped=2, failed=0), 12.0)
    assert tally.lines() == [
        "frames: 6 sent, 4 answered, 0 failed, 2 dropped",
        "flagged: 2, audited: 2; of these 3 queued for collection, 1 lost",
        "round trip: p50 7000.0 ms, p99 9910.0 ms",
    ]
    assert not kept


@pytest.mark.parametrize(
    ("counts", "said", "incomplete"),
    [
        ({"sent": 2, "answered": 2, "announced": 2}, [], False),
        # nothing at all, from an empty live source
        ({}, [], False),
        ({"sent": 2, "answered": 1, "failed": 1}, [], True),
        ({"sent": 2, "answered": 2, "unreadable": 1, "announced": 3}, [], True),
        (
            {"sent": 9, "answered": 5, "missed": 4},
            ["no server: 4 frames dropped meanwhile"],
            False,
        ),
        (
            {"sent": 2, "answered": 2, "too_large": 1, "announced": 3},
            ["too large: 1 frames were not sent. Scale them"],
            True,
        ),
        (
            {"all_read": False, "sent": 37, "answered": 33, "unreadable": 2, "announced": 300},
            [
                "not answered: 4 of the frames sent. Send them again",
                "not sent: 261 of 300 frames",
            ],
            True,
        ),
        # a stream that says no number; an estimate that was too low
        (
            {"all_read": False, "sent": 3, "answered": 3},
            ["not sent: what comes behind frame 3; how many is not known"],
            True,
        ),
        ({"all_read": False, "sent": 3, "answered": 3, "announced": 2}, [], True),
    ],
)
def test_what_was_left_out_is_told(
    counts: dict[str, Any], said: list[str], incomplete: bool
) -> None:
    tally = Tally(**counts)
    assert tally.lines()[2:] == said
    assert tally.incomplete == incomplete
    assert (", 2 unreadable" in tally.lines()[0]) == (counts.get("unreadable") == 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "JSON"),
        ("[]", "expected {"),
        ('{"a.jpg": [[1, 2, 3]]}', r"a\.jpg\.0"),
        ('{"a.jpg": [1, 2, 3, 4]}', r"a\.jpg\.0"),
        ('{"a.jpg": [["x", 2, 3, 4]]}', r"a\.jpg\.0\.0"),
    ],
)
def test_regions_that_are_none(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        read_regions(tmp_path / "r.json")
    assert "\n" not in str(caught.value)


def test_options_that_contradict_themselves(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="add --live"):
        StreamOptions(source=str(tmp_path), fps=5)
    for fps in (0, -1, np.nan):
        with pytest.raises(InvalidInput, match="frames per second"):
            StreamOptions(source=str(tmp_path), live=True, fps=fps)
    with pytest.raises(InvalidInput, match="/dev/video97 has its own pace"):
        stream(StreamOptions(source="97", live=True, fps=5))
    with pytest.raises(DataError, match="/dev/video97 gives no frame: there is no such device"):
        stream(StreamOptions(source="97"))
    assert "hunter2" not in repr(StreamOptions(source="rtsp://u:hunter2@cam.example/x"))
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no.such.*a file to write to"):
        stream(StreamOptions(source=str(tmp_path), json=tmp_path / "no such" / "file"))


def test_regions_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(b"\xef\xbb\xbf" + b'{"a.jpg": [[1, 2, 3, 4]]}')
    assert read_regions(tmp_path / "r.json") == {"a.jpg": [(1, 2, 3, 4)]}
