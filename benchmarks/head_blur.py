"""How many true heads does `privacy.blur_heads` cover, and how much of a person else?

Run: python benchmarks/head_blur.py DATA > benchmarks/head_blur_cpu_<yyyymm>.md
DATA holds lsp/ and lspet/. Two minutes on a core. Axes: N points of a head, K keypoints.
"""

import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from misgiving.runtime import Estimator, Person, Region
from misgiving.runtime.geometry import CropRule, window_of
from misgiving.runtime.privacy import heads
from misgiving.trainer.data import Sample, open_data

WHOLE = 0.95
"""Of a head's points that must be covered for the head to count."""
SMALLEST_PX = 2.0
"""Some persons have both ends of the head labelled at one place."""
NECK, TOP = 12, 13
SETS = {
    "LSPET 8001-9000, chosen on": "lspet:{}/lspet#8001-9000",
    "LSPET 9001-10000, held out": "lspet:{}/lspet#9001-10000",
    "LSP 1001-2000, another source": "lsp:{}/lsp#1001-2000",
}


@dataclass(frozen=True, slots=True)
class Covered:
    """One person."""

    flagged: bool
    head: float
    """Share of the true head that is covered."""
    cropped: float
    """The same with privacy.crop, which hides what is outside of the person's window."""
    rest: float
    """Share of the person's window that is covered."""


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


def of_person(sample: Sample, person: Person, names: Sequence[str], rule: CropRule) -> Covered:
    height, width = sample.image.shape[:2]
    boxes = heads.head_boxes(person, names, rule, height, width)
    ends = sample.points[[NECK, TOP]]
    circle = disc(ends.mean(axis=0), float(np.linalg.norm(ends[0] - ends[1])) / 2)
    window = window_of(person.region, height, width, rule)
    grid = np.stack(np.meshgrid(*2 * [(np.arange(50) + 0.5) / 50]), axis=-1).reshape(-1, 2)
    body = grid * [window.width, window.height] + [window.left, window.top]
    head, rest = (p[((p >= 0) & (p < [width, height])).all(axis=1)] for p in (circle, body))
    hidden = within(head, boxes)
    box = Region(window.left, window.top, window.width, window.height)
    beside = ~within(head, [box])
    shares = hidden.mean(), (hidden | beside).mean(), within(rest, boxes).mean()
    return Covered(person.flag.raised, *map(float, shares))


def measured(estimator: Estimator, spec: str, boxed: bool) -> list[Covered]:
    """Everybody whose head is labelled, by the box of the labelled joints or in the whole image."""
    manifest, found = estimator.bundle.manifest, []
    for index in range(len(data := open_data(spec))):
        sample = data[index]
        ends = sample.points[[NECK, TOP]]
        if not sample.labelled[[NECK, TOP]].all() or np.ptp(ends, axis=0).max() < SMALLEST_PX:
            continue
        regions = [Region.around(sample.points[sample.labelled])] if boxed else []
        (person,) = estimator.infer(sample.image, regions).persons
        found.append(of_person(sample, person, manifest.keypoints.names, manifest.crop))
    return found


def row(name: str, persons: Sequence[Covered]) -> str:
    blurred = share([one.head >= WHOLE for one in persons])
    cropped = share([one.cropped >= WHOLE for one in persons])
    rest = np.mean([one.rest for one in persons])
    return f"| {name} | {len(persons)} | {blurred} | {cropped} | {rest:.3f} |"


def share(covered: Sequence[bool]) -> str:
    low, high = binomtest(sum(covered), len(covered)).proportion_ci(0.95, "exact")
    return f"{np.mean(covered):.3f} [{low:.3f} {high:.3f}]"


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
out. Flagged: at the bundle's default threshold. Intervals of 95 %, exact. The two numbers of
`privacy/heads.py` were chosen on LSPET 8001-9000.

| data | asked about | persons | n | heads covered | with `crop` too | of the window covered |
|---|---|---|---:|---:|---:|---:|"""
    )
    for (title, spec), boxed in product(SETS.items(), (True, False)):
        persons = measured(estimator, spec.format(data), boxed)
        how = "the person's box" if boxed else "the whole picture"
        for name, flagged in (("flagged", True), ("not flagged", False)):
            some = [one for one in persons if one.flagged is flagged]
            print(row(f"{title} | {how} | {name}", some))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
