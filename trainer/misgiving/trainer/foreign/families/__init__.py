"""Output families: one small file each, and one line here."""

from misgiving.trainer.foreign.families.base import FamilyType
from misgiving.trainer.foreign.families.heatmaps import Heatmaps
from misgiving.trainer.foreign.families.offsets import Offsets
from misgiving.trainer.foreign.families.regression import Regression
from misgiving.trainer.foreign.families.simcc import SimCC
from misgiving.trainer.foreign.families.yolo import SuppressedYolo, Yolo

FAMILIES: dict[str, FamilyType] = {
    "simcc": SimCC,
    "yolo_nms": SuppressedYolo,
    "yolo": Yolo,
    "regression": Regression,
    "offsets": Offsets,
    "heatmaps": Heatmaps,
}
"""By the name that NET.toml gives; the first whose ``guess`` fits is what a graph looks like."""
