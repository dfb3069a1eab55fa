"""COCO person keypoints (``coco:JSON@IMAGES``), with the keypoints that its category names.

A joint is labelled where its visibility is 1 (hidden) or 2 (visible). Crowds, and persons without
a labelled joint, are left out and counted. Axes: N persons, K keypoints.
"""

import json
import math
from array import array
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from misgiving.runtime.errors import DataError, first_problem
from misgiving.runtime.keypoints import KeypointSet, of_category
from misgiving.trainer import progress
from misgiving.trainer.data.annotated import Persons, annotated_set, said
from misgiving.trainer.data.base import PoseSet

_ROW = object()
"""Stands in the parsed file where an annotation was."""


class _Category(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    id: int
    name: str
    keypoints: list[str] = []
    skeleton: list[list[int]] = []
    """Bones as pairs of places in ``keypoints``, counted from 1."""


class _Rows:
    """Annotations in columns, filled while the file is parsed; each is dropped once it is in."""

    def __init__(self) -> None:
        self.ids, self.images, self.categories = array("q"), array("q"), array("q")
        self.crowds = array("b")
        self.lengths = array("q")
        """How many numbers each adds to ``numbers``."""
        self.numbers = array("f")
        """x, y, visibility of each joint, one annotation after the other."""
        self.boxes, self.areas = array("d"), array("d")

    def take(self, part: dict[str, Any]) -> object:
        """Called for every JSON object as it ends: keeps what is needed of it."""
        if "image_id" not in part:
            return (part.get("id"), part["file_name"]) if "file_name" in part else part
        try:
            self._add(part)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(
                f"annotation {part.get('id', len(self))}: {what}; expected whole numbers as ids, "
                "and numbers in keypoints, bbox and area"
            ) from error
        return _ROW

    def _add(self, part: dict[str, Any]) -> None:
        numbers = part.get("keypoints") or []
        box = part.get("bbox") or (0.0, 0.0, 0.0, 0.0)
        area = part.get("area") or 0.0
        if len(box) != 4 or not all(map(math.isfinite, (*box, area))):
            raise ValueError(f"bbox is {box} and area {area}")
        self.numbers.extend(numbers)
        self.lengths.append(len(numbers))
        self.boxes.extend(box)
        self.areas.append(area)
        self.crowds.append(bool(part.get("iscrowd", 0)))
        self.categories.append(part["category_id"])
        self.images.append(part["image_id"])
        self.ids.append(part["id"])

    def __len__(self) -> int:
        return len(self.ids)


def open_coco(file: Path, folder: Path) -> PoseSet:
    """The persons of a COCO file, those of one image in a row.

    Args:
        file: the JSON file.
        folder: that its file names are relative to.

    Raises:
        DataError: the file cannot be read or is not COCO person keypoints, not exactly one
            category has keypoints, an annotation is not well formed, or an image is missing.
    """
    spec = f"coco:{file}@{folder}"
    try:
        document, rows = _parse(file)
        category, keypoints = _category(document["categories"])
        persons, left_out = _persons(rows, category, len(keypoints), document["images"])
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
    if line := said(len(persons.ids), left_out):
        progress.print_line(f"{spec}: {line}")
    return annotated_set(spec, keypoints, folder, persons)


def _parse(file: Path) -> tuple[dict[str, list[Any]], _Rows]:
    """The file's lists, without what ``_Rows`` took of them."""
    rows = _Rows()
    try:
        document = json.loads(file.read_text("utf-8-sig"), object_hook=rows.take)
    except DataError:
        raise
    except OSError as error:
        raise DataError(
            f"{error.strerror}; expected a JSON file of COCO person keypoints"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"no JSON ({error}); copy or export the file again") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(document, dict) or not isinstance(document.get(key), list):
            raise DataError(f"no list {key!r}; expected images, annotations and categories")
    for index, part in enumerate(document["annotations"]):
        if part is not _ROW:
            raise DataError(f"annotations[{index}] has no image_id; expected COCO annotations")
    if len(rows) > len(document["annotations"]):
        raise DataError("an image_id stands outside of annotations; expected it only there")
    return document, rows


def _category(parts: list[Any]) -> tuple[int, KeypointSet]:
    """Id and keypoints of the one category that has some; a known set where the names are its."""
    try:
        categories = TypeAdapter(list[_Category]).validate_python(parts)
        found = [category for category in categories if category.keypoints]
        if len(found) != 1:
            raise DataError(
                f"{len(found)} categories have keypoints; expected one. Take the file of the "
                "person keypoints, or make a file for each category"
            )
        chosen = found[0]
        return chosen.id, of_category(chosen.name, chosen.keypoints, chosen.skeleton)
    except ValidationError as error:
        raise DataError(f"categories: {first_problem(error)}") from error


def _persons(
    rows: _Rows, category: int, joints: int, images: list[Any]
) -> tuple[Persons, dict[str, int]]:
    """Who can be learnt from, and how many were left out for which reason."""
    ids, lengths = np.array(rows.ids), np.array(rows.lengths)
    crowds = np.array(rows.crowds, np.bool_)
    wanted = np.array(rows.categories) == category
    right = ~wanted | np.isin(lengths, (0, 3 * joints))
    wrong = f"{lengths[np.argmin(right)]} numbers in keypoints" if len(ids) else ""
    _check(right, ids, f"has {wrong}; expected x, y, v of {joints} joints")
    full = wanted & (lengths == 3 * joints)
    numbers = np.asarray(rows.numbers)[np.repeat(full, lengths)].reshape(-1, joints, 3)
    finite = np.isfinite(numbers).all(axis=(1, 2))
    _check(finite, ids[full], "has a keypoint that is not finite; expected numbers")
    known: NDArray[np.bool_] = np.all(np.isin(numbers[..., 2], (0, 1, 2)), axis=1)
    _check(known, ids[full], "has a strange visibility; expected 0, 1 or 2")
    labelled = numbers[..., 2] > 0
    kept = labelled.any(axis=1) & ~crowds[full]
    chosen = np.flatnonzero(full)[kept]
    persons = _columns(rows, chosen, numbers[kept], labelled[kept], images)
    alone = int((wanted & ~crowds).sum())
    counts = {"crowds": int((wanted & crowds).sum()), "without keypoints": alone - len(chosen)}
    return persons, counts


def _columns(
    rows: _Rows,
    chosen: NDArray[np.int64],
    numbers: NDArray[np.float32],
    labelled: NDArray[np.bool_],
    images: list[Any],
) -> Persons:
    ids = np.array(rows.ids)[chosen]
    _check(_first_of_its_kind(ids), ids, "occurs twice; expected each id once")
    numbered, files = _files(images)
    wanted = np.array(rows.images)[chosen]
    _check(np.isin(wanted, numbered), ids, "is of an image that the file does not list")
    order = np.argsort(numbered)
    file = order[np.searchsorted(numbered, wanted, sorter=order)]
    return Persons(
        ids=[f"coco/{files[f]}/{i}" for f, i in zip(file.tolist(), ids.tolist(), strict=True)],
        files=files,
        file=file,
        points=np.ascontiguousarray(numbers[..., :2]),
        labelled=labelled,
        boxes=np.array(rows.boxes).reshape(-1, 4)[chosen],
        areas=np.array(rows.areas)[chosen],
    )


def _files(images: list[Any]) -> tuple[NDArray[np.int64], list[str]]:
    """Ids of the images, and their file names."""
    for index, part in enumerate(images):
        number, name = part if isinstance(part, tuple) else (None, None)
        if type(number) is not int or abs(number) >= 2**63 or not isinstance(name, str):
            raise DataError(
                f"images[{index}] has no id and file_name; expected a number and a text"
            )
    ids = np.array([number for number, _ in images], np.int64)
    if not (first := _first_of_its_kind(ids)).all():
        raise DataError(f"image {ids[~first][0]} occurs twice; expected each id once")
    return ids, [name for _, name in images]


def _first_of_its_kind(ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    first = np.zeros(len(ids), np.bool_)
    first[np.unique(ids, return_index=True)[1]] = True
    return first


def _check(good: NDArray[np.bool_], ids: NDArray[np.int64], said: str) -> None:
    if not good.all():
        raise DataError(f"annotation {ids[np.argmin(good)]} {said}. Mend or leave out that one")
