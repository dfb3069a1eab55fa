"""Answers about persons from nets that never saw them: one training for each fold."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.durable import check_new, locked_folder, write_durably
from misgiving.runtime.errors import DataError
from misgiving.trainer import progress
from misgiving.trainer.answers.scoring import Scores, joined, score
from misgiving.trainer.checkpoint import load_checkpoint
from misgiving.trainer.config import Recipe, to_dict
from misgiving.trainer.cycle.scores import read_scores, write_scores
from misgiving.trainer.data.base import PoseSet, subset
from misgiving.trainer.restart import difference
from misgiving.trainer.training import Compute, train

RUN = "run.json"


def answers(
    recipe: Recipe,
    data: PoseSet,
    fold: NDArray[np.int64],
    out: Path,
    compute: Compute,
) -> Scores:
    """What nets say of the persons whom they did not learn from, in the order of the data.

    Args:
        recipe: of each net.
        data: persons, all of whom can be read.
        fold: of each person, (N,), counted from 0; a net is trained for each.
        out: where checkpoints and answers are; what an earlier run left there is not made again.
        compute: where.
    """
    folds = int(fold.max()) + 1
    header = run_header(recipe, data, folds)
    with locked_folder(out):
        check_out(out, header)
        write_durably(out / RUN, (json.dumps(header, indent=2) + "\n").encode())
        parts = [_fold(recipe, data, fold, number, out, compute) for number in range(folds)]
    return _ordered(parts, data)


def check_out(out: Path, header: dict[str, Any]) -> None:
    """Raise DataError unless a folder is new, or of the run that the header tells."""
    path = out / RUN
    if not path.exists():
        check_new(out)
        return
    try:
        found = difference(json.loads(path.read_bytes()), json.loads(json.dumps(header)))
    except ValueError as error:
        raise DataError(f"{path} is damaged; name another --out") from error
    if found:
        raise DataError(
            f"{path} is of a run with another {found}; give the same options to go on with it, or "
            "name another --out"
        )


def run_header(recipe: Recipe, data: PoseSet, folds: int) -> dict[str, Any]:
    """What decides a run's outcome."""
    return {"recipe": to_dict(recipe), "data": data.spec, "folds": folds}


def _fold(
    recipe: Recipe,
    data: PoseSet,
    fold: NDArray[np.int64],
    number: int,
    out: Path,
    compute: Compute,
) -> Scores:
    path, what = out / f"answers-{number + 1}.npz", f"fold {number + 1} of {fold.max() + 1}"
    asked = subset(data, np.flatnonzero(fold == number), f"{data.spec}, {what}")
    if path.exists():
        return _earlier(path, asked)
    checkpoint = out / f"net-{number + 1}"
    if checkpoint.exists():  # killed between the two writings
        network, _, _ = load_checkpoint(checkpoint)
        scores = score(network, recipe, asked, compute.prepare(), _counted(asked, what))
    else:
        others = subset(data, np.flatnonzero(fold != number), f"{data.spec} without {what}")
        scores = train(recipe, others, asked, checkpoint, compute, what=what).validation
    write_scores(path, scores)
    return scores


def _earlier(path: Path, asked: PoseSet) -> Scores:
    scores = read_scores(path, asked.keypoints)
    if scores.ids != asked.ids:
        raise DataError(
            f"{path} is of other persons than can be read now; name another --out to begin anew"
        )
    return scores


def _counted(data: PoseSet, what: str) -> Iterator[int]:
    return progress.counted(len(data), what)


def _ordered(parts: Sequence[Scores], data: PoseSet) -> Scores:
    whole = joined(parts, len(data))
    place = {name: row for row, name in enumerate(whole.ids)}
    order = [place[name] for name in data.ids]
    columns: dict[str, Any] = {}
    for field in fields(whole):
        value = getattr(whole, field.name)
        if isinstance(value, np.ndarray):
            columns[field.name] = value[order]
    heads = {name: loss[order] for name, loss in whole.predicted_losses.items()}
    return replace(whole, ids=data.ids, predicted_losses=heads, **columns)
