"""``misgiving stream`` on real servers of network streams: RTSP and MJPEG over HTTP.

RTSP needs GStreamer of Debian's packages; ``.ci/run`` installs them.
"""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from misgiving.runtime.images import decode
from misgiving.runtime.outbox.spool import Spool
from misgiving.v1 import pose_pb2 as pose
from misgiving.v1.fleet_pb2 import CollectedFrame
from runtime.cameras import PASSWORD, SERVERS, USER, camera
from runtime.commands import COMMAND, server

TOKEN = "tok3nt0ken"
SECRETS = (USER, PASSWORD, "geh%40eim", TOKEN)
AROUND = {
    "http_proxy": "http://127.0.0.1:9",  # neither the camera nor the server lies behind it
    "no_proxy": "",
    "OPENCV_FFMPEG_LOGLEVEL": "56",
    "OPENCV_FFMPEG_DEBUG": "1",
    "OPENCV_VIDEOIO_DEBUG": "1",
    "OPENCV_LOG_LEVEL": "DEBUG",
}
"""What somebody may have set: a proxy, and what makes OpenCV and FFmpeg print URLs."""


@pytest.fixture(params=SERVERS)
def scheme(request: pytest.FixtureRequest) -> str:
    if request.param == "rtsp":
        try:
            check = subprocess.run([*SERVERS["rtsp"], "--check"], capture_output=True)
        except FileNotFoundError:
            pytest.skip("no /usr/bin/python3 for the RTSP server; .ci/run names the packages")
        if check.returncode:
            pytest.skip("no GStreamer RTSP server; .ci/run names the packages to install")
    return str(request.param)


@contextmanager
def streaming(url: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """``misgiving stream`` as a process that finds its URL in the environment."""
    environment = os.environ | AROUND | {"CAMERA": url}
    command = [*COMMAND, "stream", "env:CAMERA", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_stream_is_lost_found_and_left_and_no_secret_leaves(scheme: str, tmp_path: Path) -> None:
    replies = tmp_path / "replies"
    os.mkfifo(replies)
    spooling = ("--spool", str(tmp_path / "spool"), "--audit-rate", "1")
    with server(*spooling) as (serving, address), camera(scheme) as (first, port):
        url = f"{scheme}://{USER}:geh%40eim@127.0.0.1:{port}/stream1?key={TOKEN}"
        arguments = ("--server", address, "--json", str(replies))
        with streaming(url, *arguments) as process, replies.open() as lines:
            records = [lines.readline()]
            first.kill()
            first.wait()
            assert process.stderr is not None
            said = [process.stderr.readline()]
            with camera(scheme, port):
                said.append(process.stderr.readline())
                process.send_signal(signal.SIGINT)
                records += lines.readlines()
                out, err = process.communicate(timeout=60)
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(60) == 0
        assert serving.stderr is not None
        logged = serving.stderr.read()

    name = f"{scheme}://127.0.0.1:{port}/stream1"
    assert process.returncode == 130
    assert said[0].endswith(f"{name} is lost; trying again until it is back\n")
    assert f"{name} is back after " in said[1]
    assert err == ""
    source, sent, _, _ = out.splitlines()
    assert source.endswith(" dropped before sending, 1 reconnects")
    assert f" sent, {len(records)} answered, 0 failed, " in sent

    spool = Spool(tmp_path / "spool")
    frames = [CollectedFrame.FromString(spool.read(digest)).frame for digest in spool.pending()]
    spool.close()
    assert {frame.stream_id for frame in frames} == {name}
    assert all(is_red(frame) for frame in frames)
    answered = [json.loads(record)["frame_id"] for record in records]
    assert sorted(frame.frame_id for frame in frames) == answered

    left = b"".join(path.read_bytes() for path in (tmp_path / "spool").iterdir())
    left += "".join([*said, *records, out, err, logged]).encode()
    assert left.count(name.encode()) > len(frames)  # so a secret would be found too
    assert [secret for secret in SECRETS if secret.encode() in left] == []


def test_a_wrong_password_is_an_error_at_once(scheme: str) -> None:
    with camera(scheme) as (_, port):
        url = f"{scheme}://{USER}:{TOKEN}@127.0.0.1:{port}/stream1"
        with streaming(url) as process:
            out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert out == ""
    name = f"{scheme}://127.0.0.1:{port}/stream1"
    why = "the server asks for a login; check user and password"
    assert err == f"misgiving: {name} gives no frame: {why}\n"


def is_red(frame: pose.Frame) -> bool:
    image = decode(frame.image.encoded)
    red, green, blue = image.mean(axis=(0, 1))
    return image.shape == (48, 64, 3) and bool(red > 200 > 40 > max(green, blue))
