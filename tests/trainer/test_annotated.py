"""Decoded images are shared and bounded in bytes."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from misgiving.runtime.errors import ImageError
from misgiving.trainer.data.annotated import ImageCache
from trainer.annotating import HEIGHT, WIDTH, write_images

ONE = HEIGHT * WIDTH * 3


@pytest.mark.parametrize(
    ("room", "order", "decoded"),
    [
        (2, [0, 0, 0], 1),
        (2, [0, 1, 0, 1], 2),
        (2, [0, 1, 0, 2, 0], 3),  # 1 was read the longest ago, and gives way
        (2, [0, 1, 2, 0], 4),
        (1, [0, 1, 0], 3),
        (0, [0, 0], 2),  # an image larger than the room is read all the same
    ],
)
def test_the_least_recently_read_gives_way(
    tmp_path: Path, room: int, order: list[int], decoded: int
) -> None:
    write_images(tmp_path, 3)
    cache = ImageCache(room * ONE)
    got = [cache.read(tmp_path / f"{number}.png") for number in order]  # kept: ids stay apart
    assert [int(image[0, 0, 0]) for image in got] == order
    assert len({id(image) for image in got}) == decoded


def test_what_is_shared_cannot_be_written(tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    with pytest.raises(ValueError, match="read-only"):
        ImageCache().read(tmp_path / "0.png")[:] = 0


def test_an_image_that_cannot_be_read_is_asked_for_again(tmp_path: Path) -> None:
    cache = ImageCache()
    with pytest.raises(ImageError):
        cache.read(tmp_path / "0.png")
    write_images(tmp_path, 1)
    assert cache.read(tmp_path / "0.png").shape == (HEIGHT, WIDTH, 3)


def test_threads(tmp_path: Path) -> None:
    write_images(tmp_path, 4)
    cache = ImageCache(2 * ONE)
    order = [number % 4 for number in range(400)]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda number: cache.read(tmp_path / f"{number}.png"), order))
    assert [int(image[0, 0, 0]) for image in got] == order
    assert cache._bytes == sum(image.nbytes for image in cache._images.values()) <= 2 * ONE
