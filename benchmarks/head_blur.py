"""How many true heads does `privacy.blur_heads` cover, and how much of a picture else?

Run: python benchmarks/head_blur.py DATA > benchmarks/head_blur_cpu_<yyyymm>.md
DATA holds lsp/ and lspet/. Four minutes on a core. Axes: N points of a head, K keypoints.
"""

import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from misgiving.runtime import Estimator, Person, Region
from misgiving.runtime.geometry import window_of
from misgiving.runtime.privacy import heads
from misgiving.trainer.data import open_data

WHOLE = 0.95
"""Of a head's points that must be covered for the head to count."""
SMALLEST_PX = 2.0
"""Some persons have both ends of the head labelled at one place."""
NECK, TOP = 12, 13
CHOSEN, HELD_OUT = "LSPET 8001-9000, chosen on", "LSPET 9001-10000, held out"
SETS = {
    CHOSEN: "lspet:{}/lspet#8001-9000",
    HELD_OUT: "lspet:{}/lspet#9001-10000",
    "LSP 1001-2000, another source": "lsp:{}/lsp#1001-2000",
}
TURNS = (-40, -20, 20, 40)
"""Degrees; the borders are filled with the pixels at the edge."""
BEFORE = {"SURE": 0.6, "DOUBTFUL": 2.0, "UPPER": 0.5}
GRID = np.stack(np.meshgrid(*2 * [(np.arange(50) + 0.5) / 50]), axis=-1).reshape(-1, 2)
COLUMNS = "heads covered | with `crop` too | of the window covered | of the picture"


@dataclass(frozen=True, slots=True)
class Asked:
    """One person, and what was answered."""

    size: tuple[int, int]
    """Height and width of the picture, in px."""
    ends: NDArray[np.floating]
    """Neck and top of the head in the picture, (2, 2)."""
    person: Person


def disc(centre: NDArray[np.floating], radius: float) -> NDArray[np.floating]:
    """Points spread evenly over a disc, (N, 2)."""
    grid = np.linspace(-1, 1, 21)
    points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    return centre + radius * points[np.linalg.norm(points, axis=1) <= 1]


def within(points: NDArray[np.floating], boxes: Sequence[Region]) -> NDArray[np.bool_]:
    """Whether points, (N, 2), are in any of some boxes, (N,)."""
    found = np.zeros(len(points), bool)
    for box in boxes:
        low, size = np.array([box.x, box.y]), [box.width, box.height]
        found |= ((points >= low) & (points <= low + size)).all(axis=1)
    return found


def turned(
    image: NDArray[np.uint8], points: NDArray[np.floating], degrees: int
) -> tuple[NDArray[np.uint8], NDArray[np.floating]]:
    """The same picture on its side, and points in it, (N, 2)."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    border = cv2.BORDER_REPLICATE
    moved = cv2.warpAffine(image, matrix, (width, height), borderMode=border)
    return moved.astype(np.uint8), points @ matrix[:, :2].T + matrix[:, 2]


def asked(
    estimator: Estimator, spec: str, *, boxed: bool = False, turns: Sequence[int] = (0,)
) -> list[Asked]:
    """Everybody whose head is labelled, by the box of the labelled joints or in the whole image."""
    found = []
    for index in range(len(data := open_data(spec))):
        sample = data[index]
        ends = sample.points[[NECK, TOP]]
        if not sample.labelled[[NECK, TOP]].all() or np.ptp(ends, axis=0).max() < SMALLEST_PX:
            continue
        for degrees in turns:
            image, points = sample.image, sample.points
            if degrees:
                image, points = turned(image, points, degrees)
            regions = [Region.around(points[sample.labelled])] if boxed else []
            (person,) = estimator.infer(image, regions).persons
            found.append(Asked(image.shape[:2], points[[NECK, TOP]], person))
    return found


def covered(estimator: Estimator, one: Asked) -> tuple[float, ...]:
    """Shares that are covered: of the head; of it with privacy.crop, which hides what is outside
    of the person's window; of that window; of the picture. NaN of a head beyond the picture."""
    (height, width), manifest = one.size, estimator.bundle.manifest
    names, rule = manifest.keypoints.names, manifest.crop
    boxes = heads.head_boxes(one.person, names, rule, height, width)
    circle = disc(one.ends.mean(axis=0), float(np.linalg.norm(one.ends[0] - one.ends[1])) / 2)
    window = window_of(one.person.region, height, width, rule)
    body = GRID * [window.width, window.height] + [window.left, window.top]
    head, body = (p[((p >= 0) & (p < [width, height])).all(axis=1)] for p in (circle, body))
    if not len(head):
        return (np.nan,) * 4
    hidden = within(head, boxes)
    beside = ~within(head, [Region(window.left, window.top, window.width, window.height)])
    others = [within(points, boxes).mean() for points in (body, GRID * [width, height])]
    return hidden.mean(), (hidden | beside).mean(), *others


def row(title: str, estimator: Estimator, persons: Sequence[Asked]) -> str:
    shares = np.array([covered(estimator, one) for one in persons])
    shares = shares[np.isfinite(shares).all(axis=1)]
    found = [share(shares[:, column] >= WHOLE) for column in (0, 1)]
    rest = [f"{shares[:, column].mean():.3f}" for column in (2, 3)]
    return f"| {title} | {len(shares)} | {' | '.join(found + rest)} |"


def share(covered: NDArray[np.bool_]) -> str:
    low, high = binomtest(int(covered.sum()), len(covered)).proportion_ci(0.95, "exact")
    return f"{np.mean(covered):.3f} [{low:.3f} {high:.3f}]"


def flagged(persons: Sequence[Asked]) -> list[Asked]:
    return [one for one in persons if one.person.flag.raised]


def main(data: Path) -> None:
    """Measure and print the page."""
    estimator = Estimator.load()
    manifest = estimator.bundle.manifest
    print(
        f"""# Heads covered, CPU

`python benchmarks/head_blur.py DATA`, {time.strftime("%Y-%m-%d")}, {platform.machine()},
{os.cpu_count()} cores, CPython {platform.python_version()}; {manifest.name} {manifest.version},
{estimator.engine.provider}. No seed: nothing is drawn.

A true head is the disc on the line from the labelled neck to the labelled top of the head. It is
covered where {WHOLE} of what lies in the picture is. Persons whose head is not labelled are left
out. Flagged: at the bundle's default threshold. Intervals of 95 %, exact. The three numbers of
`privacy/heads.py` were chosen on LSPET 8001-9000, in the whole picture as it is and turned by 20°
and 40° to both sides, whose rows are not independent.

| data | asked about | persons | n | {COLUMNS} |
|---|---|---|---:|---:|---:|---:|---:|"""
    )
    whole = {}
    for title, spec in SETS.items():
        for boxed, how in ((True, "the person's box"), (False, "the whole picture")):
            persons = asked(estimator, spec.format(data), boxed=boxed)
            others = [one for one in persons if not one.person.flag.raised]
            print(row(f"{title} | {how} | flagged", estimator, flagged(persons)))
            print(row(f"{title} | {how} | not flagged", estimator, others))
        whole[title] = flagged(persons)
    on_side = flagged(asked(estimator, SETS[CHOSEN].format(data), turns=TURNS))
    whole[CHOSEN] += on_side
    how = "the whole picture, also turned | flagged"
    print(row(f"{CHOSEN} | {how}", estimator, whole[CHOSEN]))
    said = ", ".join(f"{name} = {number}" for name, number in BEFORE.items())
    print(f"\nThe same as it was before, with {said}:\n")
    print(f"| data | n | {COLUMNS} |")
    print("|---|---:|---:|---:|---:|---:|")
    with patch.multiple(heads, **BEFORE):
        for title, persons in whole.items():
            also = ", also turned" if title == CHOSEN else ""
            print(row(f"{title}, flagged in the whole picture{also}", estimator, persons))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
