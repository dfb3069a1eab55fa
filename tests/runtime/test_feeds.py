"""What a camera or a URL is called, and why it does not open; nothing here shows a secret."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.sources.feeds import Feed, find_feed, public_name
from shared.ports import nobody

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("rtsp://cam.example/stream1", "rtsp://cam.example/stream1"),  # nothing to hide
        ("RTSP://u:hunter2@cam.example:8554/a/b", "rtsp://cam.example:8554/a/b"),
        ("rtsps://hunter2@cam.example", "rtsps://cam.example"),  # a token alone
        ("rtsp://u:hun@ter2:hunter2@10.0.0.7/x", "rtsp://10.0.0.7/x"),  # @ and : as typed
        ("http://u:hunter2@[fe80::1]:80/v?token=hunter2", "http://[fe80::1]:80/v"),
        ("https://cam.example/v?hunter2", "https://cam.example/v"),
        ("https://cam.example?key=hunter2", "https://cam.example"),
        # As some cameras have it: the login in the path.
        ("rtsp://10.0.0.7/user=u_password=hunter2_channel=1.sdp?x", "rtsp://10.0.0.7/***"),
        ("rtsp://10.0.0.7/a/u=u&p=hunter2/b;hunter2", "rtsp://10.0.0.7/a/***/***"),
    ],
)
def test_public_name(url: str, name: str) -> None:
    assert public_name(url) == name


@pytest.mark.parametrize(
    "source",
    [
        "ftp://u:hunter2@cam.example/x",  # not taken
        "rtsp://u:hunter2@/x",  # no host
        "rtsp://u:hunter2@cam example/x",
        "rtsp://u:hunter2@cam.example:port/x",
        # Characters that end the host where the password goes on.
        "rtsp://u:hunter2/3@cam.example/x",
        "rtsp://u:1/hunter2@cam.example/x",
        "rtsp://u:1?hunter2@cam.example/x",
        "rtsp://u:hunter2#3@cam.example/x",
        # Mistyped: without this they would pass for files, and be named in the error.
        "u:hunter2@cam.example/x",
        "rtsp:/u:hunter2@cam.example/x",
        "http://cam.example/\nhunter2",
    ],
)
def test_urls_that_are_none_are_not_repeated(source: str) -> None:
    with pytest.raises(InvalidInput, match=r"expected rtsp://\[USER:PASSWORD@\]HOST") as caught:
        find_feed(source)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_url_of_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMERA", "rtsp://u:hunter2@cam.example/x")
    assert found("env:CAMERA").name == "rtsp://cam.example/x"
    assert SECRET not in repr(found("env:CAMERA").name)
    monkeypatch.setenv("CAMERA", "hunter2")
    with pytest.raises(InvalidInput, match="not a URL of rtsp") as caught:
        find_feed("env:CAMERA")
    assert SECRET not in str(caught.value)
    with pytest.raises(InvalidInput, match="no variable 'NONE'"):
        find_feed("env:NONE")


def test_files_are_no_feeds(tmp_path: object) -> None:
    for source in ("drive.mp4", "./0", "a:b", f"{tmp_path}", "images"):
        assert find_feed(source) is None


@pytest.mark.parametrize(
    ("source", "name", "why"),
    [
        ("97", "/dev/video97", "no such device; this machine has: "),
        ("/dev/v4l/by-id/usb-none", "/dev/v4l/by-id/usb-none", "no such device"),
        ("/dev/null", "/dev/null", "no camera"),
    ],
)
def test_cameras_that_do_not_open(
    source: str, name: str, why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    feed = found(source)
    assert feed.name == name
    assert feed.open() is None
    assert why in feed.why()
    assert capfd.readouterr() == ("", "")


@contextmanager
def answering(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A server that gives everybody one answer, its port, and what it was asked."""
    asked: list[bytes] = []

    def run() -> None:
        while True:
            try:
                connection = listening.accept()[0]
            except OSError:
                return
            with connection:
                asked.append(connection.recv(4096))
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=run)
        thread.start()
        yield listening.getsockname()[1], asked
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    ("scheme", "answer", "why"),
    [
        ("rtsp", b"RTSP/1.0 401 Unauthorized\r\n\r\n", "asks for a login"),
        ("http", b"HTTP/1.1 403 hunter2\r\n\r\n", "asks for a login"),
        ("rtsp", b"RTSP/1.0 404 /hunter2\r\n\r\n", "answers 404; check the path"),
        ("http", b"HTTP/1.0 200 OK\r\n\r\nhello", "no video that OpenCV reads"),
        ("rtsp", b"SSH-2.0-hunter2\r\n", "another protocol"),
        ("http", b"", "another protocol"),
        ("https", b"", "the server is there; check path, user and password"),
    ],
)
def test_streams_that_do_not_open(
    scheme: str, answer: bytes, why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with answering(answer) as (port, asked):
        feed = found(f"{scheme}://u:hunter2@127.0.0.1:{port}/x?token=hunter2")
        assert feed.open() is None
        del asked[:]
        assert why in feed.why()
        assert SECRET not in feed.why() + "".join(map(str, asked))
    assert capfd.readouterr() == ("", "")


def test_nobody_there() -> None:
    with nobody() as address:
        assert "Connection refused; check host" in found(f"rtsp://{address}/x").why()
    assert "Port out of range" in found("rtsp://127.0.0.1:99999/x").why()


def found(source: str) -> Feed:
    feed = find_feed(source)
    assert feed is not None
    return feed
