"""Data: sets of labelled persons, data specs, crops and augmentation."""

from misgiving.trainer.data.base import (
    Collected,
    PoseSet,
    Sample,
    check_alike,
    check_apart,
    check_labelled,
    join,
    subset,
)
from misgiving.trainer.data.mapping import keypoints_named
from misgiving.trainer.data.spec import open_data, shared_persons

__all__ = [
    "Collected",
    "PoseSet",
    "Sample",
    "check_alike",
    "check_apart",
    "check_labelled",
    "join",
    "keypoints_named",
    "open_data",
    "shared_persons",
    "subset",
]
