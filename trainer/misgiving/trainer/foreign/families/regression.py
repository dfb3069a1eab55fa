"""Numbers read off directly: BlazePose, MoveNet with its own decoding, DeepPose, RLE.

Axes: B batch, K keypoints, n rows, c columns, H W input.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import ConfigDict, TypeAdapter
from torch import Tensor

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer.foreign.families import checks, maps
from misgiving.trainer.foreign.families.base import Answer, Shapes

Column = Literal["x", "y", "z", "score", "visibility", "presence", "_"]

_SCORES: tuple[Column, ...] = ("score", "visibility", "presence")
"""The first of them that a net has is its confidence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Options:
    __pydantic_config__ = ConfigDict(extra="forbid")

    points: str
    """The output: (B, n × c), (B, n, c) or (B, 1, n, c); the first K of the n rows count."""
    columns: tuple[Column, ...]
    """What the c numbers of a row are; "_" is not read."""
    unit: Literal["px", "share"]
    """Of x and y: px of the input, or shares of its sides."""
    logits: tuple[Column, ...] = ()
    """Columns that still need a sigmoid."""
    presence: str | None = None
    """The output (B, 1): that somebody is there."""
    presence_logit: bool = False
    """Whether it still needs a sigmoid."""


_ADAPTER = TypeAdapter(_Options)
_SIGNS: tuple[Column, ...] = ("z", *_SCORES)


class Regression:
    """Rows of numbers, one for each keypoint. Without a column that scores, the net doubts
    nothing: every confidence is 1."""

    def __init__(self, options: Mapping[str, Any], shapes: Shapes) -> None:
        self._options = said = checks.parse("regression", _ADAPTER, options)
        _check(said, shapes)
        self._shapes = shapes
        self._read = [name for name in _SIGNS if name in said.columns]
        self.outputs = (said.points, *([] if said.presence is None else [said.presence]))
        self.has_presence = said.presence is not None
        self.evidence = (2 + len(self._read)) * shapes.keypoints + self.has_presence

    def read(self, raw: Sequence[Tensor]) -> Answer:
        """The answer; the evidence is the places as shares of the input, the depths, and the
        logit of whatever scores."""
        said, sides = self._options, raw[0].new_tensor([self._shapes.width, self._shapes.height])
        rows = raw[0].reshape(raw[0].shape[0], -1, len(said.columns))[:, : self._shapes.keypoints]
        columns = dict(zip(said.columns, rows.unbind(-1), strict=True))
        given = torch.stack([columns["x"], columns["y"]], dim=-1)
        points = given * sides if said.unit == "share" else given
        evidence = [(points / sides).flatten(1), *(self._sign(columns, n) for n in self._read)]
        presence = None
        if self.has_presence:
            presence = _share(raw[1].flatten(1)[:, :1], said.presence_logit)
            evidence.append(maps.logit(presence))
            presence = presence[:, 0].clamp(0, 1)
        return Answer(points, self._confidence(columns), torch.cat(evidence, dim=1), presence)

    def _confidence(self, columns: Mapping[Column, Tensor]) -> Tensor:
        for name in _SCORES:
            if name in columns:
                return _share(columns[name], name in self._options.logits).clamp(0, 1)
        return torch.ones_like(columns["x"])

    def _sign(self, columns: Mapping[Column, Tensor], name: Column) -> Tensor:
        """A column as evidence: as it is, or its logit."""
        plain = name == "z" or name in self._options.logits
        return columns[name] if plain else maps.logit(columns[name])

    @staticmethod
    def guess(shapes: Shapes) -> dict[str, Any] | None:
        """MoveNet's (B, 1, K, 3), BlazePose's five columns beside a presence, or K rows."""
        flags = [name for name, shape in shapes.outputs.items() if _is_flag(shape)]
        for name, shape in shapes.outputs.items():
            found = _columns(shape, shapes.keypoints, bool(flags))
            if found:
                more = {"presence": flags[0]} if flags else {}
                return {"points": name, **found, **more}
        return None


def _columns(shape: checks.Shape, keypoints: int, flagged: bool) -> dict[str, Any] | None:
    """What a shape looks like; ``flagged`` where the net also says that somebody is there."""
    sizes = shape[1:]
    if (
        len(sizes) == 3
        and sizes[0] == 1
        and sizes[2] == 3
        and (not keypoints or sizes[1] == keypoints)
    ):
        return {"columns": ["y", "x", "score"], "unit": "share"}
    if (
        len(sizes) == 1
        and flagged
        and sizes[0]
        and sizes[0] % 5 == 0
        and sizes[0] >= 5 * max(2, keypoints)
    ):
        columns = ["x", "y", "z", "visibility", "presence"]
        return {"columns": columns, "unit": "px", "logits": ["visibility", "presence"]}
    for columns in (["x", "y"], ["x", "y", "score"]):
        if keypoints and sizes in ((keypoints, len(columns)), (keypoints * len(columns),)):
            return {"columns": columns, "unit": "share"}
    return None


def _check(said: _Options, shapes: Shapes) -> None:
    """
    Raises:
        InvalidInput: the columns do not make a point, or do not fit the output.
    """
    named = [name for name in said.columns if name != "_"]
    if len(named) != len(set(named)) or not {"x", "y"} <= set(named):
        raise InvalidInput(
            f"columns = {list(said.columns)}; expected x and y, and each name once. "
            'Write "_" for what is not read.'
        )
    strange = sorted(set(said.logits) - (set(_SCORES) & set(named)))
    if strange:
        raise InvalidInput(f"logits = {strange}; expected scores among the columns {named}")
    if said.presence is not None and not _is_flag(checks.shape_of(shapes, said.presence)):
        raise checks.unfit(shapes, said.presence, "(B, 1)")
    if not _fits(checks.shape_of(shapes, said.points), len(said.columns), shapes.keypoints):
        raise checks.unfit(shapes, said.points, f"at least K rows of {len(said.columns)} columns")


def _fits(shape: checks.Shape, columns: int, keypoints: int) -> bool:
    """Whether a shape holds K rows of the columns."""
    sizes = shape[2:] if len(shape) == 4 and checks.fits(shape[1], 1) else shape[1:]
    if len(sizes) == 1 and sizes[0] is not None:
        return sizes[0] % columns == 0 and sizes[0] >= columns * keypoints
    return len(sizes) == 1 or (
        len(sizes) == 2
        and checks.fits(sizes[1], columns)
        and (sizes[0] is None or sizes[0] >= keypoints)
    )


def _is_flag(shape: checks.Shape) -> bool:
    """Whether a shape is one number for each image."""
    return len(shape) > 1 and all(size == 1 for size in shape[1:])


def _share(values: Tensor, logits: bool) -> Tensor:
    return torch.sigmoid(values) if logits else values
