"""SimCC: one vector along x and one along y for each keypoint; RTMPose, RTMW, SimCC.

MMPose takes the largest place of both vectors over the split ratio, and the smaller of the two
raw values as the score, which may leave [0, 1]. Its targets are drawn at px × split ratio, px
counted from the first pixel's centre (``SimCCLabel`` after cv2.warpAffine).

Axes: B batch, K keypoints, H W input.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import ConfigDict, Field, TypeAdapter
from torch import Tensor

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer.foreign.families import checks
from misgiving.trainer.foreign.families.base import Answer, Shapes

_FLOOR = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class _Options:
    __pydantic_config__ = ConfigDict(extra="forbid")

    x: str
    """The output (B, K, W × split)."""
    y: str
    """The output (B, K, H × split)."""
    activation: Literal["softmax", "none"] = "softmax"
    """Whether the vectors are logits, or shares already."""
    beta: Annotated[float, Field(gt=0)] = 10.0
    """What the logits are multiplied by before the softmax: as in the loss that the net was
    trained with, 10 for RTMPose, 1 for SimCC itself."""


_ADAPTER = TypeAdapter(_Options)


class SimCC:
    """The largest place of each vector."""

    has_presence = False

    def __init__(self, options: Mapping[str, Any], shapes: Shapes) -> None:
        self._options = said = checks.parse("simcc", _ADAPTER, options)
        self.outputs: tuple[str, ...] = (said.x, said.y)
        self.evidence = 6 * shapes.keypoints
        for name, axes in ((said.x, "(B, K, width × split)"), (said.y, "(B, K, height × split)")):
            checks.check_shape(shapes, name, (None, shapes.keypoints, None), axes)
        self._split = _split(said, shapes)

    def read(self, raw: Sequence[Tensor]) -> Answer:
        """The answer; the confidence is the smaller of the two peaks, as shares."""
        peaks, places, evidence = zip(*(self._along(vector) for vector in raw), strict=True)
        points = torch.stack(places, dim=-1) / self._split + 0.5
        confidence = torch.minimum(*peaks).clamp(0, 1)
        return Answer(points, confidence, torch.cat(evidence, dim=1), None)

    def _along(self, vector: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of one axis: peaks and places (B, K), and evidence (B, 3 K): the raw peak, the
        logarithm of its share, and the entropy."""
        highest, at = vector.max(dim=-1)
        if self._options.activation == "softmax":
            share = torch.softmax(vector * self._options.beta, dim=-1)
        else:
            share = vector.clamp(min=0)
        peak = share.amax(-1)
        part = (share / share.sum(-1, keepdim=True).clamp(min=_FLOOR)).clamp(min=_FLOOR)
        entropy = -(part * torch.log(part)).sum(-1)
        return peak, at, torch.cat([highest, torch.log(peak.clamp(min=_FLOOR)), entropy], dim=1)

    @staticmethod
    def guess(shapes: Shapes) -> dict[str, Any] | None:
        """Two outputs of rank 3 that split the width and the height alike."""
        for x, y in zip(list(shapes.outputs), list(shapes.outputs)[1:], strict=False):
            along_x, along_y = shapes.outputs[x], shapes.outputs[y]
            if len(along_x) != 3 or len(along_y) != 3 or along_x[1] != along_y[1]:
                continue
            known = checks.fits(along_x[1], shapes.keypoints or None)
            if known and _ratio(along_x[2], shapes.width) == _ratio(along_y[2], shapes.height) != 0:
                return {"x": x, "y": y}
        return None


def _split(said: _Options, shapes: Shapes) -> int:
    """
    Raises:
        InvalidInput: the vectors do not split the input's px alike.
    """
    along_x, along_y = shapes.outputs[said.x][2], shapes.outputs[said.y][2]
    split = _ratio(along_x, shapes.width)
    if not split or split != _ratio(along_y, shapes.height):
        raise InvalidInput(
            f"vectors of {along_x} and {along_y} for an input {shapes.width} px wide and "
            f"{shapes.height} px high; expected the same whole multiple of both. "
            "Give x and y their own outputs, or mend the input's size."
        )
    return split


def _ratio(length: int | None, size: int) -> int:
    """How often the size goes into the length; 0 where it does not, or the length is free."""
    return 0 if length is None or length % size else length // size
