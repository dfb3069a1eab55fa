"""Data: sets of labelled persons, data specs, crops and augmentation."""

from misgiving.trainer.data.base import PoseSet, Sample, check_apart, join, subset
from misgiving.trainer.data.spec import open_data

__all__ = ["PoseSet", "Sample", "check_apart", "join", "open_data", "subset"]
