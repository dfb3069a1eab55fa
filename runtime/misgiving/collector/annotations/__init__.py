"""Frames out to annotators, labels back in."""

from misgiving.collector.annotations.coco_export import (
    ExportCounts,
    export_annotations,
    export_frames,
)
from misgiving.collector.annotations.coco_import import (
    Corrected,
    import_coco,
    read_corrected,
    write_labels,
)
from misgiving.collector.annotations.records import record_labels

__all__ = [
    "Corrected",
    "ExportCounts",
    "export_annotations",
    "export_frames",
    "import_coco",
    "read_corrected",
    "record_labels",
    "write_labels",
]
