"""Folders, images and videos as sources of frames."""

from pathlib import Path

import numpy as np
import pytest

from misgiving.runtime.errors import DataError, ImageError
from misgiving.runtime.sources.recordings import open_source
from shared.tiny import write_video


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "c.jpeg", "notes.txt"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "folder.png").mkdir()
    pictures = list(open_source(tmp_path))
    assert [picture.name for picture in pictures] == ["a.JPG", "b.png", "c.jpeg"]
    assert pictures[0].image == b"a.JPG"  # untouched: the server says what is wrong with it


def test_one_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    source = open_source(tmp_path / "a.png")
    assert [picture.name for picture in source] == ["a.png"]
    assert source.fps is None


def test_a_video_is_rgb_and_counted(tmp_path: Path) -> None:
    source = open_source(write_video(tmp_path / "v.mp4", 12))
    pictures = list(source)
    assert source.fps == 10
    assert [picture.name for picture in pictures] == [f"{i:06d}" for i in range(12)]
    last = pictures[-1].image
    assert isinstance(last, np.ndarray)
    assert last.shape == (48, 64, 3)
    red, green, blue = last.mean(axis=(0, 1))
    assert red == pytest.approx(220, abs=12)
    assert max(green, blue) < 12
    assert len(list(source)) == 12  # again, from its start


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.mp4", None, "does not exist"),
        ("empty.mp4", b"", "nor a video that OpenCV reads"),
        ("text.mp4", b"hello" * 100, "nor a video that OpenCV reads"),
        ("noise.avi", bytes(range(256)) * 20, "nor a video that OpenCV reads"),
    ],
)
def test_what_is_no_source(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        open_source(tmp_path / name)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""  # nothing of OpenCV's beside our line


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no image"):
        open_source(tmp_path)


def test_images_that_cannot_be_read_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(b"x")
    source = open_source(tmp_path)
    (tmp_path / "b.png").unlink()
    assert [picture.name for picture in source] == ["a.png", "c.png"]
    assert (source.announced, source.unreadable) == (3, 1)
    (said,) = (record.getMessage() for record in caplog.records)
    assert "b.png: No such file or directory" in said
    for name in ("a.png", "c.png"):
        (tmp_path / name).unlink()
    with pytest.raises(ImageError, match=r"c\.png"):
        list(source)


def test_hidden_files_of_a_folder_are_no_images(tmp_path: Path) -> None:
    for name in ("b.png", "._b.png", ".a.jpg"):
        (tmp_path / name).write_bytes(b"x")
    assert [picture.name for picture in open_source(tmp_path)] == ["b.png"]
