"""Configuration of networks, augmentation and trainings, as frozen dataclasses.

Files on disk go through pydantic: an unknown or missing key is an error. The resolved
configuration is saved beside every checkpoint.
"""

import json
from codecs import BOM_UTF8
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pydantic import TypeAdapter, ValidationError

from misgiving.runtime.errors import InvalidInput, first_problem
from misgiving.runtime.geometry import CropRule
from misgiving.trainer.foreign_config import ForeignConfig
from misgiving.trainer.net_config import FORBID, NetConfig, require

_Kind = Literal["gap", "conv", "levels", "evidence"]
_Objective = Literal["margin", "kl", "mse", "aleatoric", "links", "miss"]
_KINDS, _OBJECTIVES = get_args(_Kind), get_args(_Objective)


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadConfig:
    """One loss head of a :class:`Recipe`; several may share a pose net: they read detached
    features."""

    __pydantic_config__ = FORBID

    kind: _Kind
    """``gap``: pooled features and fully connected layers; ``conv``: multi-scale convolutions;
    ``levels``: every scale pooled for itself, as Yoo & Kweon do; ``evidence``: every scale pooled
    in two ways, the heatmaps' peaks and the pose that they make."""
    objective: _Objective
    """``margin``: Learning Loss; ``kl``: LearningLoss++; ``mse``: plain regression, a control;
    ``aleatoric``: the variance of each joint's error; ``links``: VL4Pose, the lengths of limbs;
    ``miss``: whether each joint is missed at PCK@0.2."""
    pairs: Literal["halves", "all"] = "halves"
    """``halves``: image k with image k + B/2, as in the paper; ``all``: each with each."""
    replica: int = 1
    """Which of several equal heads, that differ in their random start alone."""

    def __post_init__(self) -> None:
        """Check ranges, and that pairs mean something."""
        require(self.replica >= 1, f"replica is {self.replica}; expected at least 1")
        require(
            self.objective in ("margin", "kl") or self.pairs == "halves",
            f"pairs is {self.pairs!r} for a head that learns {self.objective}; expected none, "
            "only margin and kl rank pairs",
        )

    @property
    def name(self) -> str:
        """Names the head in checkpoints, tables and options, for example ``conv-kl``."""
        pairs = "" if self.pairs == "halves" else f"-{self.pairs}"
        replica = "" if self.replica == 1 else f"-{self.replica}"
        return f"{self.kind}-{self.objective}{pairs}{replica}"


def head_named(name: str) -> HeadConfig:
    """A head by the name that tables give it.

    >>> head_named("conv-kl-all-2").pairs, head_named("evidence-miss").replica
    ('all', 1)

    Raises:
        InvalidInput: there is no such head.
    """
    kind, _, rest_of_name = name.partition("-")
    objective, *rest = rest_of_name.split("-")
    values = {"kind": kind, "objective": objective}
    if rest and rest[0] == "all":
        values["pairs"] = rest.pop(0)
    if rest:
        values["replica"] = rest.pop(0)
    try:
        head = TypeAdapter(HeadConfig).validate_python(values)
    except ValidationError:
        head = None
    if head is None or rest or head.name != name:
        raise InvalidInput(
            f"head is {name!r}; expected KIND-OBJECTIVE, a kind of {', '.join(_KINDS)} and an "
            f"objective of {', '.join(_OBJECTIVES)}, for example evidence-miss"
        )
    return head


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """A pose net with its loss heads; part of a :class:`Recipe`."""

    __pydantic_config__ = FORBID

    input_size: int | tuple[int, int]
    """Height and width of the input in px, one number where they are equal."""
    net: NetConfig
    heads: tuple[HeadConfig, ...] = (HeadConfig(kind="evidence", objective="miss"),)
    """The first one is exported unless another is asked for."""
    padding: float = 1.25
    """Window size over the person's box (see ``CropRule``)."""
    dropout: float = 0.0
    """Share of the channels that a training step hides before the last stack's heatmaps are read;
    what the sampler ``mc_dropout`` wants. Never in the exported graph."""

    def __post_init__(self) -> None:
        """Check that the sizes divide."""
        if not isinstance(self.net, ForeignConfig):
            size = self.input_size
            if not isinstance(size, int):
                raise InvalidInput(f"input_size is {size}; expected one number, for a square")
            self.net.check_input(size)
        require(self.padding >= 1, f"padding is {self.padding}; expected at least 1")
        require(0 <= self.dropout < 1, f"dropout is {self.dropout}; expected from 0 to below 1")
        names = [head.name for head in self.heads]
        require(0 < len(set(names)) == len(names), f"heads are {names}; expected one or more, once")

    @property
    def stride(self) -> int:
        """Input px for each heatmap cell."""
        return self.net.stride

    @property
    def heatmap_size(self) -> int:
        """Height and width of the heatmaps in cells; they cover the input."""
        return -(-max(self.crop.height, self.crop.width) // self.stride)

    @property
    def crop(self) -> CropRule:
        """How a region becomes this network's input."""
        size = self.input_size
        height, width = (size, size) if isinstance(size, int) else size
        return CropRule(height=height, width=width, padding=self.padding)


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """Random changes of a training image; zero switches one off. Part of a :class:`Recipe`."""

    __pydantic_config__ = FORBID

    rotation_deg: float = 40.0
    """Uniform in ± this."""
    scale: float = 0.25
    """Factor uniform in 1 ± this."""
    shift: float = 0.08
    """Uniform in ± this share of the input's side."""
    flip: float = 0.5
    """Probability of a mirrored image; left and right joints change places."""
    colour: float = 0.2
    """Gain of each channel uniform in 1 ± this, and as much of a common brightness."""
    worse: float = 0.0
    """Share of the images that are blurred, noisy, dark or compressed."""
    astray: float = 0.0
    """Crops beside the batch's own, as a share of it, that the heads see while they learn alone:
    next to the person, half of it, far too large or too small. The head is to say so."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("rotation_deg", "shift"):
            value = getattr(self, name)
            require(value >= 0, f"{name} is {value}; expected at least 0")
        for name in ("scale", "colour"):
            value = getattr(self, name)
            require(0 <= value < 1, f"{name} is {value}; expected from 0 to below 1")
        require(0 <= self.flip <= 1, f"flip is {self.flip}; expected a probability")
        for name in ("worse", "astray"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"{name} is {value}; expected from 0 to 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class FitConfig:
    """One training; part of a :class:`Recipe`."""

    __pydantic_config__ = FORBID

    epochs: int
    """Of pose net and heads together; 0 leaves a checkpoint's pose net as it is, bit by bit."""
    continued_epochs: int
    """The same, of a training that starts from a checkpoint, as a cycle's later stages do."""
    head_epochs: int = 0
    """Epochs after these in which the heads learn alone, in half the time: what the finished pose
    net does, of which it shows less while it still moves."""
    batch_size: int = 16
    """Even: image k is paired with image k + B/2 in the loss head's objective."""
    learning_rate: float = 1e-3
    """Of the pose net, at its peak."""
    head_learning_rate: float = 3e-4
    weight_decay: float = 1e-4
    warmup: float = 0.05
    """Share of all steps with a rising rate; a half cosine follows."""
    sigma: float = 1.75
    """Standard deviation of the target Gaussians in heatmap cells."""
    margin: float = 1.0
    """Of the margin objective, in units of predicted_loss."""
    freeze_batch_norm: bool = False
    """Keep the pose net's batch normalisation's statistics, and normalise by them: for training on
    from a checkpoint with few labels. Its scales and offsets learn all the same."""
    frozen_blocks: int = 0
    """The stem and so many first blocks of a pretrained trunk stay as they are; with 3 a step on a
    CPU takes 0.7 of the time. Of the net ``lite`` only."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Check ranges."""
        require(0 <= self.seed < 1 << 63, f"seed is {self.seed}; expected from 0 to below 2^63")
        for name in ("epochs", "continued_epochs", "head_epochs"):
            epochs = getattr(self, name)
            least = 0 if name == "head_epochs" or self.head_epochs > 0 else 1
            require(epochs >= least, f"{name} is {epochs}; expected at least {least}")
        require(
            self.frozen_blocks >= 0, f"frozen_blocks is {self.frozen_blocks}; expected at least 0"
        )
        require(
            self.batch_size >= 2 and self.batch_size % 2 == 0,
            f"batch_size is {self.batch_size}; expected an even number, images are paired",
        )
        for name in ("learning_rate", "head_learning_rate", "sigma"):
            value = getattr(self, name)
            require(value > 0, f"{name} is {value}; expected above 0")
        require(0 <= self.warmup < 1, f"warmup is {self.warmup}; expected from 0 to below 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A named run: everything that decides its weights, but the data.

    >>> recipe = Recipe(
    ...     name="small",
    ...     model=ModelConfig(
    ...         input_size=64,
    ...         net=HourglassConfig(stacks=1, channels=32, depth=3),
    ...         heads=(HeadConfig(kind="gap", objective="kl"),),
    ...     ),
    ...     fit=FitConfig(epochs=20, continued_epochs=8),
    ...     augment=AugmentConfig(flip=0.0),
    ... )
    >>> recipe.model.heatmap_size, recipe.model.heads[0].name
    (16, 'gap-kl')
    """

    __pydantic_config__ = FORBID

    name: str
    model: ModelConfig
    fit: FitConfig
    augment: AugmentConfig = field(default_factory=AugmentConfig)


def check_own(recipe: Recipe) -> None:
    """Raise InvalidInput where a recipe is of a foreign net, which nothing here trains."""
    if isinstance(recipe.model.net, ForeignConfig):
        raise InvalidInput(
            f"recipe {recipe.name} is of {recipe.model.net.file}, which nothing trains; expected "
            "a network of ours. For other heads on it, run 'misgiving attach' again"
        )


Value = TypeVar("Value")

_ADAPTER = TypeAdapter(Recipe)


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain JSON values."""
    values: dict[str, Any] = _ADAPTER.dump_python(recipe, mode="json")
    return values


def from_dict(values: Mapping[str, Any]) -> Recipe:
    """A recipe from plain JSON values, as a bundle's manifest has them.

    Raises:
        InvalidInput: a key is unknown, missing or out of range.
    """
    try:
        return _ADAPTER.validate_json(json.dumps(values))
    except ValidationError as error:
        raise InvalidInput(
            f"recipe: {first_problem(error)}; expected the recipe of a network of this version"
        ) from error


def to_json(recipe: Recipe) -> str:
    """A recipe as it stands beside a checkpoint."""
    return _ADAPTER.dump_json(recipe, indent=2).decode() + "\n"


def read_recipe(path: Path) -> Recipe:
    """Read a recipe from a JSON file.

    Raises:
        InvalidInput: no such file, or a key that is unknown, missing or out of range.
    """
    return read_file(path, _ADAPTER, "the keys of the recipe.json that stands in every checkpoint")


def read_file(path: Path, adapter: TypeAdapter[Value], expected: str) -> Value:
    """Read what an adapter checks from a JSON file.

    Raises:
        InvalidInput: no such file, or a key that is unknown, missing or out of range; it says
            what was ``expected``.
    """
    try:
        return adapter.validate_json(path.read_bytes().removeprefix(BOM_UTF8))
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}; expected a recipe's JSON file") from error
    except ValidationError as error:
        raise InvalidInput(f"{path}: {first_problem(error)}; expected {expected}") from error
