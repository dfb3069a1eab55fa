"""Image files are found under the names that other machines gave them."""

import unicodedata
from pathlib import Path

import pytest

from misgiving.runtime.errors import DataError
from misgiving.trainer.data.finding import find_files

COMPOSED, APART = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("a.png", "a.png"),
        ("sub/a.png", "sub/a.png"),
        ("images\\a.png", "a.png"),  # Windows
        ("sub\\a.png", "sub/a.png"),
        ("C:\\data\\images\\a.png", "a.png"),
        ("/datasets/people/sub/a.png", "sub/a.png"),  # of the machine that wrote it
        ("images/a.png", "a.png"),
        ("./a.png", "a.png"),
        ("my%20photo.png", "my photo.png"),
        ("100%25.png", "100%25.png"),  # a name that only looks like one of a URL
        (f"{COMPOSED}.png", f"{APART}.png"),  # written by macOS
        (f"{APART}.png", f"{COMPOSED}.png"),
        (f"{COMPOSED}/{APART}.png", f"{APART}/{COMPOSED}.png"),
        (f"images\\{COMPOSED}.png", f"{APART}.png"),
    ],
)
def test_found(tmp_path: Path, name: str, there: str) -> None:
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).touch()
    (path,) = find_files(tmp_path, [name])
    assert path.samefile(tmp_path / there)


def test_missing(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(DataError, match=r"lacks b.png \(1 of 2 images are missing\)"):
        find_files(tmp_path, ["a.png", "b.png"])


def test_one_file_is_not_two_images(tmp_path: Path) -> None:
    (tmp_path / "1.png").touch()
    with pytest.raises(DataError, match=r"one file 1.png for left/1.png and right/1.png"):
        find_files(tmp_path, ["left/1.png", "right/1.png"])
    assert len(find_files(tmp_path, ["1.png", "1.png"])) == 2  # listed twice
