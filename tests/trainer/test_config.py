"""Recipes: each survives its JSON file, and what cannot be trained is refused on one line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer.config import FitConfig, HeadConfig, Recipe, read_recipe, to_dict, to_json
from misgiving.trainer.net_config import HourglassConfig
from misgiving.trainer.recipes import RECIPES, recipe_named, with_changes
from misgiving.trainer.specs import RECIPE_NAMES
from shared.training import CONV_KL, NETS, TINY, TINY_MODEL


@pytest.mark.parametrize("recipe", [*RECIPES.values(), TINY], ids=lambda recipe: recipe.name)
def test_a_recipe_survives_its_file(recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(to_json(recipe), encoding="utf-8")
    assert read_recipe(path) == recipe
    assert recipe_named(str(path)) == recipe
    assert json.loads(to_json(recipe)) == to_dict(recipe)
    assert set(to_dict(recipe)) == {"name", "model", "fit", "augment"}


def test_names_are_the_recipes_own() -> None:
    assert {name: recipe.name for name, recipe in RECIPES.items()} == {
        name: name for name in RECIPE_NAMES
    }
    assert tuple(RECIPES) == RECIPE_NAMES


def test_the_paper_s_geometry() -> None:
    model, fit = RECIPES["paper"].model, RECIPES["paper"].fit
    assert (model.input_size, model.heatmap_size) == (256, 64)
    assert model.net == HourglassConfig(stacks=2, channels=256, depth=4, stride=4)
    assert (fit.batch_size, fit.learning_rate, fit.sigma, fit.margin) == (16, 3e-4, 1.75, 1.0)
    assert {head.name for head in model.heads} == {
        "evidence-miss", "conv-kl", "conv-margin", "gap-kl", "gap-margin",
    }  # fmt: skip


def changed(path: str, value: object) -> dict[str, Any]:
    """TINY as JSON values with one of them set, or dropped where the value is ``...``."""
    values = to_dict(TINY)
    *parents, key = path.split(".")
    place = values
    for parent in parents:
        place = place[parent]
    if value is ...:
        del place[key]
    else:
        place[key] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        # unknown keys, at every level
        ("epochs", 3, r"epochs: Unexpected keyword argument"),
        ("model.width", 64, r"model.width: Unexpected"),
        ("model.net.width", 64, r"model.net.hourglass.width: Unexpected"),
        ("fit.lr", 1e-3, r"fit.lr: Unexpected"),
        ("augment.blur", 1, r"augment.blur: Unexpected"),
        ("model.heads", [{"kind": "gap", "objective": "kl", "x": 1}], r"model.heads.0.x: Unexp"),
        # missing keys
        ("name", ..., r"name: Field required"),
        ("model", ..., r"model: Field required"),
        ("model.input_size", ..., r"model.input_size: Field required"),
        ("fit.epochs", ..., r"fit.epochs: Field required"),
        # not of their type
        ("model.net.channels", "many", r"net.hourglass.channels: Input should be a valid integer"),
        ("model.net.stride", 3, r"model.net.hourglass.stride: Input should be 2 or 4"),
        (
            "model.heads",
            [{"kind": "fc", "objective": "kl"}],
            r"heads.0.kind: Input should be 'gap'",
        ),
        (
            "model.heads",
            [{"kind": "gap", "objective": "mse", "pairs": "all"}],
            r"pairs is 'all' for a head that learns mse; expected none",
        ),
        (
            "model.heads",
            [{"kind": "gap", "objective": "links", "pairs": "all"}],
            r"pairs is 'all' for a head that learns links; expected none",
        ),
        ("model.net.kind", "vit", r"model.net: Input tag 'vit' .* expected tags: 'hourglass', 'hr"),
        ("model.net", {"kind": "hrnet"}, r"model.net.hrnet.width: Field required"),
        ("model.net", {"kind": "resnet", "layers": 19}, r"layers: Input should be 18, 34, 50 or"),
        # of another net
        ("model.net", {"kind": "edge", "stacks": 2}, r"model.net.edge.stacks: Unexpected keyword"),
        # out of range
        (
            "model.heads",
            [{"kind": "gap", "objective": "kl", "replica": 0}],
            r"replica is 0; expected at least 1",
        ),
        ("model.input_size", 36, r"input_size is 36; expected a multiple of stride × 2\^depth = 8"),
        ("model.input_size", 0, r"input_size is 0; expected a multiple"),
        ("model.net.stacks", 0, r"stacks is 0; expected 1 to 8"),
        ("model.net.stacks", 9, r"stacks is 9; expected 1 to 8"),
        ("model.net.depth", 0, r"depth is 0; expected at least 1"),
        ("model.net.channels", 9, r"channels is 9; expected an even number from 8"),
        ("model.net.channels", 6, r"channels is 6; expected an even number from 8"),
        ("model.net", {"kind": "hrnet", "width": 6}, r"width is 6; expected a multiple of 4, at"),
        (
            "model.net",
            {"kind": "hrnet", "width": 8, "modules": [1, 0, 1]},
            r"modules are \(1, 0, 1\); expected at least 1 each",
        ),
        ("model.net", {"kind": "edge", "width": 0}, r"width is 0; expected a multiple of 4, at"),
        (
            "model.net",
            {"kind": "tompson", "width": 4, "reach": 3},
            r"reach is 3; expected an even number from 2",
        ),
        (
            "model.net",
            {"kind": "tompson", "width": 4, "reach": 8},
            r"reach is 8; expected less than the heatmaps' 8 cells",
        ),
        (
            "model.net",
            {"kind": "deeppose", "layers": 18, "sigma": 0},
            r"sigma is 0.0; expected above 0",
        ),
        ("model.padding", 0.9, r"padding is 0.9; expected at least 1"),
        ("model.dropout", 1, r"dropout is 1.0; expected from 0 to below 1"),
        ("model.dropout", -0.1, r"dropout is -0.1; expected from 0 to below 1"),
        ("model.heads", [], r"heads are \[\]; expected one or more, once"),
        ("fit.batch_size", 7, r"batch_size is 7; expected an even number, images are paired"),
        ("fit.batch_size", 0, r"batch_size is 0; expected an even number"),
        ("fit.epochs", 0, r"epochs is 0; expected at least 1"),
        ("fit.continued_epochs", 0, r"continued_epochs is 0; expected at least 1"),
        ("fit.learning_rate", 0, r"learning_rate is 0.0; expected above 0"),
        ("fit.head_learning_rate", -1, r"head_learning_rate is -1.0; expected above 0"),
        ("fit.sigma", 0, r"sigma is 0.0; expected above 0"),
        ("augment.flip", 1.5, r"flip is 1.5; expected a probability"),
        ("augment.scale", 1, r"scale is 1.0; expected from 0 to below 1"),
        ("augment.colour", -0.1, r"colour is -0.1; expected from 0 to below 1"),
        ("augment.rotation_deg", -5, r"rotation_deg is -5.0; expected at least 0"),
        ("fit.warmup", 1.0, r"warmup is 1.0; expected from 0 to below 1"),
    ],
)
def test_what_a_file_must_not_say(path: str, value: object, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(changed(path, value)), encoding="utf-8")
    with pytest.raises(InvalidInput, match=message) as error:
        read_recipe(file)
    assert str(error.value).startswith(f"{file}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"name": "x"'])
def test_what_is_no_recipe(text: bytes, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_bytes(text)
    with pytest.raises(InvalidInput, match=r"mine.json: .+") as error:
        recipe_named(str(file))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", NETS)
def test_an_input_that_does_not_divide(kind: str) -> None:
    """The error says by what it must."""
    with pytest.raises(
        InvalidInput, match=r"input_size is 70; expected a multiple of (.* = )?\d+$"
    ):
        replace(NETS[kind], input_size=70)


def test_a_head_stands_once() -> None:
    with pytest.raises(InvalidInput, match=r"heads are \['conv-kl', 'conv-kl'\]; expected one"):
        replace(TINY_MODEL, heads=(CONV_KL, CONV_KL))


def test_what_is_derived() -> None:
    assert (TINY_MODEL.heatmap_size, TINY_MODEL.crop.height, TINY_MODEL.crop.width) == (16, 32, 32)
    assert TINY_MODEL.crop.padding == TINY_MODEL.padding
    assert CONV_KL.name == "conv-kl"
    assert HeadConfig(kind="gap", objective="margin", pairs="all").name == "gap-margin-all"
    assert replace(CONV_KL, replica=2).name == "conv-kl-2"


def test_daily_changes() -> None:
    recipe = recipe_named("demo", epochs=3, seed=9)
    assert (recipe.fit.epochs, recipe.fit.continued_epochs, recipe.fit.seed) == (3, 3, 9)
    assert replace(recipe, fit=RECIPES["demo"].fit) == RECIPES["demo"]
    assert recipe_named("demo", seed=0).fit.seed == 0
    assert recipe_named("demo") == RECIPES["demo"]
    with pytest.raises(InvalidInput, match=r"epochs is 0; expected at least 1"):
        recipe_named("demo", epochs=0)


@pytest.mark.parametrize(
    ("name", "epochs", "expected"),
    [
        ("cpu", 1, (1, 1, 0)),  # the pose net first
        ("cpu", 2, (1, 1, 1)),
        ("cpu", 4, (3, 3, 1)),
        ("cpu", 70, (60, 60, 10)),
        ("cpu", 140, (120, 120, 20)),
        ("demo", 4, (4, 4, 0)),
    ],
)
def test_epochs_are_all_epochs(name: str, epochs: int, expected: tuple[int, int, int]) -> None:
    fit = recipe_named(name, epochs=epochs).fit
    assert (fit.epochs, fit.continued_epochs, fit.head_epochs) == expected


def test_epochs_of_a_recipe_for_the_heads_alone() -> None:
    """It leaves the pose net as it is, however many there are."""
    alone = replace(RECIPES["cpu"].fit, epochs=0, continued_epochs=0)
    assert with_changes(alone, 4) == replace(alone, head_epochs=4)
    half = replace(RECIPES["cpu"].fit, epochs=0)
    fit = with_changes(half, 8)
    assert (fit.epochs, fit.continued_epochs, fit.head_epochs) == (0, 6, 2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "tiny",
            r"recipe is 'tiny'; expected one of demo, cpu, paper, .*, tompson, or a .json file",
        ),
        ("nowhere.json", r"nowhere.json: No such file or directory; expected a recipe's JSON"),
    ],
)
def test_no_such_recipe(name: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        recipe_named(name)


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(AttributeError):
        FitConfig(epochs=1, continued_epochs=1).epochs = 2  # type: ignore[misc]
