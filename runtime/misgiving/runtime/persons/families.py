"""What the outputs of a person detector mean: a family is its keys in the TOML and its reading.

Axes: N candidates, C classes, gh gw cells of a grid. Boxes are x1, y1, x2, y2 in px of the
input, shape (N, 4); scores (N,) are of the class person.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from misgiving.runtime.errors import InvalidInput

Floats = NDArray[np.floating]
Outputs = Mapping[str, Floats]

Order = Literal["xyxy", "yxyx", "xywh", "cxcywh"]
Unit = Literal["px", "share"]
_Strides = Annotated[list[PositiveInt], Field(min_length=1)]


class Candidates(NamedTuple):
    """Boxes and scores of whatever may be a person."""

    boxes: Floats
    scores: Floats


class _Family(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    names_of: ClassVar[tuple[str, ...]]
    """The keys that name an output."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The graph's outputs that are read."""
        return tuple(getattr(self, key) for key in self.names_of if getattr(self, key) is not None)


class Ssd(_Family):
    """Boxes and scores in outputs of their own: SSD, TensorFlow's detection models, DETR."""

    names_of = ("boxes", "scores", "classes")

    family: Literal["ssd"]
    boxes: str
    """The output (1, N, 4)."""
    scores: str
    """The output (1, N, C), or (1, N) beside ``classes``."""
    classes: str | None = None
    """The output (1, N): the class that each score is of."""
    order: Order
    unit: Unit
    activation: Literal["none", "sigmoid", "softmax"] = "none"
    """What still makes probabilities of the scores."""

    def read(self, outputs: Outputs, height: int, width: int, person: int) -> Candidates:
        boxes = _rows(outputs[self.boxes], 4, self.boxes)
        scores = _activated(outputs[self.scores], self.activation)
        if self.classes is not None:
            scores, classes = scores.reshape(-1), outputs[self.classes].reshape(-1)
            if len(classes) != len(scores):
                raise InvalidInput(
                    f"output {self.classes!r} has {len(classes)} classes and output "
                    f"{self.scores!r} has {len(scores)} scores; expected one class each"
                )
            scores = np.where(np.rint(classes) == person, scores, 0)
        else:
            scores = _column(scores.reshape(-1, scores.shape[-1]), person, self.scores)
        if len(scores) != len(boxes):
            raise InvalidInput(
                f"output {self.scores!r} scores {len(scores)} boxes and {self.boxes!r} has "
                f"{len(boxes)}; expected one score each"
            )
        return Candidates(_corners(boxes, self.order, self.unit, height, width), scores)


class Suppressed(_Family):
    """Rows that are left after the net's own suppression: YOLOv10, YOLO exported with NMS,
    Caffe's and OpenVINO's SSD."""

    names_of = ("rows",)

    family: Literal["suppressed"]
    rows: str
    """The output (1, N, columns)."""
    columns: list[Literal["x1", "y1", "x2", "y2", "score", "class", "-"]] = Field(
        default=["x1", "y1", "x2", "y2", "score", "class"]
    )
    """What a row holds; ``-`` is passed over."""
    unit: Unit

    def read(self, outputs: Outputs, height: int, width: int, person: int) -> Candidates:
        rows = _rows(outputs[self.rows], len(self.columns), self.rows)
        column = dict(zip(map(str, self.columns), rows.T, strict=True))
        if missing := [name for name in _NEEDED if name not in column]:
            raise InvalidInput(f"output.columns lacks {', '.join(missing)}; expected all of them")
        boxes = np.stack([column[name] for name in _NEEDED[:4]], axis=1)
        of_person = np.rint(column.get("class", np.full(len(rows), person))) == person
        scores = np.where(of_person, column["score"], 0)
        return Candidates(_corners(boxes, "xyxy", self.unit, height, width), scores)


_NEEDED = ("x1", "y1", "x2", "y2", "score")


class Yolo(_Family):
    """A row for each anchor, before suppression: cx, cy, w, h, perhaps objectness, C scores."""

    names_of = ("rows",)

    family: Literal["yolo"]
    rows: str
    """The output (1, N, columns) or (1, columns, N)."""
    classes: PositiveInt
    """C."""
    objectness: bool
    """Whether a column of it stands before the classes; it is multiplied in."""
    unit: Unit = "px"
    strides: _Strides | None = None
    """Of the grids where boxes are still relative to their cells, as YOLOX exports them."""

    def read(self, outputs: Outputs, height: int, width: int, person: int) -> Candidates:
        rows = _rows(outputs[self.rows], 4 + self.objectness + self.classes, self.rows)
        boxes = rows[:, :4]
        if self.strides is not None:
            cells, stride = _grid(self.strides, height, width, len(rows), self.rows)
            boxes = np.hstack([boxes[:, :2] + cells, np.exp(boxes[:, 2:])]) * stride
        scores = _column(rows[:, 4 + self.objectness :], person, self.rows)
        if self.objectness:
            scores = scores * rows[:, 4]
        return Candidates(_corners(boxes, "cxcywh", self.unit, height, width), scores)


class NanoDet(_Family):
    """A row for each cell of some grids: C scores, then the distances to the four sides, each as
    a distribution over 0 … ``reg_max`` strides."""

    names_of = ("rows",)

    family: Literal["nanodet"]
    rows: str
    """The output (1, N, C + 4 (reg_max + 1))."""
    classes: PositiveInt
    """C."""
    strides: _Strides
    reg_max: PositiveInt = 7
    centre: Annotated[float, Field(ge=0, le=1)]
    """Of a cell, in strides from its corner: 0 in NanoDet-Plus, 0.5 before it."""

    def read(self, outputs: Outputs, height: int, width: int, person: int) -> Candidates:
        bins = self.reg_max + 1
        rows = _rows(outputs[self.rows], self.classes + 4 * bins, self.rows)
        cells, stride = _grid(self.strides, height, width, len(rows), self.rows)
        weights = _softmax(rows[:, self.classes :].reshape(-1, 4, bins))
        sides = (weights @ np.arange(bins)) * stride
        centres = (cells + self.centre) * stride
        boxes = np.hstack([centres - sides[:, :2], centres + sides[:, 2:]])
        return Candidates(boxes, _column(rows[:, : self.classes], person, self.rows))


class FastestDet(_Family):
    """A column for each cell of one grid: objectness, box, C classes, all after their activation
    but the box."""

    names_of = ("cells",)

    family: Literal["fastestdet"]
    cells: str
    """The output (1, 5 + C, gh, gw)."""

    def read(self, outputs: Outputs, height: int, width: int, person: int) -> Candidates:
        said = outputs[self.cells]
        if said.ndim != 4 or said.shape[1] < 6:
            raise InvalidInput(
                f"output {self.cells!r} is {said.shape}; expected (1, 5 + classes, rows, columns)"
            )
        grid = said.shape[2:]
        columns = said.reshape(said.shape[1], -1).T
        y, x = np.divmod(np.arange(len(columns)), grid[1])
        centres = (np.stack([x, y], axis=1) + np.tanh(columns[:, 1:3])) / grid[::-1]
        boxes = np.hstack([centres, _sigmoid(columns[:, 3:5])])
        classes = _column(columns[:, 5:], person, self.cells)
        scores = np.maximum(columns[:, 0], 0) ** 0.6 * np.maximum(classes, 0) ** 0.4
        return Candidates(_corners(boxes, "cxcywh", "share", height, width), scores)


Family = Ssd | Suppressed | Yolo | NanoDet | FastestDet


def _rows(output: Floats, columns: int, name: str) -> Floats:
    """The rows of an output (1, N, columns) or (1, columns, N), any further axes being 1."""
    table: Floats = output.reshape(output.shape[-2:]) if output.ndim > 1 and output.size else output
    if table.ndim == 2 and table.shape[1] == columns:
        return table
    if table.ndim == 2 and table.shape[0] == columns:
        return np.asarray(table.T)
    if output.size == 0:  # a net that suppresses may find nothing
        return np.empty((0, columns), np.float32)
    raise InvalidInput(
        f"output {name!r} is {output.shape}; expected rows of {columns} numbers, as the TOML says"
    )


def _column(scores: Floats, person: int, name: str) -> Floats:
    if person >= scores.shape[1]:
        raise InvalidInput(
            f"person.class is {person} and output {name!r} has {scores.shape[1]} classes; "
            f"expected one from 0 to {scores.shape[1] - 1}"
        )
    return scores[:, person]


def _grid(
    strides: list[int], height: int, width: int, count: int, name: str
) -> tuple[Floats, Floats]:
    """Column and row of every cell, (N, 2), and its stride, (N, 1); grids one after another."""
    shapes = [(-(-height // stride), -(-width // stride)) for stride in strides]
    if (cells := sum(rows * columns for rows, columns in shapes)) != count:
        raise InvalidInput(
            f"output {name!r} has {count} rows and strides {strides} make {cells} cells of "
            f"{width} × {height} px; expected as many. Correct output.strides"
        )
    places = [np.indices(shape)[::-1].reshape(2, -1).T for shape in shapes]
    each = [np.full((len(cells), 1), one) for cells, one in zip(places, strides, strict=True)]
    return np.concatenate(places), np.concatenate(each)


def _corners(boxes: Floats, order: Order, unit: Unit, height: int, width: int) -> Floats:
    """Boxes as x1, y1, x2, y2 in px of the input."""
    if order == "yxyx":
        boxes = boxes[:, [1, 0, 3, 2]]
    first, second = boxes[:, :2], boxes[:, 2:]
    if order == "cxcywh":
        first = first - second / 2
    if order in ("xywh", "cxcywh"):
        second = first + second
    sides = np.array([width, height] * 2) if unit == "share" else 1
    return np.hstack([first, second]) * sides


def _activated(scores: Floats, activation: str) -> Floats:
    if activation == "none":
        return scores
    return _sigmoid(scores) if activation == "sigmoid" else _softmax(scores)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -60, 60))))


def _softmax(x: Floats) -> Floats:
    raised = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))
