"""Named cycles. A cycle's recipe fixes the training, the methods and how often; the data is given
beside it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer.config import Recipe, check_own, read_file
from misgiving.trainer.net_config import FORBID, require
from misgiving.trainer.recipes import RECIPES, recipe_named, with_changes
from misgiving.trainer.samplers import sampler_named


@dataclass(frozen=True, slots=True)
class Method:
    """A sampler, with the loss head whose predictions it is given."""

    sampler: str
    head: str
    """The first of the recipe's where none is named; the one that later stages train."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CycleRecipe:
    """Everything that decides a cycle, but the data; see :func:`run_cycle`."""

    __pydantic_config__ = FORBID

    name: str
    training: Recipe
    """Of every stage; its seed is the first repeat's, the others count up from it."""
    methods: tuple[str, ...]
    """Each a sampler, or ``SAMPLER:HEAD`` where it shall be given that head's predicted loss."""
    budget: int
    """Persons labelled between two stages."""
    stages: int
    """Trainings of a method, the base model's included; the last stage selects too, for the next
    one that somebody may run."""
    repeats: int = 1

    def __post_init__(self) -> None:
        """Check ranges and names, and that there is something to train."""
        check_own(self.training)
        for name in ("budget", "stages", "repeats"):
            value = getattr(self, name)
            require(value >= 1, f"{name} is {value}; expected at least 1")
        methods = list(self.methods)
        require(
            0 < len(set(methods)) == len(methods),
            f"methods are {methods}; expected one or more, each once",
        )
        for name in self.methods:
            method_of(self, name)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the repeats."""
        first = self.training.fit.seed
        return tuple(range(first, first + self.repeats))


def method_of(recipe: CycleRecipe, name: str) -> Method:
    """What one of a recipe's methods stands for, ``SAMPLER`` or ``SAMPLER:HEAD``.

    Raises:
        InvalidInput: no such sampler, or no such head.
    """
    sampler, _, head = name.partition(":")
    sampler_named(sampler)
    known = [config.name for config in recipe.training.model.heads]
    if head and head not in known:
        raise InvalidInput(f"method is {name!r}; expected one of the heads {', '.join(known)}")
    return Method(sampler, head or known[0])


_LEARNED = ("gap-margin", "gap-kl", "conv-kl")
_METHODS = ("random", "coreset", *(f"learned_loss:{head}" for head in _LEARNED))
"""The rows of the paper's Table 3."""

CYCLES = {
    "demo": CycleRecipe(
        name="demo",
        training=RECIPES["demo"],
        methods=("random", "learned_loss"),
        budget=100,
        stages=2,
    ),
    "cpu": CycleRecipe(
        name="cpu", training=RECIPES["cpu"], methods=_METHODS, budget=1000, stages=3, repeats=3
    ),
    "paper": CycleRecipe(
        name="paper", training=RECIPES["paper"], methods=_METHODS, budget=1000, stages=5, repeats=5
    ),
}

_ADAPTER = TypeAdapter(CycleRecipe)


def cycle_named(
    name: str,
    *,
    methods: tuple[str, ...] = (),
    epochs: int | None = None,
    seed: int | None = None,
    **changes: int | None,
) -> CycleRecipe:
    """A cycle's recipe by its name or by the path of its JSON file, with the daily changes.

    Of a training recipe's name or file it makes a cycle of ``random`` and ``learned_loss``.

    >>> cycle_named("demo", methods=("random", "coreset"), budget=50).methods
    ('random', 'coreset')

    Args:
        name: of a recipe, or the path of a file.
        methods: instead of the recipe's.
        epochs: of every training, those of the heads alone too, instead of the recipe's.
        seed: of the first repeat, instead of the recipe's.
        changes: ``budget``, ``stages`` and ``repeats`` instead of the recipe's, None for its own.

    Raises:
        InvalidInput: neither a name nor a readable file, or a change out of range.
    """
    recipe = CYCLES.get(name) or _read(name)
    training = replace(recipe.training, fit=with_changes(recipe.training.fit, epochs, seed))
    given: dict[str, Any] = _given(changes)
    return replace(recipe, training=training, methods=methods or recipe.methods, **given)


def _read(name: str) -> CycleRecipe:
    path = Path(name)
    if path.suffix == ".json" and path.is_file() and b'"training"' in path.read_bytes():
        return read_file(path, _ADAPTER, "the keys of the recipe in a cycle's cycle.json")
    training = recipe_named(name)
    return replace(CYCLES["demo"], name=training.name, training=training, budget=1000)


def _given(values: dict[str, int | None]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def to_dict(recipe: CycleRecipe) -> dict[str, Any]:
    """A cycle's recipe as plain JSON values."""
    values: dict[str, Any] = _ADAPTER.dump_python(recipe, mode="json")
    return values
