"""Images are told by the digest in their names; sizes say how labels were scaled."""

from pathlib import Path

import numpy as np
import pytest

from misgiving.collector.annotations.returned import match_images, scales, tolerances
from misgiving.runtime.cocofile import Images, People
from misgiving.runtime.errors import DataError

A, B = "0123456789abcdef.png", "fedcba9876543210.jpg"
HASH = "7f3a" * 8


@pytest.mark.parametrize(
    ("name", "place"),
    [
        (A, 0),
        (B, 1),
        (f"images/{A}", 0),
        (f"images\\{A}", 0),  # Windows
        (f"C:\\data\\{B}", 1),
        (f"/data/upload/3/1f2e3d4c-{A}", 0),  # Label Studio
        (f"/data/local-files/?d=batch/{A}", 0),
        (f"s3://bucket/batch/{B}", 1),
        (f"0123456789abcdef_png.rf.{HASH}.jpg", 0),  # Roboflow
        (f"fedcba9876543210_jpg.rf.{HASH}.jpg", 1),
        ("0123456789abcdef.jpg", 0),  # converted
        ("0123456789ABCDEF.PNG", 0),
        ("other.png", -1),
        (f"{HASH}.png", -1),
        ("0123456789abcdef-fedcba9876543210.png", -1),  # either
        ("", -1),
    ],
)
def test_names(name: str, place: int) -> None:
    assert match_images([name], [A, B]) == [place]


def images(*sizes: tuple[int, int]) -> Images:
    names = [A if number == 0 else B for number in range(len(sizes))]
    return Images(names, np.array(sizes, np.int64).reshape(-1, 2), [None] * len(sizes))


@pytest.mark.parametrize(
    ("claimed", "real", "factors"),
    [
        ((192, 192), (192, 192), (1, 1)),
        ((0, 0), (960, 540), (1, 1)),  # not told
        ((0, 540), (960, 540), (1, 1)),
        ((640, 640), (192, 192), (0.3, 0.3)),
        ((640, 640), (960, 540), (1.5, 0.84375)),  # stretched
        ((480, 270), (960, 540), (2, 2)),
    ],
)
def test_scales(
    claimed: tuple[int, int], real: tuple[int, int], factors: tuple[float, float]
) -> None:
    got, said = scales(Path("a.json"), images(claimed), images(real), [0])
    assert got.tolist() == [list(factors)]
    assert bool(said) == (factors != (1, 1))
    if said:
        assert f"{A} is {real[0]} x {real[1]} px; a.json says {claimed[0]} x {claimed[1]}" in said


def test_an_image_that_was_not_exported_has_no_scale() -> None:
    got, said = scales(Path("a.json"), images((9, 9), (5, 6)), images((18, 18)), [0, -1])
    assert got.tolist() == [[2, 2], [1, 1]]
    assert "of 1 resized images" in said


@pytest.mark.parametrize("claimed", [(540, 960), (270, 480), (541, 960)])
def test_turned(claimed: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=rf"{A} is 960 x 540 px; a.json says {claimed[0]} x"):
        scales(Path("a.json"), images(claimed), images((960, 540)), [0])


def people(*coordinates: float) -> People:
    points = np.array(coordinates, np.float32).reshape(1, -1, 2)
    return People(
        ids=[1],
        image=np.zeros(1, np.int64),
        points=points,
        visibility=np.full(points.shape[:2], 2, np.int8),
        boxes=np.zeros((1, 4)),
        areas=np.zeros(1),
        origins=[None],
    )


@pytest.mark.parametrize(
    ("coordinates", "factor", "expected"),
    [
        ((1.234, 7.5), 1, 0.001),  # as exported
        ((1.23, 7.5), 1, 0.01),  # CVAT
        ((1.2, 7.5), 1, 0.1),
        ((1, 7), 1, 1),  # whole pixels
        ((1, 7), 3, 3),
        ((1.234, 7.5), 0.3, 0.15),  # of a resized image, whose sides were rounded
    ],
)
def test_tolerances(coordinates: tuple[float, ...], factor: float, expected: float) -> None:
    got = tolerances(people(*coordinates), np.full((1, 2), float(factor)))
    assert got == pytest.approx(np.full((1, 2), expected), abs=0.0006)
    assert (got < expected + 1e-9).all()
