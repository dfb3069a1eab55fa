"""The newest answers as pictures in a browser of this machine: MJPEG over HTTP, on loopback.

A picture is drawn only while somebody looks, once for all who do, and in their threads. Who looks
slowly gets fewer pictures: the newest wins.
"""

import html
import ipaddress
import math
import re
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from misgiving.runtime.draw import draw_result
from misgiving.runtime.errors import FailedPrecondition, InvalidInput
from misgiving.runtime.images import decode, encode_jpeg
from misgiving.runtime.keypoints import KeypointSet
from misgiving.runtime.net.listening import accept_patiently, check_address
from misgiving.runtime.nouns import Answer, Frame

FPS = 12
"""Pictures a second for each who looks, at most: they are drawn on the machine that answers."""
MAX_VIEWERS = 16
STALE_S = 5.0
"""A picture that is older is shown dark."""
_PATIENCE_S = 10.0
_QUALITY = 80
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>misgiving watch</title>
<style>
body {{ margin: 1rem; background: #16181c; color: #e8e8e8; font: 1rem system-ui, sans-serif }}
main {{ display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)) }}
figure {{ margin: 0 }} img {{ width: 100%; background: #000 }} figcaption {{ padding: .3rem 0 }}
</style>
<main>{figures}</main></html>
"""


class Screen:
    """The newest answered frame of one camera, drawn when it is asked for."""

    def __init__(self, name: str, keypoints: KeypointSet) -> None:
        self.name = name
        self._keypoints = keypoints
        self._changed = threading.Condition()
        self._newest: tuple[Frame, Answer] | None = None
        self._number = 0
        self._drawing = threading.Lock()
        self._drawn = 0, b""

    def arrived(self, frame: Frame, arrived_nano: int) -> None:
        """Nothing is shown before its answer."""

    def answered(self, frame: Frame, answer: Answer, arrived_nano: int) -> None:
        """The next picture."""
        with self._changed:
            self._newest = frame, answer
            self._number += 1
            self._changed.notify_all()

    def after(self, number: int, wait_s: float) -> tuple[int, bytes] | None:
        """The newest picture and its number, once that is beyond ``number``; None after a wait."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._number > number, wait_s):
                return None
        with self._drawing:
            with self._changed:
                newest, number = self._newest, self._number
            assert newest is not None
            if self._drawn[0] != number:
                self._drawn = number, self._draw(*newest)
            return self._drawn

    def _draw(self, frame: Frame, answer: Answer) -> bytes:
        picture = draw_result(frame.decoded(), answer.persons, self._keypoints)
        return encode_jpeg(picture, _QUALITY)


class Show:
    """Serves the screens; the address is known once it is made.

    Args:
        address: HOST:PORT of this machine alone; port 0 takes a free one.
        screens: in the order of the page.

    Raises:
        InvalidInput: the address is none, or others could reach it.
        FailedPrecondition: it cannot be taken.
    """

    def __init__(self, address: str, screens: Sequence[Screen]) -> None:
        host = check_own(address)
        try:
            self._server = _Server((host, int(address.rpartition(":")[2])), screens)
        except OSError as error:
            raise FailedPrecondition(
                f"{address} cannot be listened on: {error.strerror}. Name another port for --show"
            ) from error
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_port}/"
        accept_patiently(self._server)
        self._thread = threading.Thread(target=self._server.serve_forever, name="show", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hang up."""
        self._server.ended.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a viewer that does not read holds nobody up

    def __init__(self, address: tuple[str, int], screens: Sequence[Screen]) -> None:
        self.screens = screens
        self.ended = threading.Event()
        self.places = threading.Semaphore(MAX_VIEWERS)
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Viewer)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A viewer hung up, which is no error of ours."""


class _Viewer(BaseHTTPRequestHandler):
    server: _Server
    timeout = _PATIENCE_S
    """Of a read, or of a write to somebody who takes nothing."""

    def do_GET(self) -> None:
        """The page, or the pictures of a camera by its place on it."""
        number = self.path.removeprefix("/camera/")
        if not _names_us(self.headers.get("Host", "")):
            self.send_error(HTTPStatus.FORBIDDEN, "by 127.0.0.1 or localhost alone")
        elif self.path == "/":
            self._page()
        elif number.isdecimal() and int(number) < len(self.server.screens):
            self._pictures(self.server.screens[int(number)])
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, *arguments: object) -> None:
        """Who looks is nobody's business."""

    def _page(self) -> None:
        figures = "".join(
            f'<figure><img src="/camera/{number}" alt=""><figcaption>{html.escape(screen.name)}'
            "</figcaption></figure>"
            for number, screen in enumerate(self.server.screens)
        )
        page = _PAGE.format(figures=figures).encode()
        self._head("text/html; charset=utf-8")
        self.wfile.write(page)

    def _pictures(self, screen: Screen) -> None:
        if not self.server.places.acquire(blocking=False):
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, f"{MAX_VIEWERS} look already")
            return
        try:
            with suppress(OSError):  # the viewer hung up, or takes nothing
                self._stream(screen)
        finally:
            self.server.places.release()

    def _stream(self, screen: Screen) -> None:
        self._head("multipart/x-mixed-replace; boundary=frame")
        number, jpeg, shown_s, ended = 0, b"", math.inf, self.server.ended
        while not ended.is_set():
            began = time.monotonic()
            if picture := screen.after(number, 0.5):
                number, jpeg = picture
                shown_s = began
            elif began - shown_s > STALE_S:
                jpeg, shown_s = _dark(jpeg), math.inf  # once
            else:
                continue
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            self.wfile.write(head.encode() + jpeg + b"\r\n")
            ended.wait(max(0.0, began + 1 / FPS - time.monotonic()))

    def _head(self, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        # No other site may show these pictures in its own page.
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.end_headers()


def _dark(jpeg: bytes) -> bytes:
    """Nobody is to take the last picture of a camera that froze for a live one."""
    return encode_jpeg(decode(jpeg) // 3, _QUALITY)


def check_own(address: str) -> str:
    """The host of an address that nobody else can reach; raises InvalidInput for another."""
    host = check_address(address).strip("[]")
    if not _is_own(host):
        raise InvalidInput(
            f"--show is {address}; expected an address of this machine alone, for example "
            "127.0.0.1:8080. Reach it from elsewhere through ssh -L"
        )
    return host


def _names_us(host: str) -> bool:
    """Whether a browser means this machine: a name that leads here by another's DNS does not."""
    return _is_own(re.sub(r":\d+$", "", host).strip("[]"))


def _is_own(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
