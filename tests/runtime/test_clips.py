"""Which pictures make a clip, what stands in its file, and what the folder keeps."""

import os
from pathlib import Path

import av
import numpy as np
import pytest

from misgiving.runtime.errors import FailedPrecondition
from misgiving.runtime.watching import clips
from misgiving.runtime.watching.clips import Add, Begin, Cutter, End, Instruction, Shot
from misgiving.runtime.watching.movies import Movie
from misgiving.runtime.watching.shelf import Shelf


def cut(cutter: Cutter, pictures: int, events: dict[int, int]) -> list[Instruction]:
    """A picture each second; an event at second k is told at second ``events[k]``."""
    done: list[Instruction] = []
    for second in range(pictures):
        done += cutter.shot(Shot(second, b"jpeg"))
        for at, told in events.items():
            if told == second:
                done += cutter.event(at, f"event {at}")
        done += cutter.passed(second)
    return done + cutter.end()


def shown(instructions: list[Instruction]) -> list[list[float]]:
    """The seconds of each clip's pictures."""
    found: list[list[float]] = []
    for instruction in instructions:
        match instruction:
            case Begin():
                found.append([])
            case Add(shot):
                found[-1].append(shot.at_s)
    return found


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ({}, []),
        ({10: 10}, [[8, 9, 10, 11, 12, 13]]),
        ({10: 12}, [[10, 11, 12, 13]]),  # told late: the ring has let two go
        ({1: 1}, [[0, 1, 2, 3, 4]]),
        ({29: 29}, [[27, 28, 29]]),  # the end comes first
        ({10: 10, 12: 12}, [[8, 9, 10, 11, 12, 13, 14, 15]]),
        ({10: 10, 15: 15}, [[*range(8, 19)]]),  # their windows touch
        ({10: 10, 17: 17}, [[*range(8, 14)], [*range(15, 21)]]),
    ],
)
def test_a_clip_has_what_lies_around_its_events(
    events: dict[int, int], expected: list[list[int]]
) -> None:
    done = cut(Cutter(before_s=2, after_s=3), 30, events)
    assert shown(done) == expected
    assert sum(isinstance(one, End) for one in done) == len(expected)


def test_events_without_end_make_clips_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "LONGEST_S", 10.0)
    done = cut(Cutter(2, 3), 40, {second: second for second in range(5, 40, 2)})
    assert [(one[0], one[-1]) for one in shown(done)] == [(3, 17), (18, 29), (30, 39)]


def test_pictures_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "RING_BYTES", 12)
    assert shown(cut(Cutter(20, 0), 30, {25: 25})) == [[23, 24, 25]]


def test_a_movie_begins_with_its_first_picture(tmp_path: Path) -> None:
    pictures = [np.full((49, 64, 3), (40 + 20 * i, 90, 200), np.uint8) for i in range(5)]
    movie = Movie(tmp_path / "a.mp4")
    for i, picture in enumerate(pictures):
        movie.add(picture, 100 + i * 0.25)
    movie.add(np.zeros((98, 128, 3), np.uint8), 101.25)  # a camera came back with another size
    movie.close()
    with av.open(tmp_path / "a.mp4") as file:
        stream = file.streams.video[0]
        frames = list(file.decode(stream))
    assert stream.codec_context.name == "h264"
    assert frames[0].key_frame
    assert np.abs(frames[0].to_ndarray(format="rgb24") - pictures[0][:48].astype(int)).max() <= 4
    assert [round(float(frame.time), 3) for frame in frames] == [0, 0.25, 0.5, 0.75, 1, 1.25]


def fill(shelf: Shelf, name: str, size: int) -> None:
    shelf.begin(name).write_bytes(bytes(size))
    shelf.keep(name)


def test_the_oldest_of_our_files_make_room(tmp_path: Path) -> None:
    (tmp_path / "0.mp4").write_bytes(bytes(99))
    (tmp_path / ".0.clip.mp4").write_bytes(bytes(99))  # of a process that was killed
    shelf = Shelf(tmp_path, ".clip.mp4", quota_bytes=10)
    for name, size in (("1", 4), ("2", 4), ("3", 4), ("4", 20)):
        fill(shelf, name, size)
        kept = sorted(path.name for path in tmp_path.iterdir())
        if name == "3":
            assert kept == ["0.mp4", "2.clip.mp4", "3.clip.mp4"]
    assert kept == ["0.mp4", "4.clip.mp4"]  # the newest stays, whatever its size


def test_a_clock_that_went_back_costs_no_new_file(tmp_path: Path) -> None:
    """Those of the time that never was make room, and not each new one at once."""
    shelf = Shelf(tmp_path, ".clip.mp4", quota_bytes=10)
    for name in ("2099_1", "2099_2"):
        fill(shelf, name, 4)
        os.utime(tmp_path / f"{name}.clip.mp4", (4e9, 4e9))
    for name in ("2026_1", "2026_2", "2026_3"):
        fill(shelf, name, 4)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["2026_2.clip.mp4", "2026_3.clip.mp4"]


def test_what_came_to_nothing_leaves_nothing(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, ".clip.mp4")
    shelf.begin("1").write_bytes(b"cut")
    shelf.drop("1")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "notes").touch()
    with pytest.raises(FailedPrecondition, match="File exists; expected a folder to write to"):
        Shelf(tmp_path / "notes", ".clip.mp4")
