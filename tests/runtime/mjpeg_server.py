"""A real MJPEG camera for tests: a red picture over HTTP, behind a login. Prints its port.

``mjpeg_server.py PORT USER PASSWORD``; port 0 takes a free one.
"""

import sys
import threading
from base64 import b64encode
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

RED = cv2.imencode(".jpg", np.full((48, 64, 3), (0, 0, 255), np.uint8))[1].tobytes()
PORT, USER, PASSWORD = sys.argv[1:]
LOGIN = "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()


class Camera(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.headers["Authorization"] != LOGIN:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(RED)}\r\n\r\n"
        pace = threading.Event()
        with suppress(OSError):  # the other side hung up
            while not pace.wait(1 / 25):
                self.wfile.write(head.encode() + RED + b"\r\n")

    def log_message(self, *arguments: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(PORT)), Camera)
print(server.server_port, flush=True)
server.serve_forever()
