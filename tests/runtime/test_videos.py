"""Video files: damaged, cut, oddly named and mirrored ones; and sound ones, read whole."""

import os
import shutil
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from misgiving.runtime.errors import DataError
from misgiving.runtime.sources.containers import Counting
from misgiving.runtime.sources.mp4 import read_track
from misgiving.runtime.sources.videos import Count, Video

FRAMES = 30
KINDS = {
    "v.avi": "MJPG",
    "x.avi": "XVID",
    "v.mp4": "mp4v",
    "v.mov": "MJPG",
    "v.mkv": "MJPG",
    "v.webm": "VP80",
    "v.ts": "mp4v",
    "v.flv": "FLV1",
    "v.mjpeg": "MJPG",
}
SOI = b"\xff\xd8\xff"


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name, codec in KINDS.items():
        writer = cv2.VideoWriter(
            str(folder / name), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), 10, (64, 48)
        )
        for i in range(FRAMES):
            writer.write(cv2.circle(np.full((48, 64, 3), 8 * i, np.uint8), (i, i), 9, (0, 99, 255)))
        writer.release()
    return folder


def damaged(source: Path, target: Path, *frames: int) -> Video:
    """The same MJPEG video with these frames overwritten."""
    data = bytearray(source.read_bytes())
    begins = [i for i in range(len(data)) if data.startswith(SOI, i)]
    assert len(begins) == FRAMES
    for frame in frames:
        data[begins[frame] + 3 : begins[frame] + 300] = bytes(297)
    target.write_bytes(data)
    return Video(target)


@pytest.mark.parametrize("name", KINDS)
def test_a_sound_video_is_read_whole(videos: Path, name: str) -> None:
    video = Video(videos / name)
    assert [picture.name for picture in video] == [f"{i:06d}" for i in range(FRAMES)]
    assert video.unreadable == 0
    assert video.announced == (None if name == "v.mjpeg" else FRAMES)


@pytest.mark.parametrize(
    "frames",
    [(5,), (0,), (0, 1, 2), (4, 5, 20), tuple(range(6, 22)), (29,), (27, 28, 29)],
    ids=["one", "first", "begins", "three", "many", "last", "ends"],
)
@pytest.mark.parametrize("name", ["v.avi", "v.mov"])
def test_frames_that_cannot_be_read_are_left_out(
    videos: Path, tmp_path: Path, name: str, frames: tuple[int, ...]
) -> None:
    video = damaged(videos / name, tmp_path / name, *frames)
    named = [picture.name for picture in video]
    assert named == [f"{i:06d}" for i in range(FRAMES) if i not in frames]
    assert video.unreadable == len(frames)
    assert [picture.name for picture in video] == named  # again, from its start
    assert video.unreadable == len(frames)


def test_no_frame_can_be_read(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no frame"):
        list(damaged(videos / "v.avi", tmp_path / "v.avi", *range(FRAMES)))


@pytest.mark.parametrize("name", ["v.avi", "x.avi", "v.mkv", "v.webm", "v.mjpeg"])
def test_a_video_that_was_cut_is_told(videos: Path, tmp_path: Path, name: str) -> None:
    data = (videos / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) * 7 // 10])
    video = Video(tmp_path / name)
    read = len(list(video))
    assert 15 <= read < FRAMES
    assert video.unreadable == (FRAMES - read if video.announced else 1)


@pytest.mark.parametrize(
    ("count", "frames", "missing"),
    [
        # an index says what is missing, at whatever times the others come
        (Count(10, 10.0, Counting.EXACT), [0, 100, 130, 800], 6),
        # a place that the recorder left empty is none that cannot be read
        (Count(10, 10.0, Counting.PLACES), [0, 100, 300, 400, 900], 0),
        (Count(10, 10.0, Counting.PLACES), [0, 100, 300], 6),
        # an estimate counts where frames come evenly: a hole among many
        (Count(40, 10.0), [100 * i for i in range(40) if i not in (7, 8)], 2),
        (Count(40, 10.0), [100 * i for i in range(20)], 20),
        # not where they come as they like, nor where sound may go on for a moment
        (Count(40, 10.0), [130 * i for i in range(30)], 0),
        (Count(40, 10.0), [100 * i for i in range(33)], 0),
        (Count(40, 10.0, cut=True), [100 * i for i in range(33)], 7),
        # more than announced, nothing announced, no rate
        (Count(2, 10.0, Counting.EXACT), [0, 100, 200], 0),
        (Count(None, 10.0), [0, 900], 0),
        (Count(None, 10.0, cut=True), [0, 900], 1),
        (Count(40, None), [0, 100], 0),
    ],
)
def test_what_a_count_is_worth(count: Count, frames: list[int], missing: int) -> None:
    for at_ms in frames:
        count.take(0, at_ms)
    assert count.missing() == missing


@pytest.mark.parametrize(
    "name",
    [
        os.fsdecode(b"stra\xdfe.avi"),
        "a:b.avi",
        "http:b.avi",
        "concat:b.avi",
        "img_%03d.avi",
        "%d.avi",
        "-i.avi",
        "a\nb.avi",
        "straße 7.avi",
        os.fsdecode(b"stra\xdfe.\xdf"),
    ],
)
def test_a_name_is_a_name(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = tmp_path / os.fsdecode(b"%02d\xe9")
    folder.mkdir()
    shutil.copy(videos / "v.avi", folder / name)
    assert len(list(Video(folder / name))) == FRAMES
    monkeypatch.chdir(folder)
    assert len(list(Video(Path(name)))) == FRAMES


def corners() -> np.ndarray:
    """RGB of 48 × 64 px: red, green and blue, and black at the lower right."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :32], image[:24, 32:], image[24:, :32] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    return image


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((1, 0, 0, 1), "RG/BK"),
        ((-1, 0, 0, 1), "GR/KB"),  # x' = −x: mirrored
        ((1, 0, 0, -1), "BK/RG"),
        ((-1, 0, 0, -1), "KB/GR"),
        ((0, 1, -1, 0), "BR/KG"),  # x' = −y, y' = x: a quarter to the right
        ((0, -1, 1, 0), "GK/RB"),
        ((0, 1, 1, 0), "RB/GK"),  # x' = y: mirrored, and a quarter
        ((0, -1, -1, 0), "KG/BR"),
    ],
)
@pytest.mark.parametrize("box", [b"tkhd", b"mvhd"])
@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_a_video_comes_as_a_player_shows_it(
    tmp_path: Path, suffix: str, box: bytes, matrix: tuple[int, ...], expected: str
) -> None:
    path = tmp_path / f"v.{suffix}"
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48)
    )
    for _ in range(3):
        writer.write(corners()[..., ::-1])
    writer.release()
    data = bytearray(path.read_bytes())
    begin = data.index(box) + 4 + {b"tkhd": 40, b"mvhd": 36}[box]
    a, b, c, d = (65536 * value for value in matrix)
    struct.pack_into(">5i", data, begin, a, b, 0, c, d)
    path.write_bytes(data)
    for picture in Video(path):
        assert isinstance(picture.image, np.ndarray)
        assert seen(picture.image) == expected


def seen(image: np.ndarray) -> str:
    """The colours of the four quarters of an RGB image."""
    height, width = image.shape[:2]
    rows = [[image[y, x] for x in (width // 4, -width // 4)] for y in (height // 4, -height // 4)]
    return "/".join(
        "".join("RGB"[int(np.argmax(colour))] if colour.max() > 100 else "K" for colour in row)
        for row in rows
    )


@pytest.mark.parametrize(
    "data",
    [b"\0\0\0\4moov" + bytes(8), b"\0\0\0\1free" + b"\xff" * 8],
    ids=["an index shorter than its head", "a box beyond what files have"],
)
def test_a_damaged_container_has_no_track(tmp_path: Path, data: bytes) -> None:
    """The first was found by benchmarks/fuzz.py."""
    (file := tmp_path / "cut.mp4").write_bytes(data)
    assert read_track(file) is None
