"""Configuration of the pose nets. Each says how its input must divide; what it is made of stands
in its file of ``models``."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import ConfigDict, Field

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer.foreign_config import ForeignConfig

FORBID = ConfigDict(extra="forbid")

Pretrained: TypeAlias = Literal["efficientnet-lite0"]
"""Trunks whose weights a package has; see ``models/pretrained.py``."""


def require(condition: bool, message: str) -> None:
    """Raise InvalidInput with a message unless a condition holds."""
    if not condition:
        raise InvalidInput(message)


def _check_multiple(size: int, cells: int) -> None:
    require(size > 0 and size % cells == 0, f"input_size is {size}; expected a multiple of {cells}")


def _check_width(width: int) -> None:
    require(
        width >= 4 and width % 4 == 0, f"width is {width}; expected a multiple of 4, at least 4"
    )


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


@dataclass(frozen=True, kw_only=True, slots=True)
class HrnetConfig:
    """HRNet (Sun, Xiao, Liu & Wang, CVPR 2019); the ``net`` of a :class:`Recipe`'s model."""

    __pydantic_config__ = FORBID

    kind: Literal["hrnet"] = "hrnet"
    width: int
    """Channels of the finest branch, 32 or 48 in the paper; each coarser one has twice as many."""
    modules: tuple[int, int, int] = (1, 4, 3)
    """How often the branches exchange in stages 2, 3 and 4; the default is the paper's."""

    stride: ClassVar[int] = 4

    def __post_init__(self) -> None:
        """Check ranges."""
        _check_width(self.width)
        require(min(self.modules) >= 1, f"modules are {self.modules}; expected at least 1 each")

    def check_input(self, size: int) -> None:
        """Raise InvalidInput where the coarsest of the four branches has no whole cells."""
        _check_multiple(size, 32)


@dataclass(frozen=True, kw_only=True, slots=True)
class ResnetConfig:
    """ResNet and three deconvolutions (Xiao, Wu & Wei, "Simple Baselines", ECCV 2018); the
    ``net`` of a :class:`Recipe`'s model."""

    __pydantic_config__ = FORBID

    kind: Literal["resnet"] = "resnet"
    layers: Literal[18, 34, 50, 101]
    width: int = 64
    """Channels behind the stem, 64 in the paper; the deconvolutions have four times as many."""

    stride: ClassVar[int] = 4

    def __post_init__(self) -> None:
        """Check ranges."""
        _check_width(self.width)

    def check_input(self, size: int) -> None:
        """Raise InvalidInput where the backbone's last map has no whole cells."""
        _check_multiple(size, 32)


@dataclass(frozen=True, kw_only=True, slots=True)
class EdgeConfig:
    """A small encoder and decoder for Jetson and CPU; the ``net`` of a :class:`Recipe`'s
    model."""

    __pydantic_config__ = FORBID

    kind: Literal["edge"] = "edge"
    width: int = 32
    """Channels at the heatmaps' scale."""

    stride: ClassVar[int] = 4

    def __post_init__(self) -> None:
        """Check ranges."""
        _check_width(self.width)

    def check_input(self, size: int) -> None:
        """Raise InvalidInput where the coarsest scale has no whole cells."""
        _check_multiple(size, 32)


@dataclass(frozen=True, kw_only=True, slots=True)
class LiteConfig:
    """EfficientNet-Lite0 (Tan & Le, ICML 2019) and a light decoder; the ``net`` of a
    :class:`Recipe`'s model."""

    __pydantic_config__ = FORBID

    kind: Literal["lite"] = "lite"
    deepest: Literal[16, 32] = 16
    """Input px for a cell of the trunk's coarsest map."""
    width: int = 64
    """Channels of the decoder."""
    pretrained: Pretrained | None = "efficientnet-lite0"
    """Whose weights the trunk starts with, None for random ones."""

    stride: ClassVar[int] = 4

    def __post_init__(self) -> None:
        """Check ranges."""
        _check_width(self.width)

    def check_input(self, size: int) -> None:
        """Raise InvalidInput where the coarsest map has no whole cells."""
        _check_multiple(size, self.deepest)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeepposeConfig:
    """Direct regression of coordinates (Toshev & Szegedy, "DeepPose", CVPR 2014), one stage on a
    ResNet; the ``net`` of a :class:`Recipe`'s model."""

    __pydantic_config__ = FORBID

    kind: Literal["deeppose"] = "deeppose"
    layers: Literal[18, 34, 50, 101]
    width: int = 64
    """As in :class:`ResnetConfig`."""
    sigma: float
    """Standard deviation in cells of the Gaussian that stands for a regressed point."""

    stride: ClassVar[int] = 4

    def __post_init__(self) -> None:
        """Check ranges."""
        _check_width(self.width)
        require(self.sigma > 0, f"sigma is {self.sigma}; expected above 0")

    def check_input(self, size: int) -> None:
        """Raise InvalidInput where the backbone's last map has no whole cells."""
        _check_multiple(size, 32)


@dataclass(frozen=True, kw_only=True, slots=True)
class TompsonConfig:
    """Part detector and spatial model (Tompson, Jain, LeCun & Bregler, NIPS 2014); the ``net`` of
    a :class:`Recipe`'s model."""

    __pydantic_config__ = FORBID

    kind: Literal["tompson"] = "tompson"
    width: int
    """Channels of the detector's first convolutions, 128 in the paper."""
    reach: int
    """How far apart, in cells along x or y, one joint still says something of another; even."""

    stride: ClassVar[int] = 4

    def __post_init__(self) -> None:
        """Check ranges."""
        _check_width(self.width)
        require(
            self.reach >= 2 and self.reach % 2 == 0,
            f"reach is {self.reach}; expected an even number from 2",
        )

    def check_input(self, size: int) -> None:
        """Raise InvalidInput where the coarsest resolution has no whole cells, or a prior is
        larger than the heatmaps."""
        _check_multiple(size, 16)
        cells = size // self.stride
        require(
            self.reach < cells,
            f"reach is {self.reach}; expected less than the heatmaps' {cells} cells",
        )


NetConfig: TypeAlias = Annotated[
    HourglassConfig
    | HrnetConfig
    | ResnetConfig
    | EdgeConfig
    | LiteConfig
    | DeepposeConfig
    | TompsonConfig
    | ForeignConfig,
    Field(discriminator="kind"),
]
