"""The interface of an output family: what a net's raw outputs mean.

Axes: B batch, K keypoints, E evidence, H W input.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from torch import Tensor


class Answer(NamedTuple):
    """What a foreign net says of a batch."""

    points: Tensor
    """(B, K, 2), x and y in input px, continuous: the first pixel's centre is (0.5, 0.5)."""
    confidence: Tensor
    """(B, K) in [0, 1], as the net itself gives it."""
    evidence: Tensor
    """(B, E) of any scale: whatever else of the outputs tells a wrong answer."""
    presence: Tensor | None
    """(B,) in [0, 1]: that somebody is there; None of a net that does not say it."""


@dataclass(frozen=True, slots=True)
class Shapes:
    """What a family is read against."""

    outputs: Mapping[str, tuple[int | None, ...]]
    """Of the graph; None where a size is free, as the batch's."""
    keypoints: int
    height: int
    width: int
    """Of the input, px."""


class Family(Protocol):
    """Raw outputs → :class:`Answer`, by torch operations that trace into the exported graph.

    Made from the options of NET.toml and the graph's shapes; says what does not fit as
    InvalidInput, in one line.
    """

    @property
    def outputs(self) -> tuple[str, ...]:
        """The graph's outputs that it reads, in the order of ``read``'s argument."""

    @property
    def evidence(self) -> int:
        """E."""

    @property
    def has_presence(self) -> bool:
        """Whether ``read`` gives a presence."""

    def read(self, raw: Sequence[Tensor]) -> Answer:
        """The outputs (B, ...) as the graph gives them, float32 → Answer."""


class FamilyType(Protocol):
    """What a family's file gives."""

    def __call__(self, options: Mapping[str, Any], shapes: Shapes) -> Family:
        """
        Raises:
            InvalidInput: an option is unknown, missing or out of range, or a tensor is not there
                or has another shape than this family's.
        """

    def guess(self, shapes: Shapes) -> dict[str, Any] | None:
        """The options to start from where the outputs look like this family's, else None; a
        ``keypoints`` of 0 is not known."""
