"""YOLO-pose as Ultralytics has it: ``data.yaml``, and a text file for each image, a line a person.

A line is class, box (middle, width, height) and x, y, visibility of each joint, all coordinates
as shares of the image's sides, from 0 to 1: the format has no place outside of the image.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from misgiving.collector.annotations.coco import Annotation, Document, Image
from misgiving.collector.annotations.exported import Exported
from misgiving.collector.annotations.formats.base import (
    AnnotationFormat,
    Returned,
    Sheet,
    size_of,
)
from misgiving.collector.annotations.returned import match_images
from misgiving.runtime.errors import DataError
from misgiving.runtime.joint_names import mirror_places

_FILE = "data.yaml"
_LABELS = "labels"
_BOX = 5
"""Numbers before the joints."""


def write(folder: Path, document: Document, batch: str) -> None:
    """Write ``data.yaml`` and ``labels/``."""
    category = document.categories[0]
    names = list(category.keypoints)
    lines = (
        "path: .",
        "train: images",
        "val: images",
        f"kpt_shape: [{len(names)}, 3]",
        f"flip_idx: {json.dumps(mirror_places(names))}",
        "names:",
        f"  0: {json.dumps(category.name)}",
        "kpt_names:",
        f"  0: {json.dumps(names)}",
    )
    (folder / _FILE).write_text("\n".join(lines) + "\n")
    (folder / _LABELS).mkdir()
    for image, persons in document.by_image():
        text = "".join(f"{_line(image, person)}\n" for person in persons)
        (folder / _LABELS / f"{Path(image.file_name).stem}.txt").write_text(text)


def _line(image: Image, person: Annotation) -> str:
    size = np.array([image.width, image.height], np.float64)
    joints = np.array(person.joints, np.float64)
    labelled = joints[:, 2:] > 0
    points = np.where(labelled, np.clip(joints[:, :2] / size, 0, 1), 0)
    low, high = _corners(person, points[labelled[:, 0]], size)
    box = [*(low + high) / 2, *(high - low)]
    flat = [
        f"{x:.8g} {y:.8g} {int(v)}" for (x, y), v in zip(points.tolist(), joints[:, 2], strict=True)
    ]
    return " ".join(["0", *(f"{number:.8g}" for number in box), *flat])


def _corners(
    person: Annotation, points: NDArray[np.float64], size: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of the box, else of the joints, as shares of the image and inside it."""
    box = np.array(person.bbox or (0, 0, 0, 0), np.float64)
    low, high = np.clip([box[:2] / size, (box[:2] + box[2:]) / size], 0, 1)
    return (low, high) if (high > low).all() else (points.min(axis=0), points.max(axis=0))


def held(
    points: NDArray[np.float64], visibility: NDArray[np.int8], size: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Joints outside of the image are at its edge."""
    return np.clip(points, 0, size), visibility


def read(path: Path, exported: Exported) -> Returned:
    """Read the text files beside a ``data.yaml``; what is in that but ``kpt_shape`` is not used."""
    names = exported.keypoints.names
    _check_shape(path, len(names))
    files = sorted((path.parent / _LABELS).rglob("*.txt"))
    sheet = Sheet(exported.category, names)
    for file, place in zip(
        files, match_images([f.name for f in files], exported.images.names), strict=True
    ):
        number = sheet.image(file.name, size_of(exported, place))
        for row, line in enumerate(_lines(file), 1):
            _add(sheet, file, row, line.split(), number, size_of(exported, place))
    return Returned(path=path.parent / _LABELS, content=sheet.content(), relative=True)


def _check_shape(path: Path, count: int) -> None:
    try:
        found = re.search(r"^\s*kpt_shape\s*:\s*\[?([\d\s,]*)", path.read_text("utf-8-sig"), re.M)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no UTF-8"
        raise DataError(f"{path}: {reason}; expected a data.yaml of YOLO-pose") from error
    shape = [int(number) for number in re.findall(r"\d+", found[1])] if found else []
    if shape and shape != [count, 3]:
        raise DataError(
            f"{path} has kpt_shape {shape}; expected [{count}, 3], as exported. "
            "Export from the tool with the exported joints, and their visibility"
        )


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no UTF-8"
        raise DataError(f"{file}: {reason}; expected a text file of YOLO-pose") from error
    return [line for line in text.splitlines() if line.strip()]


def _add(
    sheet: Sheet, file: Path, row: int, words: Sequence[str], image: int, size: tuple[int, int]
) -> None:
    whose = f"{file.name} line {row}"
    try:
        numbers = [float(word) for word in words]
    except ValueError as error:
        raise DataError(f"{file} line {row}: {error}; expected numbers. Mend that line") from error
    expected = _BOX + 3 * len(sheet.names)
    if len(numbers) != expected:
        raise DataError(
            f"{file} line {row} has {len(numbers)} numbers; expected {expected}: class, box, and "
            f"x, y, visibility of {len(sheet.names)} joints. Mend or delete that line"
        )
    if numbers[0] != 0:
        sheet.other(whose, image)
        return
    width, height = size
    x, y, w, h = numbers[1:_BOX]
    box = ((x - w / 2) * width, (y - h / 2) * height, w * width, h * height)
    triples = zip(*(iter(numbers[_BOX:]),) * 3, strict=True)
    sheet.person(whose, image, [(x * width, y * height, v) for x, y, v in triples], box)


YOLO = AnnotationFormat(name="yolo", pattern=_FILE, write=write, read=read, held=held)
