"""The fleet's part: takes flagged frames in, hands them to annotators, takes labels back."""

from typing import TYPE_CHECKING

from misgiving.runtime.public import lazily

if TYPE_CHECKING:
    from misgiving.collector.annotations.coco_export import ExportCounts as ExportCounts
    from misgiving.collector.annotations.coco_export import export_annotations as export_annotations
    from misgiving.collector.annotations.coco_export import export_frames as export_frames
    from misgiving.collector.annotations.coco_import import Corrected as Corrected
    from misgiving.collector.annotations.coco_import import read_corrected as read_corrected
    from misgiving.collector.annotations.coco_import import write_labels as write_labels
    from misgiving.collector.annotations.records import record_labels as record_labels
    from misgiving.collector.declining import Declining as Declining
    from misgiving.collector.frames.devices import Devices as Devices
    from misgiving.collector.frames.diverse import pick_diverse as pick_diverse
    from misgiving.collector.frames.selection import FrameSelection as FrameSelection
    from misgiving.collector.frames.upkeep import Retention as Retention
    from misgiving.collector.frames.words import Order as Order
    from misgiving.collector.service import serve as serve
    from misgiving.collector.store import Store as Store
    from misgiving.collector.store import StoredFrame as StoredFrame
else:
    __getattr__, __dir__, __all__ = lazily(
        __name__,
        {
            "ExportCounts": "annotations.coco_export",
            "export_annotations": "annotations.coco_export",
            "export_frames": "annotations.coco_export",
            "Corrected": "annotations.coco_import",
            "read_corrected": "annotations.coco_import",
            "write_labels": "annotations.coco_import",
            "Declining": "declining",
            "record_labels": "annotations.records",
            "Devices": "frames.devices",
            "pick_diverse": "frames.diverse",
            "FrameSelection": "frames.selection",
            "Retention": "frames.upkeep",
            "Order": "frames.words",
            "serve": "service",
            "Store": "store",
            "StoredFrame": "store",
        },
    )
