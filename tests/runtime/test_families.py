"""Boxes that a detector of each family says, read back."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.persons.detector_toml import DetectorTable
from misgiving.runtime.persons.families import Candidates, Floats, Outputs

HEIGHT, WIDTH, CLASSES = 64, 96, 3
BOXES = np.array([[16, 8, 40, 56], [48, 24, 80, 40]], np.float32)
"""x1, y1, x2, y2 of a person (class 1) and of something else."""
SIDES = np.array([WIDTH, HEIGHT] * 2, np.float32)
MIDDLES = np.hstack([(BOXES[:, :2] + BOXES[:, 2:]) / 2, BOXES[:, 2:] - BOXES[:, :2]])
SCORES = np.array([[0, 0.75, 0], [0, 0, 0.5]], np.float32)

Said = tuple[dict[str, Any], Outputs]


def logit(p: Floats) -> Floats:
    return np.log(p / (1 - p))


def ssd() -> Said:
    keys = {"boxes": "b", "scores": "s", "order": "yxyx", "unit": "share"}
    boxes = (BOXES / SIDES)[:, [1, 0, 3, 2]]
    return {"family": "ssd", **keys}, {"b": boxes[None], "s": SCORES[None]}


def ssd_with_classes() -> Said:
    keys = {"boxes": "b", "scores": "s", "classes": "c", "order": "xywh", "unit": "px"}
    boxes = np.hstack([BOXES[:, :2], MIDDLES[:, 2:]])
    outputs = {"b": boxes[None], "s": SCORES.max(1)[None], "c": np.array([[1.0, 2.0]])}
    return {"family": "ssd", **keys}, outputs


def detr() -> Said:
    keys = {"boxes": "b", "scores": "s", "order": "cxcywh", "unit": "share"}
    said = {"b": (MIDDLES / SIDES)[None], "s": logit(np.clip(SCORES, 1e-6, 1))[None]}
    return {"family": "ssd", "activation": "sigmoid", **keys}, said


def softmaxed() -> Said:
    """Logits whose first class is nobody."""
    keys = {"boxes": "b", "scores": "s", "order": "xyxy", "unit": "px"}
    others = np.array([[0.25, 0.75, 1e-9], [0.5, 1e-9, 0.5]])
    return {"family": "ssd", "activation": "softmax", **keys}, {
        "b": BOXES[None],
        "s": np.log(others)[None] + 7,
    }


def suppressed() -> Said:
    rows = np.hstack([BOXES, SCORES.max(1)[:, None], [[1], [2]]])
    padded = np.vstack([rows, np.zeros((3, 6))])
    return {"family": "suppressed", "rows": "r", "unit": "px"}, {"r": padded[None]}


def open_vino() -> Said:
    """Image, class, score, then the corners as shares; two axes of one before them."""
    columns = ["-", "class", "score", "x1", "y1", "x2", "y2"]
    rows = np.hstack([[[0, 1], [0, 2]], SCORES.max(1)[:, None], BOXES / SIDES])
    keys = {"rows": "r", "columns": columns, "unit": "share"}
    return {"family": "suppressed", **keys}, {"r": rows[None, None]}


def yolo() -> Said:
    """Without objectness, a column for each anchor, more anchors than columns."""
    rows = np.vstack([np.hstack([MIDDLES, SCORES]), np.zeros((20, 4 + CLASSES))])
    keys = {"rows": "r", "classes": CLASSES, "objectness": False}
    return {"family": "yolo", **keys}, {"r": rows.T[None]}


def yolo_with_objectness() -> Said:
    objectness = np.array([[0.9375], [0.625]])
    rows = np.hstack([MIDDLES / SIDES, objectness, 0.8 * SCORES / SCORES.max(1)[:, None]])
    keys = {"rows": "r", "classes": CLASSES, "objectness": True, "unit": "share"}
    return {"family": "yolo", **keys}, {"r": rows[None]}


def _at_grid(strides: tuple[int, ...], columns: int) -> tuple[Floats, list[int]]:
    """Rows of zeros for every cell, and the first grid's two that hold the boxes' middles."""
    first = WIDTH // strides[0]
    cells = sum((HEIGHT // stride) * (WIDTH // stride) for stride in strides)
    at = [int(y // strides[0]) * first + int(x // strides[0]) for x, y in MIDDLES[:, :2]]
    return np.zeros((cells, columns), np.float32), at


def yolox() -> Said:
    rows, at = _at_grid((8, 16), 5 + CLASSES)
    rows[at, :2] = MIDDLES[:, :2] / 8 % 1
    rows[at, 2:4] = np.log(MIDDLES[:, 2:] / 8)
    rows[at, 4] = 1
    rows[at, 5:] = SCORES
    keys = {"rows": "r", "classes": CLASSES, "objectness": True, "strides": [8, 16]}
    return {"family": "yolo", **keys}, {"r": rows[None]}


def nanodet() -> Said:
    """Distances are half a stride more than whole ones: two bins alike."""
    rows, at = _at_grid((8, 16), CLASSES + 32)
    rows[at, :CLASSES] = SCORES
    centres = np.floor(MIDDLES[:, :2] / 8) * 8
    sides = np.hstack([centres - BOXES[:, :2], BOXES[:, 2:] - centres]) / 8
    for row, distances in zip(at, sides, strict=True):
        likely = np.maximum(1e-12, 1 - abs(np.arange(8) - distances[:, None]))
        rows[row, CLASSES:] = np.log(likely).ravel()
    keys = {"rows": "r", "classes": CLASSES, "strides": [8, 16], "centre": 0}
    return {"family": "nanodet", **keys}, {"r": rows[None]}


def fastestdet() -> Said:
    """Sure of everything: objectness and class alike, so that the score is theirs."""
    cells = np.zeros((5 + CLASSES, 8, 12), np.float32)
    for (x, y, w, h), scores in zip(MIDDLES, SCORES, strict=True):
        column, row = int(x // 8), int(y // 8)
        offset = np.arctanh([x / 8 - column, y / 8 - row])
        size = logit(np.array([w / WIDTH, h / HEIGHT]))
        cells[:, row, column] = [scores.max(), *offset, *size, *scores]
    return {"family": "fastestdet", "cells": "f"}, {"f": cells[None]}


FAMILIES = [
    *(ssd, ssd_with_classes, detr, softmaxed, suppressed, open_vino),
    *(yolo, yolo_with_objectness, yolox, nanodet, fastestdet),
]
of_each = pytest.mark.parametrize("said", FAMILIES, ids=lambda said: said.__name__)


def read(output: dict[str, Any], outputs: Outputs, person: int = 1) -> Candidates:
    picture = {"colour": "RGB", "mean": 0, "std": 1, "fit": "stretch"}
    chosen = {"class": person, "score": 0.1, "iou": 0.5}
    whole = {"file": "a.onnx", "input": picture, "output": output, "person": chosen}
    return DetectorTable.model_validate(whole).output.read(outputs, HEIGHT, WIDTH, person)


@of_each
def test_the_person_is_read_and_nothing_else(said: Callable[[], Said]) -> None:
    found = read(*said())
    likely = found.scores > 0.1
    assert found.boxes[likely] == pytest.approx(BOXES[:1], abs=1e-3)
    assert found.scores[likely] == pytest.approx([0.75], abs=1e-3)


COUNTED = [ssd, detr, softmaxed, yolo, yolo_with_objectness, yolox, nanodet, fastestdet]
"""Those whose classes are columns."""


@pytest.mark.parametrize("said", COUNTED, ids=lambda said: said.__name__)
def test_a_class_that_the_net_does_not_have_is_refused(said: Callable[[], Said]) -> None:
    with pytest.raises(InvalidInput, match="from 0 to 2"):
        read(*said(), person=9)


WRONG = [
    (yolo, {"classes": 5}, "rows of 9 numbers"),
    (yolox, {"strides": [8]}, "make 96 cells"),
    (nanodet, {"reg_max": 3}, "rows of 19 numbers"),
    (ssd, {"classes": "b"}, "'b' has 8 classes and output 's' has 6 scores"),
    (open_vino, {"columns": ["-", "-", "-", "x1", "y1", "x2", "y2"]}, "lacks score"),
]


@pytest.mark.parametrize(("said", "wrong", "words"), WRONG)
def test_outputs_that_the_toml_does_not_describe_are_refused(
    said: Callable[[], Said], wrong: dict[str, Any], words: str
) -> None:
    output, outputs = said()
    with pytest.raises(InvalidInput, match=words):
        read({**output, **wrong}, outputs)


def test_a_net_that_suppresses_may_find_nothing() -> None:
    output, _ = suppressed()
    assert len(read(output, {"r": np.zeros((1, 0, 6))}).scores) == 0
