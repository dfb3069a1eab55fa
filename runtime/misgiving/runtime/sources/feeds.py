"""Cameras and network streams: what each is called in public, and how it is opened.

A camera and a URL differ in nothing but what is here; ``live.py`` reads both alike.
"""

import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import cv2
from numpy.typing import NDArray

from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.net.listening import is_loopback

# OpenCV reads both when it first needs them. Forced, not a default: FFmpeg's own messages name
# URLs with their passwords.
os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"
os.environ.pop("OPENCV_FFMPEG_DEBUG", None)
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "5")  # s, as READ_TIMEOUT_MS

OPEN_TIMEOUT_MS = 10_000
READ_TIMEOUT_MS = 5_000
"""A freeze is noticed within two of these: after the first, the decoder gives what it has left."""
SILENCE_S = 0.9 * READ_TIMEOUT_MS / 1000
"""A read that failed after so long has met silence, not a broken picture."""
_ASK_TIMEOUT_S = 3.0

_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
_ENVIRONMENT = "env:"
# An @ behind the host, or a port that is none, are signs of a password with / ? or # in it.
_URL = re.compile(
    r"(?P<scheme>rtsps?|https?)://(?:[^/?#\s]*@)?"
    r"(?P<host>(?:\[[0-9a-f:.]+\]|[\w.-]+)(?::\d{1,5})?)"
    r"(?P<path>/[^?#@\s]*)?(?:\?[^#@\s]*)?",
    re.IGNORECASE | re.ASCII,
)


class Capture(Protocol):
    """What is used of a cv2.VideoCapture."""

    def read(self) -> tuple[bool, NDArray[Any]]:
        """The next frame, BGR (H, W, 3), when it has come; False where none will come."""

    def get(self, property_id: int, /) -> float: ...

    def release(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Feed:
    """Something that goes on giving frames while it lasts."""

    name: str
    """Without secrets: it goes into messages, and with every frame to the fleet."""
    open: Callable[[], Capture | None]
    """None where it does not open, after OPEN_TIMEOUT_MS at the latest."""
    why: Callable[[], str]
    """Asked after ``open`` has failed: the likely reason, in words."""


def find_feed(source: str) -> Feed | None:
    """The camera or network stream that a source names; None where it names a file or folder.

    Args:
        source: a camera's index or device, a URL, or ``env:NAME`` of a variable that holds one.

    Raises:
        InvalidInput: a URL that is none, or of a kind that is not taken.
    """
    if source.startswith(_ENVIRONMENT):
        url = _from_environment(source.removeprefix(_ENVIRONMENT))
        return _url_feed(url, f"what {source!r} names")
    # With an @ and no such file it is a mistyped URL, and an error must not repeat it.
    if "://" in source or ("@" in source and not Path(source).exists()):
        return _url_feed(source)
    if source.isdecimal():
        source = f"/dev/video{int(source)}"
    if source.startswith("/dev/"):
        _check_utf8(source)
        opened = partial(_open, source, cv2.CAP_V4L2)
        return Feed(source, opened, partial(_why_no_camera, Path(source)))
    return None


def public_name(url: str, said: str = "the source") -> str:
    """A URL without user, password and query: the only form in which it may be shown.

    Path segments with ``=``, ``&`` or ``;`` go too: some cameras take the password there.

    Args:
        url: to be shown.
        said: what it is called where it is no URL.

    Raises:
        InvalidInput: it is none that is taken here; the message repeats nothing of it.
    """
    parts = _URL.fullmatch(url)
    if parts is None:
        raise InvalidInput(
            f"{said} is not a URL of {', '.join(_PORTS)}; expected "
            "rtsp://[USER:PASSWORD@]HOST[:PORT]/PATH. Write / ? # @ in a password as "
            "%2F %3F %23 %40"
        )
    path = re.sub(r"[^/]*[=&;][^/]*", "***", parts["path"] or "")
    return f"{parts['scheme'].lower()}://{parts['host']}{path}"


def _check_utf8(source: str) -> None:
    """OpenCV ends the process at a name that is not, and the fleet could not be told it."""
    try:
        source.encode()
    except UnicodeEncodeError:
        raise InvalidInput(
            "the source's name is not UTF-8; expected a camera or URL whose name is. "
            "Write other bytes of a URL as %XX"
        ) from None


def _from_environment(name: str) -> str:
    try:
        return os.environ[name]
    except KeyError:
        raise InvalidInput(
            f"the environment has no variable {name!r}; expected one that holds a URL"
        ) from None


def _url_feed(url: str, said: str = "the source") -> Feed:
    # OpenCV asks RTSP servers for TCP first, unless OPENCV_FFMPEG_CAPTURE_OPTIONS says otherwise.
    parameters = (
        *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT_MS),
        *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT_MS),
        # Each further thread of the decoder would hold a frame back.
        *(cv2.CAP_PROP_N_THREADS, 1),
    )
    _check_utf8(url)
    name = public_name(url, said)
    _spare_loopback(url)
    opened = partial(_open, url, cv2.CAP_FFMPEG, parameters)
    return Feed(name, opened, partial(_why_no_stream, url))


def _spare_loopback(url: str) -> None:
    """Let FFmpeg reach a camera of this very machine without ``http_proxy``."""
    host = urlsplit(url).hostname or ""
    if is_loopback(host):
        others = os.environ.get("no_proxy", "")
        os.environ["no_proxy"] = f"{others},{host}" if others else host


def _open(target: str, backend: int, parameters: tuple[int, ...] = ()) -> Capture | None:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    capture = cv2.VideoCapture(target, backend, parameters)
    return capture if capture.isOpened() else None


def _why_no_camera(device: Path) -> str:
    if not device.exists():
        present = sorted(str(path) for path in Path("/dev").glob("video*"))
        return f"there is no such device; this machine has: {', '.join(present) or 'none'}"
    if not os.access(device, os.R_OK | os.W_OK):
        return "this user may not open it; add the user to the group 'video'"
    return "it is in use, or no camera; close other programs that read it"


def _why_no_stream(url: str) -> str:
    """Ask the server without credentials, in plain text; FFmpeg tells nobody its reasons."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    assert parts.hostname is not None  # public_name has taken it
    try:
        address = (parts.hostname, parts.port or _PORTS[scheme])
        with socket.create_connection(address, _ASK_TIMEOUT_S) as connection:
            if scheme in ("rtsps", "https"):
                return "the server is there; check path, user and password"
            connection.settimeout(_ASK_TIMEOUT_S)
            connection.sendall(_question(scheme, parts.netloc.rpartition("@")[2], parts.path))
            return _reading(connection.recv(64))
    except (OSError, ValueError) as error:  # ValueError: a port beyond 65535
        reason = getattr(error, "strerror", None) or str(error)
        return f"{reason}; check host, port and network"


def _question(scheme: str, host: str, path: str) -> bytes:
    if scheme == "rtsp":
        return f"DESCRIBE rtsp://{host}{path} RTSP/1.0\r\nCSeq: 1\r\n\r\n".encode()
    return f"GET {path or '/'} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode()


def _reading(answer: bytes) -> str:
    """What a status line means. Only its number is shown: the rest is the server's to fill."""
    found = re.match(rb"(?:RTSP|HTTP)/\d\.\d (\d{3})", answer)
    match int(found[1]) if found else 0:
        case 401 | 403:
            return "the server asks for a login; check user and password"
        case 200:
            return "the server answers, but sends no video that OpenCV reads"
        case 0:
            return "what answers there speaks another protocol; check port and scheme"
        case status:
            return f"the server answers {status}; check the path"
