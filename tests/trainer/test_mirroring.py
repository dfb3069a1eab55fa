"""Flips are on only where every side's other side is known."""

import pytest

from misgiving.runtime.keypoints import LSP, KeypointSet
from misgiving.trainer import recipe_named
from misgiving.trainer.mirroring import mirroring


def named(*names: str) -> KeypointSet:
    return KeypointSet(name="mine", names=names, skeleton=(), torso=())


@pytest.mark.parametrize("names", [("kneeR", "kneeL", "neck"), ("RightKnee", "LeftKnee")])
def test_pairs_are_told(names: tuple[str, ...]) -> None:
    recipe = recipe_named("demo")
    known, said = mirroring(recipe, named(*names))
    assert known is recipe
    assert said == f"mine: flips exchange {names[0]}–{names[1]}"


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("genou gauche", "genou droit"), "no left/right pairs known"),
        (("RightKnee", "LeftKnee", "LeftHip"), "LeftHip without the other side"),
    ],
)
def test_flips_are_off_where_sides_are_not_known(names: tuple[str, ...], why: str) -> None:
    known, said = mirroring(recipe_named("demo"), named(*names))
    assert known.augment.flip == 0
    assert said.startswith(f"mine: {why}: flips are off.")


def test_nothing_is_said_of_a_recipe_without_flips() -> None:
    off, _ = mirroring(recipe_named("demo"), named("neck"))
    assert mirroring(off, LSP) == (off, "")
