"""Recipes of cycles: names, files, daily changes, and what is refused on one line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer.config import to_json
from misgiving.trainer.cycle.recipe import (
    CYCLES,
    CycleRecipe,
    Method,
    cycle_named,
    method_of,
    to_dict,
)
from misgiving.trainer.recipes import RECIPES
from shared.training import TINY

RECIPE = CycleRecipe(name="mine", training=TINY, methods=("random",), budget=3, stages=2)


def test_names_are_the_recipes_own() -> None:
    assert {name: recipe.name for name, recipe in CYCLES.items()} == {n: n for n in CYCLES}
    assert all(recipe.training == RECIPES[name] for name, recipe in CYCLES.items())


@pytest.mark.parametrize("recipe", [*CYCLES.values(), RECIPE], ids=lambda recipe: recipe.name)
def test_a_recipe_survives_its_file(recipe: CycleRecipe, tmp_path: Path) -> None:
    path = tmp_path / "cycle.json"
    path.write_text(json.dumps(to_dict(recipe)), encoding="utf-8")
    assert cycle_named(str(path)) == recipe


def test_a_training_s_file_makes_a_cycle(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(to_json(TINY), encoding="utf-8")
    recipe = cycle_named(str(path), budget=9)
    assert (recipe.name, recipe.training, recipe.budget) == ("tiny", TINY, 9)
    assert recipe.methods == ("random", "learned_loss")


def test_daily_changes() -> None:
    recipe = cycle_named(
        "cpu", methods=("random",), epochs=2, seed=7, budget=3, stages=4, repeats=2
    )
    fit = recipe.training.fit
    assert (fit.epochs, fit.continued_epochs, fit.seed) == (1, 1, 7)
    assert fit.head_epochs == 1
    assert (recipe.methods, recipe.budget, recipe.stages) == (("random",), 3, 4)
    assert recipe.seeds == (7, 8)
    assert cycle_named("cpu", budget=None) == CYCLES["cpu"]


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("learned_loss", Method("learned_loss", "conv-kl")),  # the first head
        ("learned_loss:gap-margin", Method("learned_loss", "gap-margin")),
        ("random", Method("random", "conv-kl")),  # what later stages then train
    ],
)
def test_methods(name: str, method: Method) -> None:
    assert method_of(replace(RECIPE, methods=(name,)), name) == method


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": 0}, r"budget is 0; expected at least 1"),
        ({"stages": 0}, r"stages is 0; expected at least 1"),
        ({"repeats": -1}, r"repeats is -1; expected at least 1"),
        ({"methods": ()}, r"methods are \[\]; expected one or more, each once"),
        ({"methods": ("random", "random")}, r"methods are \['random', 'random'\]; expected one or"),
        ({"methods": ("best",)}, r"sampler is 'best'; expected one of random, learned_loss"),
        (
            {"methods": ("learned_loss:conv",)},
            r"method is 'learned_loss:conv'; expected one of the heads conv-kl, gap-margin",
        ),
    ],
)
def test_what_a_recipe_must_not_say(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        replace(RECIPE, **changes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"training": {}}', r"mine.json: .+; expected the keys of the recipe in a cycle's cycle"),
        ("{", r"mine.json: Invalid JSON.+; expected the keys of the recipe.json that stands in"),
    ],
)
def test_what_is_no_recipe(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(content)
    with pytest.raises(InvalidInput, match=message) as error:
        cycle_named(str(file))
    assert "\n" not in str(error.value)


def test_no_such_recipe() -> None:
    with pytest.raises(InvalidInput, match=r"recipe is 'tiny'; expected one of demo, cpu, paper"):
        cycle_named("tiny")
