"""What cameras notice when a server goes over to another bundle.

Four cameras send JPEGs at a steady pace, each from the frame's due time on. Windows of 10 s without
an exchange and with one, asked for in their middle, take turns. The two bundles are the one that
ships and a copy of it in another version, behind a symbolic link that is turned before SIGHUP.

Run: python benchmarks/swap.py > benchmarks/swap_cpu_<yyyymm>.md
"""

import argparse
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np

from misgiving.runtime.bundles.locate import DEFAULT_BUNDLE
from misgiving.runtime.client import Client
from misgiving.runtime.errors import MisgivingError
from misgiving.runtime.geometry import Region
from misgiving.runtime.images import encode_jpeg

CAMERAS, FPS, HEIGHT, WIDTH = 4, 10, 480, 640
SWAPS, WINDOW_S, WARM_UP_S = 10, 10.0, 5.0


class Window:
    """What the cameras saw in a stretch of time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.taken: list[float] = []
        self.lost: list[str] = []
        self.versions: set[str] = set()

    @property
    def p50_ms(self) -> float:
        return float(np.percentile(self.taken, 50)) * 1e3

    @property
    def p99_ms(self) -> float:
        return float(np.percentile(self.taken, 99)) * 1e3


def main() -> None:
    """Measure, interleaved so that a noisy machine is noisy for both, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--swaps", type=int, default=SWAPS)
    parser.add_argument("--window", type=float, default=WINDOW_S, metavar="S")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder, _served(Path(folder)) as (server, address):
        cameras = [Client(address) for _ in range(CAMERAS)]
        _watched(cameras, WARM_UP_S)
        still, moved = [], []
        for number in range(options.swaps):
            still.append(_watched(cameras, options.window))
            turned = threading.Timer(options.window / 2, _turn, (Path(folder), server, number))
            turned.start()
            moved.append(_watched(cameras, options.window))
            turned.join()
        for camera in cameras:
            camera.close()
    print(_page(still, moved))


@contextmanager
def _served(folder: Path) -> "Iterator[tuple[subprocess.Popen[str], str]]":
    for name in ("0", "1"):
        shutil.copytree(DEFAULT_BUNDLE, folder / name)
        path = folder / name / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"version": name}))
    (folder / "current").symlink_to("0")
    (folder / "misgiving.toml").write_text('[bundle]\npath = "current"\nthreads = 1\n')
    settings = ["--config", str(folder / "misgiving.toml"), "--listen", "127.0.0.1:0"]
    command = [sys.executable, "-m", "misgiving", "serve", *settings]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stderr=log, text=True)
    try:
        while not (match := re.search(r" on (\S+:\d+) ", (folder / "log").read_text())):
            time.sleep(0.1)
        yield process, match[1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _turn(folder: Path, server: "subprocess.Popen[str]", number: int) -> None:
    (folder / "next").symlink_to(str((number + 1) % 2))
    (folder / "next").rename(folder / "current")
    server.send_signal(signal.SIGHUP)


def _watched(cameras: list[Client], seconds: float) -> Window:
    window, start = Window(seconds), time.perf_counter()
    threads = [
        threading.Thread(target=_camera, args=(window, camera, start + i / CAMERAS / FPS))
        for i, camera in enumerate(cameras)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return window


def _camera(window: Window, camera: Client, start: float) -> None:
    coarse = np.random.default_rng(0).integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    image = encode_jpeg(np.asarray(cv2.resize(coarse, (WIDTH, HEIGHT)), np.uint8))
    for number in range(round(window.seconds * FPS)):
        due = start + number / FPS
        time.sleep(max(0.0, due - time.perf_counter()))
        try:
            answer = camera.infer(image, [Region(0, 0, WIDTH, HEIGHT)])
        except MisgivingError as error:
            window.lost.append(str(error))
            continue
        window.taken.append(time.perf_counter() - due)
        window.versions.add(answer.bundle_digest)


def _page(still: list[Window], moved: list[Window]) -> str:
    exchanged = sum(len(window.versions) == 2 for window in moved)
    frames = sum(len(one.taken) + len(one.lost) for one in (*still, *moved))
    lost = sum(len(one.lost) for one in (*still, *moved))
    ratios = [b.p99_ms / a.p99_ms for a, b in zip(still, moved, strict=True)]
    lines = [
        "# Swap under load",
        "",
        f"`python benchmarks/swap.py`, {time.strftime('%Y-%m-%d')}, {platform.machine()}, "
        f"{os.cpu_count()} cores, server and client on both; CPython {platform.python_version()}, "
        f"grpcio {metadata.version('grpcio')}, onnxruntime {metadata.version('onnxruntime')}, 1 "
        f"thread, loopback. {CAMERAS} cameras of {FPS} frames/s, {WIDTH} × {HEIGHT} JPEG, through "
        f"the bundle that ships. {len(moved)} windows of {moved[0].seconds:g} s with an exchange "
        f"in their middle, each after one without. "
        "Times are from a frame's due time to its answer.",
        "",
        f"{exchanged} of {len(moved)} exchanges happened within their window. "
        f"{lost} of {frames:,} frames were lost.",
        "",
        "| | p50 ms, median | p99 ms, median | least | most |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, windows in (("without", still), ("with an exchange", moved)):
        p99 = [window.p99_ms for window in windows]
        p50 = np.median([window.p50_ms for window in windows])
        lines.append(
            f"| {name} | {p50:.1f} | {np.median(p99):.1f} | {min(p99):.1f} | {max(p99):.1f} |"
        )
    together = np.median([b.p99_ms for b in moved]) / np.median([a.p99_ms for a in still])
    lines += [
        "",
        f"p99 with / without: median of the pairs {np.median(ratios):.2f}, "
        f"from {min(ratios):.2f} to {max(ratios):.2f}; of the medians {together:.2f}.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
