"""Scores of a pool on disk, so that all runs of a repeat share one pass of the base model."""

import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np

from misgiving.runtime.durable import write_durably
from misgiving.runtime.errors import DataError
from misgiving.runtime.keypoints import KeypointSet
from misgiving.trainer.answers.scoring import Scores

_ARRAYS = (
    "points",
    "confidence",
    "keypoint_loss",
    "signals",
    "embedding",
    "true_points",
    "labelled",
    "true_loss",
)
_DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


def write_scores(path: Path, scores: Scores) -> None:
    """Write a file that :func:`read_scores` reads; it appears whole."""
    buffer = BytesIO()
    losses = scores.predicted_losses
    np.savez_compressed(
        buffer,
        ids=np.array(scores.ids),
        heads=np.array(list(losses)),
        predicted_losses=np.stack(list(losses.values())),
        **{name: getattr(scores, name) for name in _ARRAYS},
    )
    write_durably(path, buffer.getvalue())


def read_scores(path: Path, keypoints: KeypointSet) -> Scores:
    """What was written.

    Raises:
        DataError: the file is damaged.
    """
    try:
        with path.open("rb") as file, np.load(file) as content:
            arrays = {name: content[name] for name in (*_ARRAYS, "predicted_losses")}
            ids, heads = content["ids"].tolist(), content["heads"].tolist()
    except _DAMAGE as error:
        raise DataError(f"{path} is damaged; remove it, it will be made anew") from error
    losses = dict(zip(heads, arrays.pop("predicted_losses"), strict=True))
    return Scores(ids=tuple(ids), keypoints=keypoints, predicted_losses=losses, **arrays)
