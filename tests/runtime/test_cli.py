"""The command, in this process and as a user starts it."""

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import grpc
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from misgiving.runtime import images
from misgiving.runtime.client import Client
from misgiving.runtime.errors import FailedPrecondition, MisgivingError
from misgiving.runtime.nouns import make_frame
from misgiving.runtime.sources.recordings import Picture
from misgiving.runtime.sources.videos import Video
from misgiving.runtime.verbs import cli
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1.detector_pb2_grpc import FailureDetectorStub
from runtime.commands import COMMAND, server
from shared import tiny
from shared.serving import wire_frame


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MISGIVING_BUNDLE", raising=False)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [*COMMAND, *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "spots.png"
    path.write_bytes(images.encode_png(tiny.spots([10] * 14, scale=4)))
    return path


def write_video(path: Path, frames: int) -> None:
    """Motion JPEG, whatever the file is called."""
    plain = path.with_suffix(".avi")
    writer = cv2.VideoWriter(str(plain), cv2.VideoWriter.fourcc(*"MJPG"), 5, (128, 128))
    for _ in range(frames):
        writer.write(cv2.resize(tiny.spots([10] * 14, scale=4), (128, 128)))
    writer.release()
    plain.rename(path)


@pytest.mark.parametrize("verb", ["serve", "stream", "infer"])
def test_help_shows_an_example(verb: str) -> None:
    result = invoke(verb, "--help")
    assert result.exit_code == 0
    assert f"Example: misgiving {verb} " in " ".join(result.output.split())


def test_infer_prints_a_table(picture: Path) -> None:
    result = invoke("infer", picture, "--bundle", tiny.BUNDLE)
    assert result.exit_code == 0, result.output
    header, row = result.stdout.splitlines()
    titles = "predicted loss P(failure) flag mean confidence image"
    assert header.split() == titles.split()
    assert row.split() == ["0.9940", "0.994", "FLAG", "1.000", str(picture)]


def test_infer_as_json(picture: Path) -> None:
    result = invoke(
        "infer", picture, "--bundle", tiny.BUNDLE, "--json", "--threshold", 2, "--region", "0,0,9,9"
    )
    (person,) = json.loads(result.stdout)["persons"]
    assert person["flagged"] is False
    assert person["kept"] is None
    assert person["failure_probability"] == person["predicted_loss"]  # as the tiny bundle has it
    assert person["region"] == [0, 0, 9, 9]
    assert list(person["keypoints"])[0] == "right_ankle"


def test_a_threshold_by_its_name(picture: Path) -> None:
    arguments = ("infer", picture, "--bundle", tiny.BUNDLE, "--json", "--threshold")
    (person,) = json.loads(invoke(*arguments, "miss_rate=0.2").stdout)["persons"]
    assert (person["threshold"], person["flagged"]) == (0.5, True)
    refused = invoke(*arguments, "miss_rate=0.1").exception
    assert "bright-spots's own: likely, flag_rate=0.1, miss_rate=0.2" in str(refused)


def test_infer_draws(picture: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / "spots.png"
    twin.write_bytes(picture.read_bytes())
    result = invoke("infer", picture, twin, "--bundle", tiny.BUNDLE, "--draw", tmp_path / "drawn")
    assert result.exit_code == 0, result.output
    names = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert names == ["spots.pose.2.png", "spots.pose.png"]
    drawn = images.read(tmp_path / "drawn" / names[0])
    assert (drawn != np.uint8(0)).mean() > 0.01


def test_infer_goes_on_after_a_bad_image(picture: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image, no image")
    paths = (tmp_path / "bad.jpg", picture, tmp_path / "missing.png")
    result = invoke("infer", *paths, "--bundle", tiny.BUNDLE)
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 2
    bad, missing, count = result.stderr.splitlines()
    assert "bad.jpg" in bad
    assert "missing.png: No such file" in missing
    assert count == "misgiving: 2 failed, 1 answered"


def test_infer_takes_folders_and_videos(picture: Path, tmp_path: Path) -> None:
    """Side by side; a frame's name is its video's and its number."""
    folder, video = tmp_path / "in", tmp_path / "spots.avi"
    folder.mkdir()
    for name in ("b.PNG", "a.png"):
        (folder / name).write_bytes(picture.read_bytes())
    (folder / "bad.jpg").write_bytes(b"\xff\xd8 cut")
    (folder / "notes.txt").write_text("no image")
    write_video(video, 3)
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    drawn = tmp_path / "drawn"
    result = invoke(
        "infer", folder, nothing, video, video, picture,
        "--bundle", tiny.BUNDLE, "--json", "--draw", drawn,
    )  # fmt: skip
    assert result.exit_code == 1
    frames = [f"{video}#{number:06d}" for number in range(3)]
    ids = [json.loads(line)["frame_id"] for line in result.stdout.splitlines()]
    assert ids == [f"{folder}/a.png", f"{folder}/b.PNG", *frames, *frames, str(picture)]
    bad, empty, count = result.stderr.splitlines()
    assert "bad.jpg" in bad
    assert "nothing holds no image" in empty
    assert count == "misgiving: 2 failed, 9 answered"
    labels = ["a", "b", *(f"spots.{number:06d}" for number in range(3)), "spots"]
    twice = [f"spots.{number:06d}.pose.2.png" for number in range(3)]
    assert {path.name for path in drawn.iterdir()} == {*(f"{x}.pose.png" for x in labels), *twice}


def test_infer_reads_a_video_as_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frame by frame: a recording does not fit into memory."""
    write_video(tmp_path / "drive.mp4.part", 2)  # no suffix says what it is
    steps: list[str] = []
    real = Video.__iter__

    def watched(video: Video) -> Iterator[Picture]:
        for frame in real(video):
            steps.append(frame.name)
            yield frame
            steps.append("taken")

    monkeypatch.setattr(Video, "__iter__", watched)
    result = invoke("infer", tmp_path / "drive.mp4.part", "--bundle", tiny.BUNDLE)
    assert (result.exit_code, steps) == (0, ["000000", "taken", "000001", "taken"])


def test_infer_says_what_a_video_lacks(picture: Path, tmp_path: Path) -> None:
    """The other frames keep their numbers, and the next argument is answered too."""
    video = tmp_path / "spots.avi"
    write_video(video, 4)
    data = bytearray(video.read_bytes())
    second = [match.start() for match in re.finditer(b"\xff\xd8\xff", data)][1]
    data[second + 3 : second + 300] = bytes(297)
    video.write_bytes(data)
    result = invoke("infer", video, picture, "--bundle", tiny.BUNDLE)
    assert result.exit_code == 1
    names = [line.split()[-1] for line in result.stdout.splitlines()[1:]]
    assert names == [*(f"{video}#{number:06d}" for number in (0, 2, 3)), str(picture)]
    assert f"{video}: 1 of its frames cannot be read" in result.stderr


def test_an_image_by_its_first_bytes(picture: Path, tmp_path: Path) -> None:
    plain = tmp_path / "photo"
    plain.write_bytes(picture.read_bytes())
    assert invoke("infer", plain, "--bundle", tiny.BUNDLE).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("infer", "x.png", "--bundle", "nowhere"), "nowhere is no bundle"),
        (("infer", "x.png", "--bundle", tiny.BUNDLE, "--region", "1,2,3"), "expected X,Y,W,H"),
        (("infer", "x.png", "--bundle", tiny.BUNDLE, "--device", "tpu"), "expected one of cpu"),
        (("infer", "x.png", "--bundle", tiny.BUNDLE, "--threshold", "nan"), "threshold is nan"),
        (("serve", "--bundle", tiny.BUNDLE, "--collector", "a:1"), "there is no spool"),
        (("serve", "--bundle", tiny.BUNDLE, "--listen", "a"), "expected HOST:PORT"),
        (
            ("serve", "--bundle", tiny.BUNDLE, "--listen", "127.0.0.1:0", "--audit-rate", "2"),
            "expected a share from 0 to 1",
        ),
        (("serve", "--bundle", "nowhere", "--listen", "127.0.0.1:0"), "nowhere is no bundle"),
        (("stream", "nowhere"), "nowhere does not exist"),
        (("stream", tiny.BUNDLE), "holds no image"),
    ],
)
def test_what_a_user_can_mend(arguments: tuple[object, ...], said: str) -> None:
    result = invoke(*arguments)
    assert isinstance(result.exception, MisgivingError)
    assert said in str(result.exception)
    assert "\n" not in str(result.exception)


def test_errors_are_one_line_and_exit_code_2() -> None:
    done = run("infer", "x.png", "--bundle", "nowhere")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("misgiving: nowhere is no bundle")
    assert done.stderr.count("\n") == 1


def test_a_user_s_whole_day(picture: Path, tmp_path: Path) -> None:
    """Serve with a spool, stream against it, find the port taken, stop it."""
    with server("--spool", tmp_path / "spool", "--device-id", "car 7") as (process, address):
        done = run("stream", picture, "--server", address)
        assert done.stdout.splitlines()[:2] == [
            "frames: 1 sent, 1 answered, 0 failed, 0 dropped",
            "flagged: 1, audited: 0; of these 1 queued for collection, 0 lost",
        ]
        second = run("serve", "--bundle", tiny.BUNDLE, "--listen", address)
        assert second.returncode == 2
        assert f"{address} cannot be bound" in second.stderr
        assert second.stderr.count("\n") == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0

    from misgiving.runtime.outbox.spool import Spool
    from misgiving.v1.fleet_pb2 import CollectedFrame

    spool = Spool(tmp_path / "spool")
    (digest,) = spool.pending()  # flushed before the process ended
    frame = CollectedFrame.FromString(spool.read(digest))
    spool.close()
    assert frame.frame.image.encoded == picture.read_bytes()
    assert frame.device_id == "car 7"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_open_streams_and_exits_with_0(number: signal.Signals) -> None:
    closed = threading.Event()
    frames = [wire_frame(tiny.spots([3] * 14), frame_id=str(i)) for i in range(3)]

    def requests() -> Iterator[wire.StreamInferRequest]:
        mode = wire.STREAM_MODE_IN_ORDER
        yield wire.StreamInferRequest(open=wire.StreamOpen(mode=mode))
        for frame in frames:
            yield wire.StreamInferRequest(frame=frame)
        closed.wait()

    with server() as (process, address), grpc.insecure_channel(address) as channel:
        replies = FailureDetectorStub(channel).StreamInfer(requests())
        assert [next(replies).result.frame_id for _ in frames] == ["0", "1", "2"]
        process.send_signal(number)
        (last,) = replies
        assert last.summary == wire.StreamSummary(received=3, answered=3)
        assert process.wait(60) == 0
        closed.set()
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_frames_sent_across_a_signal_are_answered_or_told(tmp_path: Path) -> None:
    """However the signal falls between the frames, answers come in order, and then an error."""
    with server() as (process, address), Client(address, wait_s=0) as client:
        frames = (make_frame(tiny.spots([3] * 14), frame_id=str(i)) for i in range(10**9))
        answered = []
        with pytest.raises(FailedPrecondition, match="no answer from"):  # noqa: PT012
            for reply in client.stream(frames):
                answered.append(reply.frame_id)
                if len(answered) == 20:
                    process.send_signal(signal.SIGTERM)
        assert answered == [str(i) for i in range(len(answered))]
        assert len(answered) >= 20
        assert process.wait(60) == 0


def test_the_bundle_of_the_environment(picture: Path) -> None:
    command = [*COMMAND, "infer", str(picture)]
    environment = os.environ | {"MISGIVING_BUNDLE": str(tiny.BUNDLE)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
