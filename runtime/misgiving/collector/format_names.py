"""The formats of annotation tools by name: for the options of verbs, which must load nothing."""

from enum import Enum


class Format(str, Enum):
    COCO = "coco"
    CVAT = "cvat"
    LABEL_STUDIO = "label-studio"
    YOLO = "yolo"
    DEEPLABCUT = "deeplabcut"


NAMES = ", ".join(kind.value for kind in Format)
