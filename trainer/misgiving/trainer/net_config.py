"""Configuration of the pose nets. Each says how its input must divide; what it is made of stands
in its file of ``models``."""

from dataclasses import dataclass
from typing import Literal

from pydantic import ConfigDict

from misgiving.runtime.errors import InvalidInput

FORBID = ConfigDict(extra="forbid")


def require(condition: bool, message: str) -> None:
    """Raise InvalidInput with a message unless a condition holds."""
    if not condition:
        raise InvalidInput(message)


@dataclass(frozen=True, kw_only=True, slots=True)
class HourglassConfig:
    """A stacked hourglass (Newell, Yang & Deng, ECCV 2016); the ``net`` of a
    :class:`Recipe`'s model."""

    __pydantic_config__ = FORBID

    kind: Literal["hourglass"] = "hourglass"
    stacks: int
    """1 to 8."""
    channels: int
    depth: int
    """How often an hourglass halves the heatmap's size."""
    stride: Literal[2, 4] = 4
    """Input px for each heatmap cell."""

    def __post_init__(self) -> None:
        """Check ranges."""
        require(1 <= self.stacks <= 8, f"stacks is {self.stacks}; expected 1 to 8")
        require(
            self.channels >= 8 and self.channels % 2 == 0,
            f"channels is {self.channels}; expected an even number from 8",
        )
        require(self.depth >= 1, f"depth is {self.depth}; expected at least 1")

    def check_input(self, size: int) -> None:
        """Raise InvalidInput where an input of this size cannot be halved that often."""
        cells = self.stride * 2**self.depth
        require(
            size > 0 and size % cells == 0,
            f"input_size is {size}; expected a multiple of stride × 2^depth = {cells}",
        )


NetConfig = HourglassConfig
