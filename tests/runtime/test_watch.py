"""``misgiving watch``: cameras answered in one process, what is kept and shown of them."""

import asyncio
import os
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import IO
from urllib.parse import urlsplit

import av
import numpy as np
import pytest

from misgiving.runtime.errors import DataError, InvalidInput
from misgiving.runtime.images import decode
from misgiving.runtime.keypoints import LSP
from misgiving.runtime.nouns import Answer, Frame, make_frame
from misgiving.runtime.serving.pipeline import Pipeline
from misgiving.runtime.sources.pictures import Picture
from misgiving.runtime.telemetry.gauges import of_cameras
from misgiving.runtime.telemetry.metrics import Metrics
from misgiving.runtime.verbs.watch import named
from misgiving.runtime.watching import keeping
from misgiving.runtime.watching.camera import Camera
from misgiving.runtime.watching.keeping import Keeper
from misgiving.runtime.watching.shelf import Shelf
from misgiving.runtime.watching.show import Screen, Show
from misgiving.runtime.watching.watch import watch
from misgiving.runtime.watching.watchdog import Watchdog
from runtime.cameras import PASSWORD, camera
from runtime.commands import COMMAND
from shared import tiny
from shared.collecting import eventually

SPOTS = tiny.spots([10] * 14)


class Told:
    """Is told of one camera's frames."""

    def __init__(self, enough: int, then: Callable[[], None]) -> None:
        self.names: list[str] = []
        self._enough = enough
        self._then = then

    def arrived(self, frame: Frame, arrived_nano: int) -> None:
        pass

    def answered(self, frame: Frame, answer: Answer, arrived_nano: int) -> None:
        assert answer.frame_id == frame.frame_id
        self.names.append(f"{frame.stream_id}/{frame.frame_id}")
        if len(self.names) == self._enough:
            self._then()


def refused() -> Iterable[Picture]:
    raise DataError("/dev/video9 gives no frame: unplugged")


def pictures(read: int = 3) -> Iterator[Picture]:
    for number in range(read):
        yield Picture(f"{number:06d}", SPOTS)
    raise OSError("a driver's own error")


def test_cameras_that_fail_hold_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> tuple[list[str], list[str]]:
        pipeline, stop = Pipeline(tiny.model(), tiny.policy()), threading.Event()
        asked = asyncio.Event()

        def endless() -> Iterator[Picture]:
            yield Picture("first", SPOTS)
            while broken.error is None:  # by then the broken one is left
                stop.wait(0.01)
            yield Picture("last", SPOTS)
            stop.wait()

        told = Told(2, asked.set)
        unplugged = Camera("unplugged", refused, pipeline, Metrics(), stop, frozen_s=3600)
        broken = Camera("broken", pictures, pipeline, Metrics(), stop, again=False)
        sound = Camera("sound", endless, pipeline, Metrics(), stop, frozen_s=3600, onlookers=[told])
        cameras = [unplugged, broken, sound]
        begun = asyncio.Event()
        await watch(cameras, asked, stop, 60, begun.set)
        assert begun.is_set()
        await pipeline.close()
        assert [camera.failed for camera in cameras] == [True, True, False]
        return told.names, [camera.line() for camera in cameras]

    names, lines = asyncio.run(work())
    assert names == ["sound/first", "sound/last"]
    assert lines[0].startswith("unplugged: 0 received, 0 answered")
    assert lines[1].startswith("broken: 3 received, ")
    assert lines[2].startswith("sound: 2 received, 2 answered, 0 dropped, 0 failed; 2 flagged, 0")
    said = [record.getMessage() for record in caplog.records]
    assert sorted(said) == [
        "/dev/video9 gives no frame: unplugged; trying again until it does",
        "broken is left: a driver's own error",
    ]


def test_without_any_camera_there_is_nothing_to_watch() -> None:
    async def work() -> None:
        pipeline, stop = Pipeline(tiny.model(), tiny.policy()), threading.Event()
        begun = asyncio.Event()
        cameras = [Camera(name, refused, pipeline, Metrics(), stop) for name in "ab"]
        try:
            await watch(cameras, asyncio.Event(), stop, 20, begun.set)
        finally:
            await pipeline.close()
            assert not begun.is_set()

    with pytest.raises(DataError, match="gives no frame"):
        asyncio.run(work())


def test_a_frozen_camera_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    watchdog = Watchdog("front", 10, 0)
    states = []
    for now_s, frame in [(9, True), (19, False), (20, False), (30, False), (31, True), (60, False)]:
        if frame:
            watchdog.see(now_s)
        watchdog.check(now_s)
        states.append(watchdog.frozen)
    assert states == [False, False, True, True, False, True]
    assert watchdog.freezes == 2
    assert [record.getMessage() for record in caplog.records] == [
        "front is frozen: no frame for 11.0 s",
        "front: a frame came after 22.0 s",
        "front is frozen: no frame for 29.0 s",
    ]


def test_prometheus_is_told_which_camera_is_frozen() -> None:
    registry = Metrics().registry
    registry.register(of_cameras(lambda: {"front": True, "door": False}))
    told = [
        registry.get_sample_value("misgiving_camera_frozen", {"camera": name})
        for name in ("front", "door")
    ]
    assert told == [1, 0]


DARK, LIGHT = 0, 255
"""Of a whole picture; the tiny bundle's loss is 1 - brightness."""


def tell(keeper: Keeper, brightness: list[int], begin_s: float) -> None:
    """A camera at 10 frames/s, flagged where it is dark."""
    of_camera = keeper.of("rtsp://camera/1")
    for number, value in enumerate(brightness):
        image = np.full((56, 42, 3), value, np.uint8)
        frame = make_frame(image, (), str(number), 10**18 + number * 10**8)
        arrived = round(begin_s * 1e9) + number * 10**8
        of_camera.arrived(frame, arrived)
        of_camera.answered(frame, tiny.answered(frame, flagging=tiny.policy(0.5)), arrived)


@pytest.fixture
def shelves(tmp_path: Path) -> tuple[Shelf, Shelf]:
    return Shelf(tmp_path / "clips", ".clip.mp4"), Shelf(tmp_path / "drawn", ".flag.jpg")


def test_each_rising_edge_becomes_a_clip_and_a_drawing(
    tmp_path: Path, shelves: tuple[Shelf, Shelf]
) -> None:
    keeper = Keeper(*shelves, LSP, before_s=0.25, after_s=0.25)
    later = time.monotonic() + 300  # its time never comes: only the end ends the clip
    tell(keeper, [LIGHT] * 5 + [DARK, LIGHT, DARK] + [LIGHT] * 3, later)  # it flickers
    keeper.close(60)
    (clip,) = (tmp_path / "clips").iterdir()
    assert clip.name == "20010909T014640.500000Z_rtsp___camera_1.clip.mp4"
    with av.open(clip) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    assert frames[0].shape == (56, 42, 3)
    assert [round(frame.mean(), -1) for frame in frames] == [260, 260, 0, 260, 0]
    (drawing,) = (tmp_path / "drawn").iterdir()
    assert decode(drawing.read_bytes()).shape[0] == 480
    assert keeper.line() == "kept beside: 1 clips, 1 drawings, 0 lost, 0 pictures left out of clips"


def test_of_what_may_not_be_kept_there_is_neither_clip_nor_drawing(
    tmp_path: Path, shelves: tuple[Shelf, Shelf]
) -> None:
    keeper = Keeper(*shelves, LSP, before_s=0, after_s=0, barred=lambda frame: frame.frame_id < "3")
    tell(keeper, [LIGHT, DARK, LIGHT], time.monotonic() + 300)
    keeper.close(60)
    assert keeper.line() == "kept beside: 0 clips, 0 drawings, 0 lost, 0 pictures left out of clips"


def test_a_disk_that_takes_nothing_costs_the_events_of_that_time(
    tmp_path: Path, shelves: tuple[Shelf, Shelf]
) -> None:
    keeper = Keeper(*shelves, LSP, before_s=0, after_s=0)
    for folder in ("clips", "drawn"):
        shutil.rmtree(tmp_path / folder)
    tell(keeper, [DARK, LIGHT], 0)
    told = threading.Event()
    keeper.hand(told.set, 0, "lost")
    assert told.wait(60)
    for folder in ("clips", "drawn"):
        (tmp_path / folder).mkdir()
    tell(keeper, [DARK, LIGHT], 9)
    keeper.close(60)
    assert keeper.line() == "kept beside: 1 clips, 1 drawings, 2 lost, 0 pictures left out of clips"


def test_a_thread_that_lags_ends_no_clip_early(
    tmp_path: Path, shelves: tuple[Shelf, Shelf], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(monotonic=lambda: 0.0)
    monkeypatch.setattr(keeping, "time", clock)
    keeper = Keeper(*shelves, LSP, before_s=0, after_s=0.25)
    gate = threading.Event()
    keeper.hand(partial(gate.wait, 60), 0, "lost")
    tell(keeper, [DARK] + [LIGHT] * 3, 0)
    clock.monotonic = lambda: 9.0
    gate.set()
    keeper.close(60)
    (clip,) = (tmp_path / "clips").iterdir()
    with av.open(clip) as file:
        assert len(list(file.decode(video=0))) == 3


@pytest.fixture
def screens() -> list[Screen]:
    return [Screen(name, LSP) for name in ("front", "<rear>")]


@pytest.fixture
def show(screens: list[Screen]) -> Iterator[Show]:
    shown = Show("127.0.0.1:0", screens)
    yield shown
    shown.close()


def answer(screen: Screen, value: int) -> None:
    frame = make_frame(np.full((480, 640, 3), value, np.uint8))
    screen.answered(frame, tiny.answered(frame), 0)


def first_picture(url: str) -> np.ndarray:
    return first_pictures(url, 1)[0]


def first_pictures(url: str, count: int) -> list[np.ndarray]:
    with urllib.request.urlopen(url, timeout=60) as reply:
        assert reply.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=frame"
        return [next_picture(reply) for _ in range(count)]


def next_picture(reply: IO[bytes]) -> np.ndarray:
    length = next(int(line.split()[1]) for line in reply if line.startswith(b"Content-Length"))
    assert reply.readline() == b"\r\n"
    return decode(reply.read(length))


def test_a_browser_sees_the_newest_picture_of_each_camera(
    show: Show, screens: list[Screen]
) -> None:
    for value in (10, 200):
        answer(screens[1], value)
    page = urllib.request.urlopen(show.url, timeout=60).read().decode()
    assert "front" in page
    assert "&lt;rear&gt;" in page
    assert first_picture(f"{show.url}camera/1")[240, 20].tolist() == [200] * 3


def test_a_picture_that_grows_old_turns_dark(
    show: Show, screens: list[Screen], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("misgiving.runtime.watching.show.STALE_S", 0.0)
    answer(screens[0], 210)
    live, old = first_pictures(f"{show.url}camera/0", 2)
    assert live[240, 20].tolist() == [210] * 3
    assert old[240, 20].tolist() == [70] * 3


def test_a_picture_is_drawn_once_and_the_newest_wins(screens: list[Screen]) -> None:
    screen = screens[0]
    assert screen.after(0, 0) is None
    answer(screen, 10)
    first, again = screen.after(0, 0), screen.after(0, 0)
    assert first[1] is again[1]
    for value in (20, 30):
        answer(screen, value)
    newest = screen.after(first[0], 0)
    assert newest[0] == 3
    assert decode(newest[1])[240, 20].tolist() == [30] * 3


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [
        ("/", "127.0.0.1:1", 200),
        ("/", "localhost", 200),
        ("/", "[::1]:80", 200),
        ("/", "camera.example", 403),  # a name that another's DNS leads here
        ("/camera/2", "localhost", 404),
        ("/camera/../page", "localhost", 404),
    ],
)
def test_only_this_machine_is_shown_something(
    show: Show, path: str, host: str, status: int
) -> None:
    connection = HTTPConnection(urlsplit(show.url).netloc, timeout=60)
    connection.request("GET", path, headers={"Host": host})
    assert connection.getresponse().status == status
    connection.close()


@pytest.mark.parametrize("address", ["0.0.0.0:0", "192.0.2.1:80", "camera.example:80"])
def test_others_are_shown_nothing(address: str, screens: list[Screen]) -> None:
    with pytest.raises(InvalidInput, match="expected an address of this machine alone"):
        Show(address, screens)


def test_sources_have_names_without_secrets() -> None:
    cameras = named(["rtsp://me:pw@camera/1", "0", "a/drive.mp4"])
    assert list(cameras) == ["rtsp://camera/1", "/dev/video0", "drive.mp4"]
    with pytest.raises(InvalidInput, match="two sources are called 'drive.mp4'"):
        named(["a/drive.mp4", "b/drive.mp4"])


def test_a_process_watches_until_it_is_told_to_stop(tmp_path: Path) -> None:
    recording = tiny.write_video(tmp_path / "drive.mp4", 5)
    with camera("http") as (_, port):
        url = f"http://anneliese:geh%40eim@127.0.0.1:{port}/1?key=tok3n"
        file = tmp_path / "misgiving.toml"
        file.write_text(
            f'[camera.front]\nsource = "env:CAMERA"\n[camera.drive]\nsource = "{recording.name}"\n'
            'fps = 50\n[camera.gone]\nsource = "http://127.0.0.1:9/1"\nfrozen_after = 0.01\n'
            '[flags]\nthreshold = -1\n[watch]\nclips = "clips"\n[spool]\nfolder = "spool"\n'
        )
        arguments = ["watch", "--config", str(file), "--bundle", str(tiny.BUNDLE), "--threads", "1"]
        command = [*COMMAND, *arguments, "--show", "127.0.0.1:0"]
        pipe, env = subprocess.PIPE, os.environ | {"CAMERA": url}
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=env) as process:
            line = process.stderr.readline()
            assert line.startswith("pictures on http://127.0.0.1:"), line + process.stderr.read()
            picture = first_picture(f"{line.split()[-1]}camera/0")
            said = next(line for line in process.stderr if "gone is frozen" in line)
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    red, green, _ = picture[300, 400].tolist()
    assert red > 200 > 60 > green
    assert "gone is frozen: no frame for " in said
    front, drive, gone = out.splitlines()
    assert front.startswith("front: ")
    assert " 0 answered" not in front
    assert " 0 failed; " in front
    assert gone.startswith("gone: 0 received, ")
    assert gone.endswith("1 times frozen")
    assert not any(secret in out + err for secret in ("anneliese", "geh%40eim", PASSWORD, "tok3n"))
    assert [path.suffix for path in (tmp_path / "clips").iterdir()].count(".mp4") >= 1


def test_metrics_say_whether_every_camera_is_answered(tmp_path: Path) -> None:
    with camera("http") as (process, port):
        file = tmp_path / "misgiving.toml"
        file.write_text(
            f'[camera.front]\nsource = "http://anneliese:geh%40eim@127.0.0.1:{port}/1"\n'
            'frozen_after = 1\n[spool]\nfolder = "spool"\n'
        )
        command = [*COMMAND, "watch", "--config", str(file), "--bundle", str(tiny.BUNDLE)]
        with subprocess.Popen(
            [*command, "--metrics", "127.0.0.1:0"], stderr=subprocess.PIPE, text=True
        ) as watching:
            assert watching.stderr is not None
            url = watching.stderr.readline().split()[-1]

            def answered(wanted: bool) -> bool:
                said = urllib.request.urlopen(url, timeout=60).read().decode()
                return f"\nmisgiving_serving {float(wanted)}\n" in said

            try:
                eventually(lambda: answered(True))
                process.send_signal(signal.SIGSTOP)
                eventually(lambda: answered(False))
                process.send_signal(signal.SIGCONT)
                eventually(lambda: answered(True))
                watching.send_signal(signal.SIGTERM)
                _, err = watching.communicate(timeout=60)
            finally:
                watching.kill()
    assert watching.returncode == 0, err
    assert "spool: " in err
