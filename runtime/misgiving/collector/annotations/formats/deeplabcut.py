"""DeepLabCut's CSV, among the images: a row for each image, two columns for each joint.

Three header rows, four where an image has several persons (``individuals``). An empty cell is a
joint that is not labelled; whether one is hidden has no place in the format.
"""

import csv
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from misgiving.collector.annotations.coco import Annotation, Document
from misgiving.collector.annotations.exported import Exported
from misgiving.collector.annotations.formats.base import (
    AnnotationFormat,
    Joint,
    JointPlaces,
    Returned,
    Sheet,
)
from misgiving.runtime.errors import DataError
from misgiving.runtime.labelset import IMAGES

_SCORER = "misgiving"
_FILE = f"{IMAGES}/CollectedData_{_SCORER}.csv"
_EXPECTED = "expected DeepLabCut's CollectedData_….csv; export again from DeepLabCut"


def write(folder: Path, document: Document, batch: str) -> None:
    """Write ``CollectedData_misgiving.csv`` into ``images/``, as DeepLabCut has them together."""
    names = document.categories[0].keypoints
    people = list(document.by_image())
    slots = max((len(persons) for _, persons in people), default=0) or 1
    columns = [
        (f"individual{slot}", name, axis)
        for slot in range(1, slots + 1)
        for name in names
        for axis in ("x", "y")
    ]
    individuals, bodyparts, coords = (list(row) for row in zip(*columns, strict=True))
    heads = [("scorer", [_SCORER] * len(columns)), ("individuals", individuals)]
    heads += [("bodyparts", bodyparts), ("coords", coords)]
    with (folder / _FILE).open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        for name, cells in heads:
            if name != "individuals" or slots > 1:
                rows.writerow([name, "", "", *cells])
        for image, persons in people:
            cells = [cell for person in persons for cell in _cells(person)]
            cells += [""] * (len(columns) - len(cells))
            rows.writerow(["labeled-data", batch, image.file_name, *cells])


def _cells(person: Annotation) -> Iterator[str]:
    for x, y, visibility in person.joints:
        yield from (str(round(x, 3)), str(round(y, 3))) if visibility else ("", "")


def held(
    points: NDArray[np.float64], visibility: NDArray[np.int8], size: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Hidden joints are joints like others."""
    return points, np.where(visibility > 0, 2, 0).astype(np.int8)


def read(path: Path, exported: Exported) -> Returned:
    """Read a ``CollectedData_….csv``; what is told of likelihoods is not used."""
    rows = _rows(path)
    heads, width = _heads(path, rows)
    names = exported.keypoints.names
    places = JointPlaces(path, names)
    sheet = Sheet(exported.category, names)
    columns = list(zip_longest(*heads, fillvalue=""))[width:]
    for number, row in enumerate(rows[len(heads) :], len(heads) + 1):
        file = "/".join(filter(None, row[:width]))
        if len(row) != width + len(columns):
            raise DataError(
                f"{path} line {number} has {len(row)} cells; its header has "
                f"{width + len(columns)}. Mend that line"
            )
        image = sheet.image(file, (0, 0))
        for individual, joints in _people(path, number, columns, row[width:]).items():
            whose = f"{individual} of line {number}" if individual else f"line {number}"
            sheet.person(whose, image, places.person(whose, joints))
    return Returned(path=path, content=sheet.content())


def _rows(path: Path) -> list[list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return [row for row in csv.reader(file) if row]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; {_EXPECTED}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV ({error}); {_EXPECTED}") from error


def _heads(path: Path, rows: Sequence[Sequence[str]]) -> tuple[list[Sequence[str]], int]:
    """The header rows, and how many cells before the numbers name the image: one, or three."""
    heads = list(rows[:3])
    if len(rows) > 3 and rows[1] and rows[1][0] == "individuals":
        heads.append(rows[3])
    words = [row[0] for row in heads]
    if (
        words
        not in (["scorer", "bodyparts", "coords"], ["scorer", "individuals", "bodyparts", "coords"])
        or "x" not in heads[-1]
    ):
        raise DataError(f"{path} begins with rows {', '.join(words)[:80]!r}; {_EXPECTED}")
    return heads, list(heads[-1]).index("x")


def _people(
    path: Path, number: int, columns: Sequence[Sequence[str]], cells: Sequence[str]
) -> dict[str, list[tuple[str, Joint]]]:
    """The joints of each individual of a row that has any."""
    axes: dict[tuple[str, str], dict[str, float]] = {}
    for (_, *levels, axis), cell in zip(columns, cells, strict=True):
        if axis in ("x", "y") and cell.strip().lower() not in ("", "nan"):
            individual, part = ("", *levels)[-2:]
            try:
                axes.setdefault((individual, part), {})[axis] = float(cell)
            except ValueError as error:
                raise DataError(
                    f"{path} line {number} has {part} at {cell!r}; expected a number, or nothing. "
                    "Mend that cell"
                ) from error
    people: dict[str, list[tuple[str, Joint]]] = {}
    for (individual, part), point in axes.items():
        if len(point) != 2:
            raise DataError(
                f"{path} line {number} has {part} with {next(iter(point))} alone; expected x and "
                "y, or neither. Mend that line"
            )
        people.setdefault(individual, []).append((part, (point["x"], point["y"], 2)))
    return people


DEEPLABCUT = AnnotationFormat(
    name="deeplabcut",
    pattern=f"{IMAGES}/CollectedData_*.csv",
    write=write,
    read=read,
    held=held,
)
