"""Data: sets of labelled persons, data specs, crops and augmentation."""

from misgiving.trainer.data.base import PoseSet, Sample, join, subset
from misgiving.trainer.data.spec import open_data

__all__ = ["PoseSet", "Sample", "join", "open_data", "subset"]
