"""Configuration of a foreign pose net: what its NET.toml says, resolved against its graph.

Axes: H W input.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

_FORBID = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignInput:
    """How pixels go into a foreign net: (pixel − mean) / std, pixels in 0–255. NET.toml says it
    (:func:`read_net`)."""

    __pydantic_config__ = _FORBID

    name: str
    layout: Literal["NCHW", "NHWC"]
    colour: Literal["RGB", "BGR"]
    mean: tuple[float, float, float]
    """In the order of ``colour``, as ``std``."""
    std: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tap:
    """An inner tensor that the heads read: (B, channels, height, width), or NHWC; :func:`read_net`
    finds them."""

    __pydantic_config__ = _FORBID

    name: str
    layout: Literal["NCHW", "NHWC"]
    channels: int
    height: int
    width: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignConfig:
    """A pose net of somebody else, as an ONNX file; the ``net`` of a :class:`Recipe`'s model."""

    __pydantic_config__ = _FORBID

    kind: Literal["foreign"] = "foreign"
    file: str
    """Its name, without a folder."""
    sha256: str
    licence: str
    input: ForeignInput
    family: str
    """Of its outputs; a name in ``foreign.families.FAMILIES``."""
    output: dict[str, Any]
    """The family's options; it checks them."""
    taps: tuple[Tap, ...] = ()
    """From the finest to the coarsest."""
    taught: tuple[str, ...] = ()
    """Joints that the heads' training data labels; of the others the heads say nothing."""

    stride: ClassVar[int] = 4
    """Input px for each cell, in which the trainer counts; the net's own may be another."""
