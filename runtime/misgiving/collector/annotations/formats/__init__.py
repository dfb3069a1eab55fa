"""The formats of annotation tools. Each is a file here and a line below."""

from pathlib import Path

from misgiving.collector.annotations.coco import ANNOTATIONS, Document
from misgiving.collector.annotations.exported import EXPECTED, Exported
from misgiving.collector.annotations.formats.base import AnnotationFormat, Returned, lost
from misgiving.collector.annotations.formats.cvat import CVAT
from misgiving.collector.annotations.formats.deeplabcut import DEEPLABCUT
from misgiving.collector.annotations.formats.label_studio import LABEL_STUDIO
from misgiving.collector.annotations.formats.yolo import YOLO
from misgiving.runtime.errors import DataError, InvalidInput


def _write_coco(folder: Path, document: Document, batch: str) -> None:
    (folder / ANNOTATIONS).write_bytes(document.to_json())


def _read_coco(path: Path, exported: Exported) -> Returned:
    return Returned(path=path)


COCO = AnnotationFormat(name="coco", pattern=ANNOTATIONS, write=_write_coco, read=_read_coco)
FORMATS = {kind.name: kind for kind in (COCO, CVAT, LABEL_STUDIO, YOLO, DEEPLABCUT)}
"""By name, as ``--format`` has them."""


def format_named(name: str) -> AnnotationFormat:
    """InvalidInput where there is none of that name."""
    if name not in FORMATS:
        raise InvalidInput(f"format is {name!r}; expected one of {', '.join(FORMATS)}")
    return FORMATS[name]


def read_returned(
    folder: Path, exported: Exported, name: str = ""
) -> tuple[AnnotationFormat, Returned]:
    """What came back in an export's folder.

    Args:
        folder: of the export.
        exported: who went out.
        name: of the format; that of the file that is there by default.

    Raises:
        DataError: no format's file is there, or several, or it cannot be understood.
    """
    kinds = [format_named(name)] if name else list(FORMATS.values())
    found = [(kind, path) for kind in kinds if (path := kind.file(folder))]
    if not found:
        files = ", ".join(kind.pattern for kind in kinds)
        raise DataError(f"{folder} has none of {files}; expected {EXPECTED}")
    if len(found) > 1:
        files = " and ".join(path.name for _, path in found)
        raise DataError(f"{folder} has {files}; expected one. Say which with --format")
    kind, path = found[0]
    return kind, kind.read(path, exported)


__all__ = [
    "COCO",
    "FORMATS",
    "AnnotationFormat",
    "Returned",
    "format_named",
    "lost",
    "read_returned",
]
