"""Whether a training may flip its images: only where every side's other side is known."""

from dataclasses import replace

from misgiving.runtime.keypoints import KeypointSet
from misgiving.trainer.config import Recipe

_SHOWN = 10


def mirroring(recipe: Recipe, keypoints: KeypointSet) -> tuple[Recipe, str]:
    """The recipe, with flips off where sides are not known, and what to say of it.

    Half of the images would be learned with left and right exchanged otherwise.
    """
    if recipe.augment.flip == 0:
        return recipe, ""
    if problem := _problem(keypoints):
        off = replace(recipe, augment=replace(recipe.augment, flip=0.0))
        return off, f"{keypoints.name}: {problem}: flips are off. Name sides as left_knee, knee_r…"
    return recipe, f"{keypoints.name}: flips exchange {_some(keypoints.mirror_pairs)}"


def _problem(keypoints: KeypointSet) -> str:
    if lone := keypoints.one_sided:
        return f"{', '.join(lone[:_SHOWN])} without the other side"
    return "" if keypoints.mirror_pairs else "no left/right pairs known"


def _some(pairs: tuple[tuple[str, str], ...]) -> str:
    shown = ", ".join(f"{one}–{other}" for one, other in pairs[:_SHOWN])
    more = f" and {len(pairs) - _SHOWN} more" if len(pairs) > _SHOWN else ""
    return f"{shown}{more}"
