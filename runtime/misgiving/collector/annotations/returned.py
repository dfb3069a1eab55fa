"""Which exported image each returned one is, and how its coordinates become those of it."""

import re
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.cocofile import Images, People
from misgiving.runtime.errors import DataError

_PRECISION_PX = 0.0005
"""What single precision and an export's three decimals leave open."""
_SHARE = 1e-5
"""Of a side: what five digits of a share leave open."""
_SHAPE = 0.01
"""Images are of one shape where their ratios of width to height differ by less than 1 %."""


def match_images(returned: Sequence[str], exported: Sequence[str]) -> list[int]:
    """For each returned file name the place of the exported one, −1 where it is none of them.

    Some tools put folders (of any system) before a name, or a hash and a dash; others end it in
    ``_png.rf.<hash>.jpg``. The digest in an exported name tells it in all of them.
    """
    places = {name: place for place, name in enumerate(exported)}
    stems = {name.rpartition(".")[0].lower(): place for place, name in enumerate(exported)}
    return [_place(name, places, stems) for name in returned]


def _place(name: str, places: dict[str, int], stems: dict[str, int]) -> int:
    last = PureWindowsPath(name).name  # which takes both separators
    if last in places:
        return places[last]
    words = re.findall("[0-9a-f]+", last.lower())
    found = {stems[word] for word in words if word in stems}
    return found.pop() if len(found) == 1 else -1


def check_one_each(path: Path, names: Sequence[str], places: Sequence[int]) -> None:
    """Raise DataError where images of different names are the same exported one."""
    known: dict[int, str] = {}
    for name, place in zip(names, places, strict=True):
        if (other := known.setdefault(place, name)) != name:
            raise DataError(
                f"{path}: {other} and {name} are the same exported image; expected each once. "
                "Export from the tool without augmentation"
            )


def scales(
    path: Path, returned: Images, exported: Images, places: Sequence[int]
) -> tuple[NDArray[np.float64], str]:
    """By what coordinates of each returned image are multiplied, and what is to be said of it.

    A tool that shrinks or stretches images says so in their size. A size that is only turned
    round does not tell whether the joints were turned with it.

    Returns:
        (returned, 2), 1 where a size is not told; the line is empty where nothing is scaled.

    Raises:
        DataError: an image is turned.
    """
    claimed, real = returned.sizes, exported.sizes[np.array(places, np.int64)]
    known = (claimed > 0).all(axis=1) & (np.array(places) >= 0)
    other = known & (claimed != real).any(axis=1)
    for at in np.flatnonzero(other & _turned(claimed, real))[:1]:
        raise DataError(
            f"{_sizes(path, returned, real, at)}. Expected labels of the image as it is exported: "
            "turn it back in the tool, and its labels with it"
        )
    factors = np.ones((len(places), 2))
    factors[other] = real[other] / claimed[other]
    return factors, _told(path, returned, real, other)


def _turned(claimed: NDArray[np.int64], real: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which sizes are another's with width and height changed for each other, up to a scale."""
    shape, of_real = (np.log(np.maximum(size, 1)) @ (1, -1) for size in (claimed, real))
    alike, turned = (np.abs(shape - sign * of_real) < _SHAPE for sign in (1, -1))
    swapped: NDArray[np.bool_] = np.all(claimed == real[:, ::-1], axis=1)
    return swapped | (turned & ~alike)


def _told(path: Path, returned: Images, real: NDArray[np.int64], other: NDArray[np.bool_]) -> str:
    if not other.any():
        return ""
    first = int(np.argmax(other))
    return (
        f"{_sizes(path, returned, real, first)}: labels of {int(other.sum())} resized images are "
        "scaled back, each side by itself"
    )


def _sizes(path: Path, returned: Images, real: NDArray[np.int64], at: int) -> str:
    width, height = returned.sizes[at]
    return (
        f"{returned.names[at]} is {real[at][0]} x {real[at][1]} px; {path} says "
        f"{width} x {height} px"
    )


def distances(
    points: NDArray[np.floating],
    claimed: NDArray[np.int64],
    real: NDArray[np.int64],
    exported: NDArray[np.floating],
) -> tuple[float, float]:
    """How far a person's joints are from an exported one, if the image was stretched or was not.

    A size of another shape does not tell whether the tool stretched the image, fitted it in with
    black edges or cut its edges off; pre-labels do, as they come back corrected or as they were.

    Args:
        points: (K, 2), as they came back.
        claimed: width and height of their image.
        real: width and height of the exported one.
        exported: (N, K, 2), the persons of that image.
    """
    ratios = real / claimed
    middle = points - claimed / 2
    guesses = (ratios, ratios.max(), ratios.min())  # stretched; black edges; edges cut off
    apart = [np.hypot(*(exported - middle * by - real / 2).T).mean(axis=0).min() for by in guesses]
    return float(apart[0]), float(min(apart[1:]))


def tolerances(
    people: People, factors: NDArray[np.float64], sides: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """By how much the tool's rounding may have moved the joints of each person.

    Args:
        people: as they came back.
        factors: (N, 2), by which their coordinates will be multiplied.
        sides: (N, 2), px of their images where the tool writes shares of these; it is then taken
            to write five digits, as fewer than any of them does.

    Returns:
        (N, 2), exported px: less than one step of what the tool writes, half a pixel of a resized
        image (whose sides were rounded too), and what single precision leaves open.
    """
    if sides is not None:
        least: NDArray[np.float64] = np.maximum(sides * _SHARE, 2 * _PRECISION_PX)
        return least
    step = _step(people.points[people.visibility > 0])
    resized = np.where(factors == 1, 0, 0.5)
    return np.maximum(np.maximum(step, resized) * factors - _PRECISION_PX, 2 * _PRECISION_PX)


def _step(coordinates: NDArray[np.floating]) -> float:
    """Between numbers that a tool can write, in its own px; 0 where it cuts no digits."""
    for digits in (0, 1, 2):
        if (np.abs(coordinates - coordinates.round(digits)) < _PRECISION_PX).all():
            return float(10**-digits)
    return 0.0
