"""Named runs. A recipe fixes network, augmentation and optimiser; the data is given beside it."""

from dataclasses import replace
from pathlib import Path

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer.config import (
    AugmentConfig,
    FitConfig,
    HeadConfig,
    ModelConfig,
    Recipe,
    read_recipe,
)
from misgiving.trainer.net_config import (
    DeepposeConfig,
    EdgeConfig,
    HourglassConfig,
    HrnetConfig,
    LiteConfig,
    NetConfig,
    ResnetConfig,
    TompsonConfig,
)

PAPER_HEADS = (
    HeadConfig(kind="conv", objective="kl"),
    HeadConfig(kind="conv", objective="margin"),
    HeadConfig(kind="gap", objective="kl"),
    HeadConfig(kind="gap", objective="margin"),
)
"""The paper's two heads with its two objectives."""
ALL_HEADS = (HeadConfig(kind="evidence", objective="miss"), *PAPER_HEADS)
"""The one that finds most failures first: it is exported unless another is asked for."""
_ASTRAY = AugmentConfig(astray=1 / 8)
_HEAD_EPOCHS = 10
"""After the pose net's: it learns slowly, and where nobody is only then."""


def _small(learning_rate: float = 3e-3) -> FitConfig:
    """For inputs of 128 to 192 px; a CPU does it."""
    return FitConfig(
        epochs=60,
        continued_epochs=30,
        head_epochs=_HEAD_EPOCHS,
        learning_rate=learning_rate,
        head_learning_rate=1e-3,
        sigma=1.5,
    )


def _large(name: str, net: NetConfig) -> Recipe:
    """At 256 px with both papers' Gaussians; wants a GPU."""
    return Recipe(
        name=name,
        model=ModelConfig(input_size=256, net=net, heads=ALL_HEADS),
        fit=FitConfig(
            epochs=80,
            continued_epochs=80,
            head_epochs=_HEAD_EPOCHS,
            learning_rate=5e-4,
            sigma=2.0,
        ),
        augment=_ASTRAY,
    )


RECIPES = {
    recipe.name: recipe
    for recipe in (
        # Small enough for two cores and five minutes; the demo and the tests use it.
        Recipe(
            name="demo",
            model=ModelConfig(
                input_size=64, net=HourglassConfig(stacks=1, channels=32, depth=3, stride=2)
            ),
            fit=FitConfig(
                epochs=20,
                continued_epochs=8,
                learning_rate=2e-3,
                head_learning_rate=1e-3,
                sigma=1.25,
            ),
            augment=AugmentConfig(rotation_deg=25.0),
        ),
        # Real images on a CPU, in an hour or two.
        Recipe(
            name="cpu",
            model=ModelConfig(
                input_size=128,
                net=HourglassConfig(stacks=1, channels=64, depth=3),
                heads=ALL_HEADS,
            ),
            fit=_small(),
            augment=_ASTRAY,
        ),
        # The paper's geometry; wants a GPU.
        Recipe(
            name="paper",
            model=ModelConfig(
                input_size=256,
                net=HourglassConfig(stacks=2, channels=256, depth=4),
                heads=ALL_HEADS,
            ),
            fit=FitConfig(epochs=80, continued_epochs=80, learning_rate=3e-4),
        ),
        _large("hrnet-w32", HrnetConfig(width=32)),
        _large("hrnet-w48", HrnetConfig(width=48)),
        _large("resnet-50", ResnetConfig(layers=50)),
        # For Jetson and CPU; a few hours of training on a CPU.
        Recipe(
            name="edge",
            model=ModelConfig(
                input_size=192,
                net=EdgeConfig(),
                heads=ALL_HEADS,
            ),
            fit=_small(),
            augment=_ASTRAY,
        ),
        # Jetson and CPU too; its trunk has seen ImageNet, so it learns in less.
        Recipe(
            name="lite",
            model=ModelConfig(input_size=144, net=LiteConfig(), heads=ALL_HEADS),
            fit=replace(
                _small(learning_rate=2e-3),
                epochs=40,
                continued_epochs=20,
                batch_size=32,
                frozen_blocks=3,
            ),
            augment=_ASTRAY,
        ),
        # The ancestors, as small as the recipe cpu.
        Recipe(
            name="deeppose",
            model=ModelConfig(
                input_size=128,
                net=DeepposeConfig(layers=18, width=32, sigma=1.5),
                heads=ALL_HEADS,
            ),
            fit=_small(learning_rate=1e-3),
            augment=_ASTRAY,
        ),
        Recipe(
            name="tompson",
            model=ModelConfig(
                input_size=128, net=TompsonConfig(width=16, reach=14), heads=ALL_HEADS
            ),
            fit=_small(),
            augment=_ASTRAY,
        ),
    )
}


def recipe_named(name: str, epochs: int | None = None, seed: int | None = None) -> Recipe:
    """A recipe by its name or by the path of its JSON file, with the daily changes.

    ``epochs`` counts all of a training, those of the heads alone too; see ``with_changes``.

    >>> recipe_named("cpu", epochs=10).fit.epochs, recipe_named("runs/first/recipe.json").name
    (9, 'tiny')

    Raises:
        InvalidInput: neither a name nor a readable file.
    """
    recipe = RECIPES.get(name)
    if recipe is None:
        if not name.endswith(".json"):
            raise InvalidInput(
                f"recipe is {name!r}; expected one of {', '.join(RECIPES)}, or a .json file"
            )
        recipe = read_recipe(Path(name))
    return replace(recipe, fit=with_changes(recipe.fit, epochs, seed))


def with_changes(fit: FitConfig, epochs: int | None = None, seed: int | None = None) -> FitConfig:
    """A training with so many epochs in all: the heads alone keep their share of them.

    >>> fit = with_changes(recipe_named("cpu").fit, epochs=7)
    >>> fit.epochs, fit.head_epochs
    (6, 1)

    Raises:
        InvalidInput: a number out of range.
    """
    if seed is not None:
        fit = replace(fit, seed=seed)
    if epochs is None:
        return fit
    together = fit.epochs or fit.continued_epochs
    alone = epochs if not together else _share(epochs, fit.head_epochs, together)
    left = epochs - alone
    return replace(
        fit,
        epochs=left if fit.epochs else 0,
        continued_epochs=left if fit.continued_epochs else 0,
        head_epochs=alone,
    )


def _share(epochs: int, alone: int, together: int) -> int:
    """Of the heads alone: as the recipe divides them, one of each at least where there are two."""
    if alone == 0 or epochs < 2:
        return 0
    return min(epochs - 1, max(1, round(epochs * alone / (alone + together))))
