"""Persons whose label may be wrong: what ``misgiving suspects`` does."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from misgiving.runtime.keypoints import KeypointSet
from misgiving.trainer.config import HeadConfig, Recipe, check_own
from misgiving.trainer.data.base import PoseSet, check_labelled, join
from misgiving.trainer.recipes import with_changes
from misgiving.trainer.suspects.answering import answers, check_out, run_header
from misgiving.trainer.suspects.folds import check_folds, fold_of, read_images
from misgiving.trainer.suspects.judging import Judgement, Suspects, check_torso
from misgiving.trainer.suspects.lists import CSV, write_csv, write_lists
from misgiving.trainer.suspects.pictures import write_page
from misgiving.trainer.training import Compute

_HEADS = (HeadConfig(kind="evidence", objective="miss"),)
"""Tells each joint's chance of a miss, and costs little."""


def find_suspects(
    recipe: Recipe,
    parts: Sequence[PoseSet],
    out: Path | str,
    compute: Compute,
    *,
    folds: int = 3,
    pictures: int = 60,
) -> Suspects:
    """Find persons whose label nets contradict that did not learn from it.

    As many nets as folds are trained, each on all folds but one, and asked about that one. Persons
    of one image, or of copies of it, share a fold. A run that was killed goes on where it was.

    >>> found = find_suspects(
    ...     recipe_named("demo", epochs=1),
    ...     [open_data("synthetic:1,32,0-0.4")],
    ...     Path("runs/suspects"),
    ...     Compute(device="cpu", threads=1),
    ...     folds=2,
    ... )
    >>> len(found.persons), found.specs
    (32, ('synthetic:1,32,0-0.4#@runs/suspects/keep.txt',))

    Args:
        recipe: of each net; its heads give way to one that is cheap.
        parts: labelled persons with the same keypoints.
        out: new folder, or this run's: takes nets, answers, ``suspects.csv``, ``report.html``, and
            for each part the ids of the others (``keep.txt``) and, where sides are exchanged, the
            labels with sides exchanged back (``mended.json``). The data stays as it is.
        compute: where.
        folds: nets to train, 2 or more.
        pictures: persons on the page.

    Raises:
        InvalidInput: fewer than two folds or more than images, a foreign net, or no torso.
        DataError: somebody has no label, ``out`` is something else, or too many cannot be read.
    """
    out = Path(out)
    data = join(parts)
    check_own(recipe)
    check_torso(data.keypoints)
    check_labelled(data)
    check_folds(folds, len(data))
    recipe = _cheap(recipe)
    check_out(out, run_header(recipe, data, folds))
    data, images = read_images(data, recipe.model.crop)
    fold = fold_of(images, folds, recipe.fit.seed)
    judged = Judgement(answers(recipe, data, fold, out, compute))
    persons = tuple(judged.of(index) for index in judged.order)
    write_csv(out / CSV, persons)
    specs = tuple(write_lists(out, parts, judged))
    found = Suspects(persons, specs, _sides(data.keypoints), judged.pck)
    write_page(out, recipe, data, judged.answers, found, pictures)
    return found


def _cheap(recipe: Recipe) -> Recipe:
    """The recipe with one head, which learns with the pose net."""
    model, fit = replace(recipe.model, heads=_HEADS), recipe.fit
    whole = fit.epochs + fit.head_epochs
    return replace(recipe, model=model, fit=with_changes(replace(fit, head_epochs=0), whole))


def _sides(keypoints: KeypointSet) -> str:
    if keypoints.mirror_pairs:
        return ""
    return f"{keypoints.name} has no left and right: exchanged sides are not looked for"
