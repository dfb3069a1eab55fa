"""A folder of images: which are taken, what is said of the others, and what they are called."""

import os
from pathlib import Path

import pytest

from misgiving.runtime.errors import DataError
from misgiving.runtime.estimator import Estimator
from misgiving.runtime.images import encode_png
from misgiving.trainer import score_pool, select
from misgiving.trainer.data import open_data
from shared.training import people
from trainer.annotating import write_images


def put(path: Path, content: bytes = b"") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def names(folder: Path) -> list[str]:
    return [name.removeprefix("images/") for name in open_data(f"images:{folder}").ids]


def test_linked_folders_are_looked_into(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool, disk = tmp_path / "pool", tmp_path / "disk"
    write_images(pool, 1)
    write_images(disk / "cam1", 2)
    write_images(disk / "far", 1)
    (pool / "cam").symlink_to("../disk/cam1")
    (disk / "cam1" / "more").symlink_to(disk / "far")  # below a link
    (pool / "lost").symlink_to("nowhere")
    assert names(pool) == ["0.png", "cam/0.png", "cam/1.png", "cam/more/0.png"]
    assert capsys.readouterr().err == ""


def test_every_folder_is_looked_into_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A loop ends, and nobody is scored twice; the folder's own name goes before a link's."""
    write_images(tmp_path / "day" / "cam", 1)
    (tmp_path / "day" / "cam" / "up").symlink_to(tmp_path)
    (tmp_path / "a-latest").symlink_to("day/cam")
    assert names(tmp_path) == ["day/cam/0.png"]
    assert "left out 2 links to folders that are there already" in capsys.readouterr().err


def test_what_is_nobody_s_picture_is_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "cam", 1)
    aside = (".ipynb_checkpoints/a.png", "@eaDir/deep/b.jpg", "__MACOSX/._0.png", "cam/._0.png")
    for name in (*aside, "cam/.notes", "a.webp", "b.TIF", "c.txt"):
        put(tmp_path / name)
    assert names(tmp_path) == ["cam/0.png"]
    said = capsys.readouterr().err
    assert "left out 4 hidden, in caches or in bins" in said
    assert "2 of other formats (.webp, .tif)" in said


def test_a_folder_with_hidden_images_alone_says_so(tmp_path: Path) -> None:
    put(tmp_path / ".thumbs" / "a.png")
    with pytest.raises(DataError, match=r"holds no image \(left out 1 hidden.*expected a folder"):
        names(tmp_path)


def test_a_hidden_folder_that_is_named_is_taken(tmp_path: Path) -> None:
    write_images(tmp_path / ".cache", 1)
    assert names(tmp_path / ".cache") == ["0.png"]


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_names_that_are_no_utf8_go_all_the_way(suffix: str, tmp_path: Path) -> None:
    """Scored, picked, and found again by the list of who was picked."""
    image = encode_png(people(4, 1)[0].image)
    folder = os.fsencode(tmp_path) + b"/p\xf6\xf6l"
    os.mkdir(folder)
    for name in (b"a.png", b"stra\xdfe.png", b"two\nlines.png", "straße.png".encode()):
        Path(os.fsdecode(folder + b"/" + name)).write_bytes(image)
    spec, out = f"images:{os.fsdecode(folder)}", tmp_path / f"scores.{suffix}"
    pool = open_data(spec)
    record = score_pool(Estimator.load(threads=1), pool, out)
    assert (record.count, record.skipped, record.pool) == (4, 0, "images:p%F6%F6l")
    picked = select(out, "random", 4).ids
    expected = {"a.png", "stra%DFe.png", "straße.png", "two%0Alines.png"}
    assert set(picked) == {f"images/{name}" for name in expected}
    (tmp_path / "ids.txt").write_text("\n".join(picked), "utf-8")
    again = open_data(f"{spec}#@{tmp_path / 'ids.txt'}")
    assert again.ids == picked
    assert [again[i].id for i in range(4)] == list(picked)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in (b"stra\xdfe.png", b"stra%DFe.png"):
        put(Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)))
    with pytest.raises(DataError, match=r"two persons with the id images/stra%DFe.png; rename"):
        names(tmp_path)
