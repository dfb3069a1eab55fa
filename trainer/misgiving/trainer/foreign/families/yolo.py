"""YOLO-pose: many rows, of which the best is the person; dense, or after its own suppression.

Axes: B batch, K keypoints, C classes, n rows. A row of the dense form is cx, cy, w, h, C scores,
K × (x, y, score); after suppression it is x1, y1, x2, y2, score, class, K × (x, y, score), zero
where there was nobody. All px are of the input, all scores probabilities.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field, TypeAdapter
from torch import Tensor

from misgiving.trainer.foreign.families import checks, maps
from misgiving.trainer.foreign.families.base import Answer, Shapes

_BOX, _SUPPRESSED = 4, 6
"""Columns of a row before the scores, and before the keypoints after suppression."""
_MANY = 10
"""Anchors for each number of a person, from which on rows are taken for anchors."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Options:
    __pydantic_config__ = ConfigDict(extra="forbid")

    people: str
    """The output (B, n, 6 + 3 K)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _DenseOptions:
    __pydantic_config__ = ConfigDict(extra="forbid")

    people: str
    """The output (B, 4 + C + 3 K, n), or (B, n, 4 + C + 3 K)."""
    classes: Annotated[int, Field(ge=1)] = 1
    """C; the highest of a row's scores counts."""


_ADAPTER = TypeAdapter(_Options)
_DENSE_ADAPTER = TypeAdapter(_DenseOptions)


class _Best:
    """What both forms read of the row that scores highest."""

    has_presence = True

    def __init__(self, name: str, shapes: Shapes) -> None:
        self.outputs: tuple[str, ...] = (name,)
        self.evidence = _SUPPRESSED + shapes.keypoints
        self._shapes = shapes

    def _answer(self, boxes: Tensor, scores: Tensor, joints: Tensor) -> Answer:
        """The answer; the presence is the best row's score.

        Its evidence is the logits of that score and of the best one whose box has its middle
        elsewhere, the box as shares of the input, and the logits of the keypoints' scores.

        Args:
            boxes: (B, n, 4): middle and size, px.
            scores: (B, n).
            joints: (B, n, 3 K).
        """
        best, at = scores.max(dim=-1, keepdim=True)
        box, found = _row(boxes, at), _row(joints, at).reshape(-1, self._shapes.keypoints, 3)
        elsewhere = (boxes[..., :2] - box[:, None, :2]).abs() > box[:, None, 2:] / 2
        second = torch.where(elsewhere.any(-1), scores, 0.0).amax(-1, keepdim=True)
        sides = box.new_tensor([self._shapes.width, self._shapes.height] * 2)
        confidence = found[..., 2]
        evidence = [maps.logit(best), maps.logit(second), box / sides, maps.logit(confidence)]
        presence = best[:, 0].clamp(0, 1)
        return Answer(found[..., :2], confidence.clamp(0, 1), torch.cat(evidence, dim=1), presence)


class Yolo(_Best):
    """The dense form: a row for each anchor."""

    def __init__(self, options: Mapping[str, Any], shapes: Shapes) -> None:
        said = checks.parse("yolo", _DENSE_ADAPTER, options)
        super().__init__(said.people, shapes)
        self._before = _BOX + said.classes
        numbers = self._before + 3 * shapes.keypoints
        self._is_column = _is_column(said.people, numbers, shapes)

    def read(self, raw: Sequence[Tensor]) -> Answer:
        """The answer of the best anchor, which is nobody's where its score is low."""
        rows = raw[0].mT if self._is_column else raw[0]
        scores = rows[..., _BOX : self._before].amax(-1)
        return self._answer(rows[..., :_BOX], scores, rows[..., self._before :])

    @staticmethod
    def guess(shapes: Shapes) -> dict[str, Any] | None:
        """An output of rank 3 with 5 + 3 K numbers a person, and ten times as many anchors."""
        for name, shape in shapes.outputs.items():
            few, *many = sorted(size or 0 for size in shape[1:]) or [0]
            dense = len(many) == 1 and many[0] >= _MANY * few
            if dense and _is_person(few, _BOX + 1, shapes.keypoints):
                return {"people": name}
        return None


class SuppressedYolo(_Best):
    """With its own suppression: a row for each person. Where there is none, the points are at 0
    and no score is above 0."""

    def __init__(self, options: Mapping[str, Any], shapes: Shapes) -> None:
        said = checks.parse("yolo_nms", _ADAPTER, options)
        super().__init__(said.people, shapes)
        columns = _SUPPRESSED + 3 * shapes.keypoints
        checks.check_shape(shapes, said.people, (None, None, columns), f"(B, n, {columns})")

    def read(self, raw: Sequence[Tensor]) -> Answer:
        """The answer of the best row."""
        rows = raw[0]
        low, high = rows[..., :2], rows[..., 2:_BOX]
        boxes = torch.cat([(low + high) / 2, high - low], dim=-1)
        return self._answer(boxes, rows[..., _BOX], rows[..., _SUPPRESSED:])

    @staticmethod
    def guess(shapes: Shapes) -> dict[str, Any] | None:
        """An output of rank 3 whose rows have 6 + 3 K numbers, and not very many of them."""
        for name, shape in shapes.outputs.items():
            rows, numbers = (size or 0 for size in shape[1:]) if len(shape) == 3 else (0, 0)
            few = rows < _MANY * numbers and numbers < _MANY * rows
            if few and _is_person(numbers, _SUPPRESSED, shapes.keypoints):
                return {"people": name}
        return None


def _row(rows: Tensor, at: Tensor) -> Tensor:
    """One row of each: (B, n, c), (B, 1) → (B, c)."""
    return rows.gather(1, at[..., None].expand(-1, -1, rows.shape[-1]))[:, 0]


def _is_person(numbers: int, before: int, keypoints: int) -> bool:
    """Whether so many numbers are those before the keypoints and three for each of them."""
    if keypoints:
        return numbers == before + 3 * keypoints
    return numbers >= before + 6 and (numbers - before) % 3 == 0


def _is_column(name: str, numbers: int, shapes: Shapes) -> bool:
    """Whether a person of so many numbers is a column.

    Raises:
        InvalidInput: neither axis is a person's, or both may be.
    """
    axes = checks.shape_of(shapes, name)[1:]
    if len(axes) != 2 or axes.count(numbers) != 1:
        form = f"(B, {numbers}, n) or (B, n, {numbers}), n another number,"
        raise checks.unfit(shapes, name, form)
    return axes[0] == numbers
